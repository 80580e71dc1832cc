# SPDX-License-Identifier: Apache-2.0
"""OTLP: what a collector receives, decoded by opentelemetry-proto's own messages."""

from __future__ import annotations

import contextlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

import fastgreen as fg
from tests.fakes.nvml import Gpu, gpu_is_lost
from tests.fakes.powercap import Zone


class Collector:
    """An HTTP server that keeps the messages it receives, with their paths and headers."""

    def __init__(self) -> None:
        self.messages: list[ExportMetricsServiceRequest] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.status = 200
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
                collector.messages.append(ExportMetricsServiceRequest.FromString(body))
                self.send_response(collector.status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=[0.02], daemon=True).start()

    def metrics(self) -> dict[str, object]:
        """The metrics of the last message by name."""
        (resource,) = self.messages[-1].resource_metrics
        return {metric.name: metric for scope in resource.scope_metrics for metric in scope.metrics}


@pytest.fixture
def collector():
    made = Collector()
    yield made
    made.server.shutdown()
    made.server.server_close()


def attributes(point) -> dict[str, str]:
    return {pair.key: pair.value.string_value for pair in point.attributes}


def value(point) -> float:
    return point.as_double if point.WhichOneof("value") == "as_double" else float(point.as_int)


def points(metric) -> dict[str, float]:
    data = getattr(metric, metric.WhichOneof("data"))
    return {attributes(point)["hw.id"]: value(point) for point in data.data_points}


def test_names_units_and_attributes_are_those_of_opentelemetry(powercap, collector):
    tree = powercap(Zone("package-0", 60.0, children=(Zone("dram", 6.0),)), move=True)
    with fg.Monitor("rapl:*") as monitor, fg.export.otlp(monitor, collector.url, every_s=60) as sender:
        begin_ns = time.monotonic_ns()
        assert sender.send()
        first = points(collector.metrics()["hw.energy"])
        time.sleep(2.2)
        end_ns = time.monotonic_ns()
        assert sender.send()
    (resource,) = collector.messages[1].resource_metrics
    assert {pair.key for pair in resource.resource.attributes} >= {"service.name", "host.name"}
    assert collector.requests[0][0] == "/v1/metrics"
    seen = {m.name: m for scope in resource.scope_metrics for m in scope.metrics}
    energy, power = seen["hw.energy"], seen["hw.power"]
    assert (energy.unit, power.unit) == ("J", "W")
    assert energy.sum.is_monotonic
    assert energy.sum.aggregation_temporality == 2  # cumulative
    assert attributes(energy.sum.data_points[1]) == {
        "hw.id": "rapl:package-0/dram",
        "hw.type": "memory",
        "hw.name": "dram",
        "hw.parent": "rapl:package-0",
        "fastgreen.counted": "true",
    }
    truth_j = tree.energy_j("package-0", begin_ns, end_ns)
    assert points(energy)["rapl:package-0"] - first["rapl:package-0"] == pytest.approx(truth_j, rel=0.05)
    assert points(power)["rapl:package-0"] == pytest.approx(60.0, rel=0.2)
    assert (seen["hw.host.energy"].unit, seen["hw.host.power"].unit) == ("J", "W")
    (host_j,) = points(seen["hw.host.energy"]).values()
    assert host_j == pytest.approx(sum(points(energy).values()), rel=0.01)
    assert {"fastgreen.missed_reads", "fastgreen.lost_samples", "fastgreen.failed_reads"} <= set(seen)
    assert points(seen["fastgreen.energy.low"])["rapl:package-0"] < points(energy)["rapl:package-0"]


def test_money_and_carbon_follow_the_energy_of_the_host(powercap, collector):
    from fastgreen.costs.settings import costs_from

    powercap(Zone("package-0", 60.0), move=True)
    costs = costs_from({"price": "0.5 EUR", "carbon": 360})
    with fg.Monitor("rapl:*") as monitor, fg.export.otlp(monitor, collector.url, every_s=60, costs=costs) as sender:
        time.sleep(0.3)
        assert sender.send()
        seen = collector.metrics()
    (energy_j,), (carbon_g,) = (
        points(seen[f"{name}"]).values() for name in ("hw.host.energy", "fastgreen.host.carbon")
    )
    assert carbon_g == pytest.approx(energy_j / 3.6e6 * 360, rel=0.2)  # each is read at its own moment
    (cost,) = points(seen["fastgreen.host.cost"]).values()
    assert cost == pytest.approx(carbon_g / 360 * 0.5, rel=0.2)
    assert seen["fastgreen.host.carbon"].unit == "g"


