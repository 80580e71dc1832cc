# SPDX-License-Identifier: Apache-2.0
"""A page for Prometheus: energies, powers, counts of faults, and histograms of ledgers.

The names are OpenTelemetry's for hardware, translated as usual: ``hw.energy`` in J is ``hw_energy_joules_total``.
A scrape copies numbers that the sampling threads publish; it reads no sensor and stops no thread.
"""

from __future__ import annotations

import itertools
import warnings

from fastgreen.costs.running import RunningCosts
from fastgreen.errors import FastgreenWarning
from fastgreen.export.ledger_feed import LedgerFeed
from fastgreen.export.listening import address_of, is_loopback, named
from fastgreen.export.live_channels import COUNTS, LiveChannel, LiveChannels, labels_of
from fastgreen.export.span_histograms import BUCKETS_J, Histogram, SpanHistograms
from fastgreen.guards.printable import encodable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any
    from wsgiref.simple_server import WSGIServer

    from prometheus_client.core import Metric
    from prometheus_client.registry import CollectorRegistry

    from fastgreen.costs.settings import Costs
    from fastgreen.measuring.monitor import Monitor

__all__ = ["Endpoint", "prometheus"]

_LABELS = ("hw_id", "hw_type", "hw_name", "hw_parent", "fastgreen_counted")


def prometheus(
    monitor: Monitor,
    listen: str | None = "127.0.0.1:9477",
    *,
    registry: CollectorRegistry | None = None,
    allow_remote: bool = False,
    costs: Costs | None = None,
) -> Endpoint:
    """Serve the energies of a monitor to Prometheus.

    Parameters
    ----------
    monitor : Monitor
        It may be started before or after.
    listen : str or None
        ``HOST:PORT`` to serve ``/metrics`` at; port 0 takes a free one. None serves nothing, for a program that
        shows `registry` itself.
    registry : CollectorRegistry, optional
        Registry of prometheus_client to add the metrics to; by default a new one that holds nothing else.
    allow_remote : bool
        Whether `listen` may be an address that other machines can reach.
    costs : Costs, optional
        Rates for the money and the carbon of the host (`fastgreen.costs.settings.costs_from`).

    Returns
    -------
    Endpoint
        Its ``address`` is where it listens; ``close()``, or a ``with`` block, ends it.

    Raises
    ------
    ValueError
        If `listen` is not HOST:PORT, or other machines can reach it and `allow_remote` is off.
    OSError
        If the address is taken or is not one of this machine.
    ImportError
        Without prometheus_client.
    """
    endpoint = Endpoint(monitor, listen, registry, allow_remote)
    endpoint.price_by(costs)
    return endpoint


class Endpoint:
    """A page for Prometheus; made by `prometheus`.

    Attributes
    ----------
    address : str or None
        ``HOST:PORT`` where it listens.
    """

    def __init__(
        self, monitor: Monitor, listen: str | None, registry: CollectorRegistry | None, allow_remote: bool
    ) -> None:
        client = _client()
        place = None if listen is None else address_of(listen, allow_remote)
        self.address: str | None = None
        self._registry = client.CollectorRegistry() if registry is None else registry
        self._server: WSGIServer | None = None
        self._spans = SpanHistograms()
        self._feed = LedgerFeed(self._spans.add)
        self._live = LiveChannels(monitor, self._feed.look)
        self._collector: _Collector | None = _Collector(self._live, self._spans)
        if place is not None:
            self._listen(client, listen, *place)
        self._registry.register(self._collector)
        self._live.start()

    def _listen(self, client: Any, listen: str | None, host: str, port: int) -> None:
        assert listen is not None
        try:
            self._server, _ = client.start_http_server(port, host, self._registry)
        except OSError as error:
            raise named(listen, error) from error
        shown = f"[{host}]" if ":" in host else host
        self.address = f"{shown}:{self._server.server_port}"
        if not is_loopback(host):
            warnings.warn(
                f"other machines can read the energy of this one at {self.address}", FastgreenWarning, stacklevel=4
            )

    def price_by(self, costs: Costs | None) -> None:
        """Show the money and the carbon of the host too; None: neither."""
        if self._collector is not None:
            self._collector.costs = RunningCosts(costs) if costs else None

    def follow(self, monitor: Monitor) -> None:
        """Show another monitor from now on; the counters go on from their last values."""
        self._live.follow(monitor)

    def close(self) -> None:
        """End it. Idempotent."""
        self._live.stop()
        self._feed.closed = True
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        if self._collector is not None:
            self._registry.unregister(self._collector)
            self._collector = None

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<fastgreen endpoint for Prometheus at {self.address}>"


def _client() -> Any:
    try:
        import prometheus_client
    except ImportError as error:
        raise ImportError(
            "a page for Prometheus needs prometheus-client: pip install 'fastgreen[export]'", name="prometheus_client"
        ) from error
    return prometheus_client


