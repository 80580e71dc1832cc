# SPDX-License-Identifier: Apache-2.0
"""`Monitor(keep="totals")`: energies of a server that runs for months, in constant memory."""

from __future__ import annotations

import json
import pickle
import threading
import time

import psutil
import pytest

import fastgreen as fg
from tests.fakes.nvml import Gpu
from tests.fakes.powercap import Zone

pytestmark = pytest.mark.filterwarnings("ignore::fastgreen.errors.FastgreenWarning")


@pytest.fixture
def zones(powercap):
    powercap(Zone("package-0", 80.0), Zone("package-1", 40.0), move=True)


@pytest.fixture
def measured(zones):
    with fg.Monitor("rapl:*", hz=500, keep="totals") as monitor:
        window, ledger, final = monitor.window("step"), monitor.ledger("chat"), []
        ledger.on_final(final.append)
        with monitor.window("all"):
            for i in range(40):
                with window, ledger.span(i) as a, ledger.span(-i, weight=3) as b:
                    time.sleep(0.01)
                    window.add(tokens=2)
                    a.add(tokens=5)
                    b.add(images=1)
            live = window.energy()
    assert live.low_j <= live.energy_j <= live.high_j
    return monitor.result, final


def test_the_totals_are_there(measured):
    result, final = measured
    assert result.energy_low_j <= result.energy_j <= result.energy_high_j
    assert [r["id"] for r in result.channels.to_pylist()] == ["rapl:package-0", "rapl:package-1"]
    for row in result.channels.to_pylist():
        assert 0 < row["energy_low_j"] <= row["energy_j"] <= row["energy_high_j"]
        assert row["samples"] > 100
    step, whole = (next(r for r in result.summary().to_pylist() if r["name"] == n) for n in ("step", "all"))
    assert (step["count"], step["total_tokens"], whole["count"]) == (40, 80, 1)
    for row in (step, whole):
        assert row["energy_low_j"] <= row["energy_j"] <= row["energy_high_j"]
        assert row["energy_low_j"] <= result.energy_high_j
        assert row["mean_power_w"] == pytest.approx(row["energy_j"] / row["total_duration_s"])
        assert row["duration_p50_s"] == pytest.approx(row["total_duration_s"] / row["count"], rel=0.3)
    assert whole["energy_high_j"] >= step["energy_low_j"]
    assert whole["mean_power_w"] == pytest.approx(120, rel=0.4)
    assert step["energy_per_tokens_j"] == pytest.approx(step["energy_j"] / 80)
    spans, tokens, images = (
        next(r for r in result.ledgers.to_pylist() if r["amount"] == amount) for amount in (None, "tokens", "images")
    )
    assert (spans["count"], tokens["total"], images["total"]) == (80, 200, 40)
    assert spans["energy_low_j"] <= spans["energy_j"] <= spans["energy_high_j"] <= result.energy_high_j + 1e-9
    assert spans["energy_j"] == pytest.approx(step["energy_j"], rel=0.3, abs=2)
    assert len(final) == 80
    assert sum(f.energy.energy_j for f in final) == pytest.approx(spans["energy_j"])
    assert spans["energy_j"] + spans["unattributed_j"] == pytest.approx(result.energy_j, rel=1e-9)


def test_reports_show_the_totals(measured):
    result, _ = measured
    text = str(result)
    assert "step" in text
    assert "chat, per tokens" in text
    assert "Ledgers" in result._repr_html_()
    assert json.loads(json.dumps(result.to_dict()))["windows"][0]["name"] in ("step", "all")
    assert result.footprint(carbon=300).rows[0].count == 1
    again = pickle.loads(pickle.dumps(result))
    assert str(again) == text


@pytest.mark.parametrize(
    "ask",
    [
        lambda r: r.samples(),
        lambda r: r.windows(),
        lambda r: r.windows("step", per_channel=True),
        lambda r: r.power(),
        lambda r: r.spans("chat"),
        lambda r: r.share({"begin_ns": [0], "end_ns": [1]}),
        lambda r: r.energy_between([0], [1]),
        lambda r: r.save("nowhere"),
        lambda r: list(r.traces[0].chunks()),
    ],
)
def test_what_was_not_kept_is_one_sentence(zones, ask):
    with fg.Monitor("rapl:*", hz=100, keep="totals") as monitor, monitor.window("step"):
        time.sleep(0.02)
    with pytest.raises(fg.errors.FastgreenError, match=r'^[^.]* need keep="samples" or record=; this monitor kept tot'):
        ask(monitor.result)


