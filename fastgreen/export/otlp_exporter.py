# SPDX-License-Identifier: Apache-2.0
"""A sender of energies and powers to an OpenTelemetry collector, by OTLP over HTTP.

The names, units and attributes are those of OpenTelemetry's conventions for hardware. A collection copies numbers that
the sampling threads publish; it reads no sensor and stops no thread.
"""

from __future__ import annotations

import functools
import math
import urllib.parse

from fastgreen.costs.running import RunningCosts
from fastgreen.export.ledger_feed import LedgerFeed
from fastgreen.export.live_channels import COUNTS, LiveChannel, LiveChannels, labels_of
from fastgreen.export.span_histograms import BUCKETS_J
from fastgreen.guards.arguments import number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from opentelemetry.metrics import CallbackOptions, Meter, Observation

    from fastgreen.costs.settings import Costs
    from fastgreen.measuring.monitor import Monitor

__all__ = ["Sender", "otlp"]


def otlp(
    monitor: Monitor,
    url: str = "http://localhost:4318",
    *,
    every_s: float = 15.0,
    headers: Mapping[str, str] | None = None,
    costs: Costs | None = None,
) -> Sender:
    """Send a monitor's energies to an OpenTelemetry collector.

    Parameters
    ----------
    monitor : Monitor
        It may be started before or after.
    url : str
        Address of the collector, by http or https. ``/v1/metrics`` is added where the address has no path.
    every_s : float
        Time between two messages, in s.
    headers : mapping, optional
        Headers of each request, such as an access token.
    costs : Costs, optional
        Rates for the money and the carbon of the host (`fastgreen.costs.settings.costs_from`).

    Returns
    -------
    Sender
        ``close()``, or a ``with`` block, sends the last numbers and ends it.

    Raises
    ------
    ValueError
        If `url` is not an address by http or https, or `every_s` is not above 0.
    ImportError
        Without opentelemetry-sdk and its exporter by HTTP.
    """
    return Sender(monitor, url, every_s, headers, costs)


class Sender:
    """Sends to a collector until it is closed; made by `otlp`.

    Attributes
    ----------
    url : str
        Where the messages go.
    """

    def __init__(
        self, monitor: Monitor, url: str, every_s: float, headers: Mapping[str, str] | None, costs: Costs | None = None
    ) -> None:
        self.url = _address(url)
        if not 0 < number("every_s", every_s) < math.inf:
            raise ValueError(f"every_s must be a number of seconds above 0, not {every_s!r}")
        exporter, provider, reader, resource = _sdk()
        import fastgreen

        self._feed = LedgerFeed(self.add_span)
        self._live = LiveChannels(monitor, self._feed.look)
        self._reader = reader(exporter(endpoint=self.url, headers=dict(headers or {})), every_s * 1000)
        named = resource.create({"service.name": "fastgreen", "host.name": self._live.host})
        self._provider = provider([self._reader], resource=named, shutdown_on_exit=False)
        meter = self._provider.get_meter("fastgreen", fastgreen.__version__)
        self._closed = False
        self._instruments = _instruments(meter, self._live)
        if costs:
            self._instruments += _cost_instruments(meter, self._live, RunningCosts(costs))
        edges = {"explicit_bucket_boundaries_advisory": BUCKETS_J}
        self._per_span = meter.create_histogram("fastgreen.span.energy", "J", "Energy of spans.", **edges)
        self._per_token = meter.create_histogram(
            "fastgreen.token.energy", "J", "Energy of a span by its tokens, once for each span.", **edges
        )
        self._live.start()

    def add_span(self, ledger: str, energy_j: float, amounts: Mapping[str, float]) -> None:
        """Add a span with a final energy in J. Its amount ``tokens`` divides the energy."""
        if not energy_j >= 0.0:
            return
        self._per_span.record(energy_j, {"fastgreen.ledger": ledger})
        if (tokens := amounts.get("tokens", 0.0)) > 0:
            self._per_token.record(energy_j / tokens, {"fastgreen.ledger": ledger})

    def follow(self, monitor: Monitor) -> None:
        """Send another monitor's energies from now on; the counters go on from their last values."""
        self._live.follow(monitor)

    def send(self, timeout_s: float = 10.0) -> bool:
        """Send now. False if the collector did not take the message in time."""
        return bool(self._provider.force_flush(round(timeout_s * 1000)))

    def close(self) -> None:
        """Send the last numbers and end it. Idempotent."""
        if not self._closed:
            self._closed = True
            self._live.look()
            self._provider.shutdown(timeout_millis=5000)
            self._live.stop()
            self._feed.closed = True

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<fastgreen sender to {self.url}>"


