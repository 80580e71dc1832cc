"""The command that shows power while it is drawn."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import click
from rich.live import Live
from rich.table import Table

from fastgreen.commands.wording import sentence
from fastgreen.errors import FastgreenError
from fastgreen.measuring.monitor import Monitor
from fastgreen.results.console import people_console, plain_table, quantity, show, titled
from fastgreen.sensors.catalog import counted_ids

__all__ = ["watch"]


@click.command()
@click.option("-c", "--channel", "wanted", multiple=True, help="Channel id or pattern; may be given several times.")
@click.option("--every", type=click.FloatRange(0.05, 3600), default=1.0, show_default=True, help="Seconds a line.")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="End after so long; else Ctrl-C does.")
@click.option("--hz", type=float, help="Readings per second.  [default: 10, or 2 a line]")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a line.")
def watch(wanted: tuple[str, ...], every: float, seconds: float | None, hz: float | None, as_json: bool) -> None:
    """Show the power that is drawn now, and at the end the energy of it all.

    A power is the mean since the line before, between the readings that were last by then. Counters that update seldom
    (NVML: every 10 to 100 ms) make it jump by up to an update; a longer --every evens that out.
    """
    try:
        monitor = Monitor(list(wanted) or None, hz=hz or max(10.0, 2 / every)).start()
    except (FastgreenError, ValueError, OSError) as error:
        raise click.ClickException(sentence(error)) from error
    try:
        glances = _glances(monitor, every, seconds)
        if as_json:
            for glance in glances:
                click.echo(json.dumps(glance))
        else:
            _show_for_people(glances, {c.id: titled(c.id, c.name) for c in monitor.channels})
    except KeyboardInterrupt:
        pass  # that is how one ends it
    finally:
        monitor.stop()
    if not as_json:
        show(monitor.result, people_console())


def _glances(monitor: Monitor, every_s: float, most_s: float | None) -> Iterator[dict[str, Any]]:
    """What to show, once every so many seconds: powers since the glance before, energies since the start."""
    counted = counted_ids(monitor.channels)
    estimated = any(c.estimated for c in monitor.channels if c.id in counted)
    begin = before = time.monotonic()
    energies = monitor.energy_j()
    while most_s is None or before - begin < most_s - 1e-9:
        due = before + every_s if most_s is None else min(before + every_s, begin + most_s)
        time.sleep(max(0.0, due - time.monotonic()))
        now, seen = time.monotonic(), monitor.energy_j()
        powers = {identity: (joules - energies[identity]) / (now - before) for identity, joules in seen.items()}
        yield {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "duration_s": now - before,
            "power_w": sum(powers[identity] for identity in counted),
            "energy_j": sum(seen[identity] for identity in counted),
            "estimated": estimated,
            "channels": {
                identity: {"power_w": powers[identity], "energy_j": seen[identity], "counted": identity in counted}
                for identity in seen
            },
        }
        before, energies = now, seen


def _show_for_people(glances: Iterator[dict[str, Any]], titles: dict[str, str]) -> None:
    """One table that changes on a terminal; a line a glance where there is none."""
    console = people_console()
    if console.is_terminal:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            for glance in glances:
                live.update(_table(glance, titles), refresh=True)
        return
    for glance in glances:
        parts = [f"{titles[name]} {quantity(c['power_w'], 'W')}" for name, c in glance["channels"].items()]
        mark = " estimated" if glance["estimated"] else ""
        total = f"{quantity(glance['power_w'], 'W')}{mark}"
        console.print(f"{glance['time']}  {total}  ({', '.join(parts)})", markup=False, soft_wrap=True)


def _table(glance: dict[str, Any], titles: dict[str, str]) -> Table:
    table = plain_table("power now" + (", estimated" if glance["estimated"] else ""), "channel", "power", "energy")
    for name, channel in glance["channels"].items():
        mark = "" if channel["counted"] else " *"
        table.add_row(titles[name] + mark, quantity(channel["power_w"], "W"), quantity(channel["energy_j"], "J"))
    table.add_section()
    table.add_row("together", quantity(glance["power_w"], "W"), quantity(glance["energy_j"], "J"))
    return table
