# SPDX-License-Identifier: Apache-2.0
"""The page for Prometheus: names, labels, counters that never step back, addresses that are refused."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time

import pytest

import fastgreen as fg
from fastgreen.errors import FastgreenWarning
from fastgreen.export.span_histograms import SpanHistograms
from tests.export.scrapes import by_id, page, samples
from tests.fakes.nvml import Gpu, gpu_is_lost
from tests.fakes.powercap import Zone

ANY = "127.0.0.1:0"
PROMTOOL = shutil.which("promtool")


def test_counters_and_powers_are_those_of_the_machine(powercap, soon):
    tree = powercap(Zone("package-0", 60.0, children=(Zone("dram", 6.0), Zone("core", 20.0))), move=True)
    channels = ["rapl:package-0", "rapl:package-0/dram", "rapl:package-0/core"]
    with fg.Monitor(channels) as monitor, fg.export.prometheus(monitor, ANY) as endpoint:
        begin_ns, first = time.monotonic_ns(), by_id(endpoint.address, "hw_energy_joules_total")
        soon(lambda: len(by_id(endpoint.address, "hw_power_watts")) == 3)
        time.sleep(0.5)
        end_ns, seen = time.monotonic_ns(), samples(endpoint.address)
        last = {labels["hw_id"]: value for labels, value in seen["hw_energy_joules_total"]}
        for name in channels:
            truth_j = tree.energy_j(name.removeprefix("rapl:"), begin_ns, end_ns)
            assert last[name] - first[name] == pytest.approx(truth_j, abs=0.05 * truth_j + 2)
        labels = {one["hw_id"]: one for one, _ in seen["hw_energy_joules_total"]}
        assert labels["rapl:package-0/dram"] == {
            "hw_id": "rapl:package-0/dram",
            "hw_name": "dram",
            "hw_parent": "rapl:package-0",
            "hw_type": "memory",
            "fastgreen_counted": "true",
        }
        assert labels["rapl:package-0/core"]["fastgreen_counted"] == "false"
        ((_, host_j),) = seen["hw_host_energy_joules_total"]
        assert host_j == pytest.approx(last["rapl:package-0"] + last["rapl:package-0/dram"])
        low, high = (by_id(endpoint.address, f"fastgreen_energy_{side}_joules_total") for side in ("low", "high"))
        assert all(low[name] < high[name] for name in channels)
        assert seen["fastgreen_reads_total"][0][1] > 10
        assert ({"hw_id": "rapl:package-0", "source": "rapl", "bounds": "certain"}, 1.0) in seen[
            "fastgreen_channel_info"
        ]


def test_bounds_hold_the_energy_of_a_counter_that_updates_seldom(powercap):
    tree = powercap(Zone("package-0", 90.0), move=True, period_s=0.001)
    with fg.Monitor("rapl:*") as monitor, fg.export.prometheus(monitor, ANY) as endpoint:
        start_ns = time.monotonic_ns()
        time.sleep(0.3)
        before_ns = time.monotonic_ns()
        seen = samples(endpoint.address)
        after_ns = time.monotonic_ns()
        low, high = (seen[f"fastgreen_energy_{side}_joules_total"][0][1] for side in ("low", "high"))
        # The first reading came before start_ns, and the last one up to a tick before the scrape.
        assert low <= tree.energy_j("package-0", start_ns - 50_000_000, after_ns)
        assert high >= tree.energy_j("package-0", start_ns, before_ns - 50_000_000)


@pytest.mark.skipif(PROMTOOL is None, reason="needs promtool, of the package prometheus")
def test_promtool_finds_no_fault_also_with_hostile_names(powercap, monkeypatch):
    powercap(Zone('pack"age\\\n{x="1"} 5\ufffd', 10.0), move=True)
    monkeypatch.setattr(socket, "gethostname", lambda: 'a"b\nc\\')
    spans = SpanHistograms()
    with fg.Monitor() as monitor, fg.export.prometheus(monitor, ANY) as endpoint:
        endpoint._spans.add('chat "1"\n', 3.0, {"tokens": 4})
        text = page(endpoint.address)
        checked = subprocess.run([PROMTOOL, "check", "metrics"], input=text, text=True, capture_output=True)
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
        seen = samples(endpoint.address)
    assert spans.now() == {}
    (labels,) = {tuple(sorted(found.items())) for found, _ in seen["hw_host_energy_joules_total"]}
    assert dict(labels)["hw_name"] == 'a"b\nc\\'
    assert ({"ledger": 'chat "1"\n'}, 1.0) in seen["fastgreen_span_energy_joules_count"]


def test_histograms_of_spans_and_tokens(powercap):
    powercap(Zone(watts=10.0), move=True)
    with fg.Monitor() as monitor, fg.export.prometheus(monitor, ANY) as endpoint:
        for energy_j, tokens in ((0.5, 10), (3.0, 2), (float("nan"), 1), (2e6, 0)):
            endpoint._spans.add("chat", energy_j, {"tokens": tokens})
        seen = samples(endpoint.address)
    buckets = {labels["le"]: value for labels, value in seen["fastgreen_span_energy_joules_bucket"]}
    assert (buckets["0.2"], buckets["0.5"], buckets["2.0"], buckets["5.0"]) == (0, 1, 1, 2)
    assert (buckets["1e+06"], buckets["+Inf"]) == (2, 3)
    assert seen["fastgreen_span_energy_joules_sum"][0][1] == pytest.approx(2_000_003.5)
    assert seen["fastgreen_token_energy_joules_count"][0][1] == 2
    assert seen["fastgreen_token_energy_joules_sum"][0][1] == pytest.approx(0.05 + 1.5)
    assert seen["fastgreen_tokens_total"][0][1] == 12


def test_a_gpu_that_vanishes_ends_its_series_and_its_energy_stays_in_the_host(nvml, soon):
    fake = nvml(Gpu(power=100.0), Gpu(power=50.0))
    with fg.Monitor(["nvml:0", "nvml:1"]) as monitor, fg.export.prometheus(monitor, ANY) as endpoint:
        soon(lambda: by_id(endpoint.address, "hw_energy_joules_total").get("nvml:1", 0) > 5)
        before = samples(endpoint.address)["hw_host_energy_joules_total"][0][1]
        fake.write(rules=[gpu_is_lost(1)])
        soon(lambda: by_id(endpoint.address, "fastgreen_channel_up") == {"nvml:0": 1.0, "nvml:1": 0.0})
        for name in ("hw_energy_joules_total", "hw_power_watts", "fastgreen_reads_total"):
            assert "nvml:1" not in by_id(endpoint.address, name), name
        assert samples(endpoint.address)["hw_host_energy_joules_total"][0][1] >= before


def test_another_monitor_goes_on_from_the_last_values(powercap):
    powercap(Zone(watts=60.0), move=True)
    first = fg.Monitor("rapl:*").start()
    with fg.export.prometheus(first, ANY) as endpoint:
        seen = []
        for _ in range(3):
            time.sleep(0.1)
            seen.append(samples(endpoint.address))
        with fg.Monitor("rapl:*") as second:
            time.sleep(0.2)  # both measure; this time must not count twice
            early_j = second.energy_j()["rapl:package-0"]
            seen.append(samples(endpoint.address))
            endpoint.follow(second)
            late_j = second.energy_j()["rapl:package-0"]
            first.stop()
            time.sleep(0.3)
            between_j = second.energy_j()["rapl:package-0"]
            seen.append(samples(endpoint.address))
            end_j = second.energy_j()["rapl:package-0"]
    for name in ("hw_energy_joules_total", "hw_host_energy_joules_total", "fastgreen_reads_total"):
        values = [one[name][0][1] for one in seen]
        assert values == sorted(values)
    for name in ("hw_energy_joules_total", "hw_host_energy_joules_total"):
        grown_j = seen[-1][name][0][1] - seen[-2][name][0][1]
        assert between_j - late_j - 2.5 <= grown_j <= end_j - early_j + 2.5, name


def test_a_monitor_that_stopped_or_is_gone_shows_no_channel(powercap):
    powercap(Zone(watts=10.0), move=True)
    monitor = fg.Monitor("rapl:*")
    with fg.export.prometheus(monitor, ANY) as endpoint:
        assert "hw_energy_joules_total" not in samples(endpoint.address)
        with monitor:
            assert "hw_energy_joules_total" in samples(endpoint.address)
        assert "hw_energy_joules_total" not in samples(endpoint.address)
        del monitor
        assert "hw_energy_joules_total" not in samples(endpoint.address)


def test_a_program_can_add_the_metrics_to_its_own_registry(powercap):
    import prometheus_client

    powercap(Zone(watts=10.0), move=True)
    registry = prometheus_client.CollectorRegistry()
    with fg.Monitor("rapl:*") as monitor:
        with fg.export.prometheus(monitor, None, registry=registry) as endpoint:
            assert endpoint.address is None
            assert b"hw_energy_joules_total{" in prometheus_client.generate_latest(registry)
        assert b"hw_energy" not in prometheus_client.generate_latest(registry)


@pytest.mark.parametrize("listen", ["", "9477", "localhost", "127.0.0.1:", "127.0.0.1:65536", "::1:80", "a b:1", 5])
def test_a_bad_address_is_refused(listen):
    with pytest.raises(ValueError, match="listen must be HOST:PORT"):
        fg.export.prometheus(fg.Monitor(), listen)


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "host.example:0"])
def test_an_address_of_the_network_is_refused_unasked(listen):
    with pytest.raises(ValueError, match=r"listen must be an address of this machine alone.*--allow-remote"):
        fg.export.prometheus(fg.Monitor(), listen)


def test_an_address_of_the_network_is_announced():
    with pytest.warns(FastgreenWarning, match="other machines can read the energy of this one at 0.0.0.0:"):
        fg.export.prometheus(fg.Monitor(), "0.0.0.0:0", allow_remote=True).close()


def test_a_taken_address_is_an_error_that_names_it():
    with fg.export.prometheus(fg.Monitor(), ANY) as endpoint:
        with pytest.raises(OSError, match="another program listens at this address") as caught:
            fg.export.prometheus(fg.Monitor(), endpoint.address)
        assert caught.value.filename == endpoint.address
    again = fg.export.prometheus(fg.Monitor(), endpoint.address)  # it was given back
    again.close()
    again.close()


def test_without_the_package_one_sentence_names_the_extra(python):
    done = python(
        """
        import sys
        sys.modules["prometheus_client"] = sys.modules["opentelemetry"] = None
        import fastgreen as fg
        for make in (fg.export.prometheus, fg.export.otlp):
            try:
                make(fg.Monitor())
            except ImportError as error:
                print(error)
        """
    )
    assert done.stdout.count("pip install 'fastgreen[export]'") == 2, done.stderr


def test_money_and_carbon_follow_the_energy_of_the_host(powercap):
    from fastgreen.costs.settings import costs_from

    powercap(Zone("package-0", 60.0), move=True)
    costs = costs_from({"price": "0.5 EUR", "carbon": 360, "pue": 2})
    with fg.Monitor("rapl:*") as monitor, fg.export.prometheus(monitor, ANY, costs=costs) as endpoint:
        time.sleep(0.2)
        seen = samples(endpoint.address)
        ((_, energy_j),) = seen["hw_host_energy_joules_total"]
        ((_, carbon_g),) = seen["fastgreen_host_carbon_grams_total"]
        ((labels, cost),) = seen["fastgreen_host_cost"]
        assert energy_j > 0
        assert carbon_g == pytest.approx(energy_j / 3.6e6 * 2 * 360)
        assert cost == pytest.approx(energy_j / 3.6e6 * 2 * 0.5)
        assert labels["currency"] == "EUR"


def test_spans_of_ledgers_come_by_themselves(powercap, soon):
    powercap(Zone(watts=20.0), move=True)
    with fg.Monitor("rapl:*", hz=200) as monitor, fg.export.prometheus(monitor, ANY) as endpoint:
        ledger = monitor.ledger("chat")
        time.sleep(1.5)  # the exporter looks for ledgers once a second
        for n in range(3):
            with ledger.span(n) as span:
                time.sleep(0.05)
                span.add(tokens=5)
        soon(lambda: samples(endpoint.address).get("fastgreen_tokens_total") == [({"ledger": "chat"}, 15.0)])
        seen = samples(endpoint.address)
    assert seen["fastgreen_span_energy_joules_count"] == [({"ledger": "chat"}, 3.0)]
    assert seen["fastgreen_span_energy_joules_sum"][0][1] == pytest.approx(3.0, rel=0.5)