def test_windows_that_overlap_say_so(zones):
    with fg.Monitor("rapl:*", hz=500, keep="totals") as monitor:

        def work():
            for _ in range(5):
                with monitor.window("request"):
                    time.sleep(0.06)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    (row,) = monitor.result.summary().to_pylist()
    assert row["count"] == 15
    assert row["energy_j"] > 2 * row["union_energy_j"]
    assert row["union_energy_low_j"] <= row["union_energy_j"] <= row["union_energy_high_j"]
    assert row["union_energy_j"] <= monitor.result.energy_high_j
    assert any("windows 'request' overlap" in note for note in monitor.result.notes)


def test_bad_values_are_refused(zones, tmp_path):
    for wrong in ("all", None, 1, ["totals"]):
        with pytest.raises(ValueError, match='keep must be "samples" or "totals", not '):
            fg.Monitor(keep=wrong)
    with pytest.raises(ValueError, match='keep must be "samples" where record is given, not "totals"'):
        fg.Monitor(keep="totals", record=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with fg.Monitor("rapl:*", keep="totals") as monitor, pytest.raises(RuntimeError, match='keep="samples"'):
        monitor.gpu_window("w", "torch")


def test_a_run_without_windows_and_one_without_sensors(powercap):
    with fg.Monitor(keep="totals") as monitor:
        monitor.window("never entered")
        time.sleep(0.05)
    result = monitor.result
    assert result.names == []
    assert result.summary().num_rows == 0
    assert result.ledgers.num_rows == 0
    assert str(result)


def test_memory_is_flat(zones):
    """Of 40,000 spans and as many windows, the second half adds nothing to resident memory."""
    process, sizes = psutil.Process(), []
    with fg.Monitor("rapl:*", hz=500, keep="totals") as monitor:
        window, ledger = monitor.window("step"), monitor.ledger("chat")
        for _ in range(8):
            for _ in range(10):
                for _ in range(500):
                    with window, ledger.span("a") as span:
                        span.add(tokens=1)
                        window.add(tokens=1)
                time.sleep(0.002)
            assert span.energy(timeout=60) is not None
            sizes.append(process.memory_info().rss)
    print([round(size / 2**20, 1) for size in sizes])
    assert max(sizes[4:]) - max(sizes[:4]) < 4 << 20
    assert monitor.result.summary()["count"].to_pylist() == [40_000]
    assert monitor.result.ledgers["total"].to_pylist() == [40_000, 40_000]
    assert monitor.result.summary()["total_tokens"].to_pylist() == [40_000]


def test_windows_that_threads_use_while_the_rings_are_emptied_are_all_counted(zones):
    with fg.Monitor("rapl:*", hz=500, keep="totals") as monitor:

        def work():
            window = monitor.window("work")
            for i in range(3000):
                with window:
                    window.add(tokens=1, **({"images": 1} if i % 2 else {}))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            monitor._run.poke()
        for thread in threads:
            thread.join()
    (row,) = monitor.result.summary().to_pylist()
    assert (row["count"], row["total_tokens"], row["total_images"]) == (12_000, 12_000, 6000)


def test_a_power_channel_and_an_estimate_have_totals(nvml):
    nvml(Gpu(power=100.0))
    with fg.Monitor(hz=200, keep="totals") as monitor, monitor.window("w"):
        time.sleep(0.4)
    result = monitor.result
    for row in result.channels.to_pylist():
        assert row["energy_low_j"] <= row["energy_j"] <= row["energy_high_j"]
    (row,) = result.summary().to_pylist()
    assert row["energy_low_j"] <= row["energy_j"] <= row["energy_high_j"]
    assert row["energy_j"] == pytest.approx(result.energy_j, rel=0.3)


def test_a_replay_has_the_totals_of_what_it_plays(zones, tmp_path):
    with fg.Monitor("rapl:*", hz=200) as monitor:
        time.sleep(0.4)
    monitor.result.save(tmp_path / "run")
    with fg.Monitor(f"replay:{tmp_path / 'run'}", keep="totals") as replay, replay.window("all"):
        replay.wait()
    assert replay.result.energy_j == pytest.approx(monitor.result.energy_j, rel=1e-6)
    assert replay.result.energy_low_j <= monitor.result.energy_j <= replay.result.energy_high_j
    assert len(pickle.dumps(replay.result)) < 50_000