class _Collector:
    """What prometheus_client asks at each scrape."""

    def __init__(self, live: LiveChannels, spans: SpanHistograms) -> None:
        self._live, self._spans = live, spans

    costs: RunningCosts | None = None

    def describe(self) -> list[Metric]:
        """Nothing is known before the first scrape; so registering asks for nothing."""
        return []

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        channels, host = self._live.now()
        up = [one for one in channels if one.up]
        yield from _of_channels(up)
        where = [self._live.host, self._live.host]
        energy = CounterMetricFamily(
            "hw_host_energy_joules", "Energy of the counted channels of the host together.", labels=["hw_id", "hw_name"]
        )
        power = GaugeMetricFamily(
            "hw_host_power_watts", "Power of the counted channels of the host together.", labels=["hw_id", "hw_name"]
        )
        if channels:
            energy.add_metric(where, host.energy_j)
        if host.power_w is not None:
            power.add_metric(where, host.power_w)
        yield energy
        yield power
        if self.costs is not None and channels:
            yield from _of_costs(self.costs, host.energy_j, where)
        alive = GaugeMetricFamily(
            "fastgreen_channel_up", "1 while the channel is read, 0 after its end.", labels=["hw_id"]
        )
        for one in channels:
            alive.add_metric([encodable(one.channel.id)], float(one.up))
        yield alive
        yield from _of_ledgers(self._spans)


def _of_costs(costs: RunningCosts, energy_j: float, where: list[str]) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    cost, carbon_g = costs.upto(energy_j)
    if carbon_g is not None:
        carbon = CounterMetricFamily(
            "fastgreen_host_carbon_grams", "CO2e of the energy of the host.", labels=["hw_id", "hw_name"]
        )
        carbon.add_metric(where, carbon_g)
        yield carbon
    if cost is not None:  # an hour with a price below 0 lowers it, so it is no counter
        money = GaugeMetricFamily(
            "fastgreen_host_cost", "Money for the energy of the host.", labels=["hw_id", "hw_name", "currency"]
        )
        money.add_metric([*where, costs.costs.currency], cost)
        yield money


def _of_channels(channels: list[LiveChannel]) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    labels = [list(labels_of(one).values()) for one in channels]
    energy = CounterMetricFamily("hw_energy_joules", "Energy since the exporter's start.", labels=_LABELS)
    power = GaugeMetricFamily("hw_power_watts", "Mean power over the last second.", labels=_LABELS)
    few = ["hw_id"]
    low = CounterMetricFamily("fastgreen_energy_low_joules", "The least that the energy can have been.", labels=few)
    high = CounterMetricFamily("fastgreen_energy_high_joules", "The most that the energy can have been.", labels=few)
    age = GaugeMetricFamily("fastgreen_reading_age_seconds", "Time since the last reading.", labels=few)
    facts = GaugeMetricFamily(
        "fastgreen_channel_info",
        "Source of a channel, and quality of its bounds.",
        labels=["hw_id", "source", "bounds"],
    )
    counts = {name: CounterMetricFamily(f"fastgreen_{name}", text, labels=few) for name, text in COUNTS.items()}
    for one, values in zip(channels, labels, strict=True):
        own = values[:1]
        energy.add_metric(values, one.energy_j)
        facts.add_metric([values[0], one.channel.source, one.channel.bounds], 1.0)
        if one.power_w is not None:
            power.add_metric(values, one.power_w)
        if one.low_j is not None and one.high_j is not None:
            low.add_metric(own, one.low_j)
            high.add_metric(own, one.high_j)
        if one.age_s is not None:
            age.add_metric(own, one.age_s)
        for name, count in one.counts.items():
            counts[name].add_metric(own, count)
    yield from (energy, power, low, high, *counts.values(), age, facts)


def _of_ledgers(spans: SpanHistograms) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

    per_span = HistogramMetricFamily(
        "fastgreen_span_energy_joules", "Energy of spans, such as requests.", labels=["ledger"]
    )
    per_token = HistogramMetricFamily(
        "fastgreen_token_energy_joules", "Energy of a span by its tokens, once for each span.", labels=["ledger"]
    )
    tokens = CounterMetricFamily("fastgreen_tokens", "Tokens of the spans.", labels=["ledger"])
    for ledger, (of_spans, of_tokens, number) in spans.now().items():
        per_span.add_metric([ledger], _buckets(of_spans), of_spans.sum_j)
        if number:
            per_token.add_metric([ledger], _buckets(of_tokens), of_tokens.sum_j)
            tokens.add_metric([ledger], number)
    yield per_span
    yield per_token
    yield tokens


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    from prometheus_client.utils import floatToGoString

    edges = [*map(floatToGoString, BUCKETS_J), "+Inf"]
    return list(zip(edges, itertools.accumulate(histogram.counts), strict=True))