def _address(url: str) -> str:
    try:
        parts = urllib.parse.urlsplit(url)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port >= 0)
    except (ValueError, TypeError, AttributeError):
        fine = False
    if not fine:
        raise ValueError(f"url must be an address by http or https, such as http://localhost:4318, not {url!r}")
    return parts._replace(path="/v1/metrics").geturl() if parts.path in ("", "/") else url


def _sdk() -> tuple[Any, Any, Any, Any]:
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        from opentelemetry.sdk.resources import Resource
    except ImportError as error:
        raise ImportError(
            "OTLP needs opentelemetry-sdk and its exporter: pip install 'fastgreen[export]'", name="opentelemetry"
        ) from error
    return OTLPMetricExporter, MeterProvider, PeriodicExportingMetricReader, Resource


def _count(name: str, one: LiveChannel) -> float:
    return one.counts[name]


def _cost_instruments(meter: Meter, live: LiveChannels, costs: RunningCosts) -> list[Any]:
    from opentelemetry.metrics import Observation

    def of(place: int) -> Any:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            channels, host = live.now()
            found = costs.upto(host.energy_j)[place]
            if channels and found is not None:
                labels = {"hw.id": live.host, "hw.name": live.host}
                yield Observation(found, labels if place else {**labels, "currency": costs.costs.currency})

        return [observe]

    return [  # an hour with a price below 0 lowers the money, so it is no counter
        meter.create_observable_gauge("fastgreen.host.cost", of(0), "1", "Money for the energy of the host."),
        meter.create_observable_counter("fastgreen.host.carbon", of(1), "g", "CO2e of the energy of the host."),
    ]


def _instruments(meter: Meter, live: LiveChannels) -> list[Any]:
    from opentelemetry.metrics import Observation

    def of_channels(value: Callable[[LiveChannel], float | None], few: bool) -> Any:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            for one in live.now()[0]:
                found = value(one)
                if one.up and found is not None:
                    labels = labels_of(one)
                    yield Observation(found, {"hw.id": labels["hw.id"]} if few else labels)

        return [observe]

    def of_host(attribute: str) -> Any:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            channels, host = live.now()
            found = getattr(host, attribute)
            if channels and found is not None:
                yield Observation(found, {"hw.id": live.host, "hw.name": live.host})

        return [observe]

    low, high = "The least that the energy can have been.", "The most that the energy can have been."
    counter, gauge = meter.create_observable_counter, meter.create_observable_gauge
    return [
        counter("hw.energy", of_channels(lambda one: one.energy_j, False), "J", "Energy since the exporter's start."),
        gauge("hw.power", of_channels(lambda one: one.power_w, False), "W", "Mean power over the last second."),
        counter("fastgreen.energy.low", of_channels(lambda one: one.low_j, False), "J", low),
        counter("fastgreen.energy.high", of_channels(lambda one: one.high_j, False), "J", high),
        counter("hw.host.energy", of_host("energy_j"), "J", "Energy of the counted channels of the host together."),
        gauge("hw.host.power", of_host("power_w"), "W", "Power of the counted channels of the host together."),
        *(
            counter(f"fastgreen.{name}", of_channels(functools.partial(_count, name), True), "1", text)
            for name, text in COUNTS.items()
        ),
    ]
