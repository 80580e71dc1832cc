"""The command that shows power while it is drawn."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import click
from rich.live import Live
from rich.table import Table

from fastgreen.commands.common import JsonAnswer, channel_option, json_options, table
from fastgreen.measuring.monitor import Monitor
from fastgreen.results.console import people_console, quantity, show, titled
from fastgreen.sensors.catalog import counted_ids
from fastgreen.units import NS_PER_S

__all__ = ["watch"]


@click.command()
@channel_option()
@click.option("--every", type=click.FloatRange(0.05, 3600), default=1.0, show_default=True,
              help="Seconds between two lines.")  # fmt: skip
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="Stop after this time; Ctrl-C stops earlier.")
@click.option("--hz", type=float, help="Readings per second.  [default: 10, or 2 per line]")
@json_options("Print one JSON object per line.")
def watch(
    channels: list[str] | None, every: float, seconds: float | None, hz: float | None, answer: JsonAnswer
) -> None:
    """Show the power while it changes, and the energy at the end.

    Each power is the mean since the line before. A counter that updates seldom (NVML: every 10 to 100 ms) makes its
    power jump by up to one update; a longer --every smooths that.
    """
    monitor = Monitor(channels, hz=hz or max(10.0, 2 / every)).start()
    try:
        with answer.lines() as write:
            glances = _written(_glances(monitor, every, seconds), write)
            if answer.printed:
                for _ in glances:
                    pass
            else:
                _show_for_people(glances, {c.id: titled(c.id, c.name) for c in monitor.channels})
    except KeyboardInterrupt:
        pass  # the usual way to end it
    finally:
        monitor.stop()
    if not answer.printed:
        show(monitor.result, people_console())


def _written(glances: Iterator[dict[str, Any]], write: Callable[[Any], None]) -> Iterator[dict[str, Any]]:
    for glance in glances:
        write(glance)
        yield glance


def _glances(monitor: Monitor, every_s: float, most_s: float | None) -> Iterator[dict[str, Any]]:
    """What to show, once every so many seconds: powers since the glance before, energies since the start.

    A power is the mean between the last readings before the two glances, so that a slow reading does not bias it.
    """
    counted = counted_ids(monitor.channels)
    estimated = any(c.estimated for c in monitor.channels if c.id in counted)
    begin = before = time.monotonic()
    last = monitor.readings()
    while most_s is None or before - begin < most_s - 1e-9:
        due = before + every_s if most_s is None else min(before + every_s, begin + most_s)
        time.sleep(max(0.0, due - time.monotonic()))
        seen = monitor.readings()
        now = time.monotonic()
        seconds = {identity: (reading.at_ns - last[identity].at_ns) / NS_PER_S for identity, reading in seen.items()}
        powers = {
            identity: (reading.energy_j - last[identity].energy_j) / seconds[identity] if seconds[identity] > 0 else 0.0
            for identity, reading in seen.items()
        }
        yield {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "duration_s": now - before,
            "power_w": sum(powers[identity] for identity in counted),
            "energy_j": sum(seen[identity].energy_j for identity in counted),
            "estimated": estimated,
            "channels": {
                identity: {
                    "power_w": powers[identity],
                    "energy_j": reading.energy_j,
                    "counted": identity in counted,
                    "between_readings_s": seconds[identity],
                    "age_s": now - reading.at_ns / NS_PER_S,
                }
                for identity, reading in seen.items()
            },
        }
        before, last = now, seen


def _show_for_people(glances: Iterator[dict[str, Any]], titles: dict[str, str]) -> None:
    """One table that changes on a terminal; elsewhere a line at each look."""
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
    rows = [
        {
            "channel": titles[name] + ("" if channel["counted"] else " *"),
            "power": quantity(channel["power_w"], "W"),
            "energy": quantity(channel["energy_j"], "J"),
        }
        for name, channel in glance["channels"].items()
    ]
    total = {
        "channel": "together",
        "power": quantity(glance["power_w"], "W"),
        "energy": quantity(glance["energy_j"], "J"),
    }
    shown = table("power now" + (", estimated" if glance["estimated"] else ""), [*rows, total])
    if rows:
        shown.rows[-2].end_section = True
    return shown
