# SPDX-License-Identifier: Apache-2.0
"""The command that shows energies to Prometheus or sends them to an OpenTelemetry collector."""

from __future__ import annotations

import signal
import threading

import click

from fastgreen.commands.common import channel_option
from fastgreen.commands.cost_options import CostOptions, cost_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastgreen.export.endless import EndlessMonitor
    from fastgreen.export.otlp_exporter import Sender
    from fastgreen.export.prometheus_endpoint import Endpoint

__all__ = ["export"]

_LISTEN = "127.0.0.1:9477"


@click.command()
@click.option("--listen", metavar="HOST:PORT", help=f"Serve /metrics for Prometheus here.  [default: {_LISTEN}]")
@click.option("--allow-remote", is_flag=True, help="Let --listen be an address that other machines can reach.")
@click.option("--otlp", "url", metavar="URL", help="Send to the OpenTelemetry collector at this address, by HTTP.")
@click.option("--every", type=click.FloatRange(0.1, 3600), default=15.0, show_default=True,
              help="Seconds between two messages to the collector.")  # fmt: skip
@channel_option()
@click.option("--hz", type=float, help="Readings per second.  [default: by source]")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="Stop after this time; Ctrl-C stops earlier.")
@cost_options(scores=False, embodied=False)
def export(
    listen: str | None,
    allow_remote: bool,
    url: str | None,
    every: float,
    channels: list[str] | None,
    hz: float | None,
    seconds: float | None,
    costing: CostOptions,
) -> None:
    """Publish energy and power for Prometheus or OpenTelemetry.

    It runs until Ctrl-C or SIGTERM, in constant memory.

    \b
    fastgreen export --listen 127.0.0.1:9477
    fastgreen export --otlp http://localhost:4318
    """
    if allow_remote and listen is None:
        raise click.UsageError("--allow-remote needs --listen HOST:PORT")
    from fastgreen.export.endless import EndlessMonitor

    done = threading.Event()
    before = {number: signal.signal(number, lambda *_: done.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    endless: EndlessMonitor | None = None
    exporters: list[Endpoint | Sender] = []
    try:
        endless = EndlessMonitor(channels, hz)
        if listen is not None or url is None:
            from fastgreen.export.prometheus_endpoint import prometheus

            endpoint = prometheus(endless.monitor, listen or _LISTEN, allow_remote=allow_remote, costs=costing.costs)
            exporters.append(endpoint)
            click.echo(f"metrics at http://{endpoint.address}/metrics", err=True)
        if url is not None:
            from fastgreen.export.otlp_exporter import otlp

            sender = otlp(endless.monitor, url, every_s=every, costs=costing.costs)
            exporters.append(sender)
            click.echo(f"sending to {sender.url} every {every:g} s", err=True)
        endless.run(exporters, done, seconds)
    finally:
        for exporter in exporters:
            exporter.close()
        if endless is not None:
            endless.stop()
        for number, handler in before.items():
            signal.signal(number, handler)