def test_spans_become_histograms(powercap, collector):
    powercap(Zone(watts=10.0), move=True)
    with fg.Monitor("rapl:*") as monitor, fg.export.otlp(monitor, collector.url) as sender:
        sender.add_span("chat", 0.5, {"tokens": 10})
        sender.add_span("chat", 3.0, {})
        sender.add_span("chat", float("nan"), {})
        assert sender.send()
    (point,) = collector.metrics()["fastgreen.span.energy"].histogram.data_points
    assert (point.count, point.sum, attributes(point)) == (2, 3.5, {"fastgreen.ledger": "chat"})
    assert len(point.explicit_bounds) == 28
    (point,) = collector.metrics()["fastgreen.token.energy"].histogram.data_points
    assert (point.count, point.sum) == (1, 0.05)


def test_spans_of_ledgers_are_sent_by_themselves(powercap, collector, soon):
    powercap(Zone(watts=20.0), move=True)
    with fg.Monitor("rapl:*", hz=200) as monitor:
        ledger = monitor.ledger("chat")
        with fg.export.otlp(monitor, collector.url) as sender:
            with ledger.span("a") as span:
                time.sleep(0.05)
                span.add(tokens=5)
            soon(lambda: sender.send() and "fastgreen.token.energy" in collector.metrics())
    (point,) = collector.metrics()["fastgreen.token.energy"].histogram.data_points
    assert (point.count, attributes(point)) == (1, {"fastgreen.ledger": "chat"})


def test_a_gpu_that_vanishes_is_sent_no_more(nvml, collector, soon):
    fake = nvml(Gpu(power=100.0), Gpu(power=50.0))
    with fg.Monitor(["nvml:0", "nvml:1"]) as monitor, fg.export.otlp(monitor, collector.url) as sender:
        assert sender.send()
        assert set(points(collector.metrics()["hw.energy"])) == {"nvml:0", "nvml:1"}
        fake.write(rules=[gpu_is_lost(1)])
        soon(lambda: monitor.readings()["nvml:1"].ended)
        assert sender.send()
        assert set(points(collector.metrics()["hw.energy"])) == {"nvml:0"}


def test_the_end_sends_the_last_numbers_with_the_headers(powercap, collector):
    powercap(Zone(watts=10.0), move=True)
    with fg.Monitor("rapl:*") as monitor:
        sender = fg.export.otlp(monitor, collector.url + "/mine", headers={"X-Key": "secret"})
        sender.close()
        sender.close()
    assert [path for path, _ in collector.requests] == ["/mine"]
    assert collector.requests[0][1]["x-key"] == "secret"


def test_a_collector_that_refuses_or_is_away_does_no_harm(powercap, collector):
    powercap(Zone(watts=10.0), move=True)
    collector.status = 400
    with fg.Monitor("rapl:*") as monitor:
        with fg.export.otlp(monitor, collector.url, every_s=0.2):
            time.sleep(0.5)
        before_j = monitor.energy_j()["rapl:package-0"]
        time.sleep(0.1)
        assert monitor.energy_j()["rapl:package-0"] > before_j
    assert len(collector.messages) >= 2


@pytest.mark.parametrize(
    "url", ["", "localhost:4318", "ftp://host/", "http://", "http://host:port", "grpc://h:1", 5, None]
)
def test_a_bad_address_is_refused(url):
    with pytest.raises(ValueError, match="url must be an address by http or https"):
        fg.export.otlp(fg.Monitor(), url)


@pytest.mark.parametrize("every_s", [0, -1, float("nan"), float("inf")])
def test_a_bad_pause_is_refused(every_s):
    with pytest.raises(ValueError, match="every_s must be a number of seconds above 0"), contextlib.suppress(TypeError):
        fg.export.otlp(fg.Monitor(), every_s=every_s)
