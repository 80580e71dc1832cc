"""The command that shows power while it is drawn, of this machine or of a run that is being recorded."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.live import Live
from rich.table import Table

from fastgreen.commands.common import JsonAnswer, channel_option, json_options, say, table
from fastgreen.reports.histories import Histories
from fastgreen.results.console import people_console, quantity, show, titled
from fastgreen.sensors.catalog import counted_ids
from fastgreen.units import NS_PER_S

if TYPE_CHECKING:
    from fastgreen.measuring.monitor import Monitor
    from fastgreen.reports.followed import FollowedRun
    from fastgreen.reports.live_page import LivePage
    from fastgreen.results.result import Result

    Glances = Iterator[dict[str, Any]]

__all__ = ["watch"]

_MOST_BYTES = 64 << 20  # of the recording behind a page: about a day at 10 Hz
_BUSY = 5  # a look that costs much is followed by a pause so many times as long


def _address(_: click.Context, __: click.Parameter, given: str) -> tuple[str, int]:
    host, colon, port = given.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise click.BadParameter(f"must be HOST:PORT, not {given!r}")
    return host.removeprefix("[").removesuffix("]") or "127.0.0.1", int(port)


@click.command()
@click.argument("folder", metavar="[RUN]", required=False, type=click.Path(path_type=Path))
@channel_option()
@click.option("--every", type=click.FloatRange(0.05, 3600), default=1.0, show_default=True,
              help="Seconds between two lines.")  # fmt: skip
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="Stop after this time; Ctrl-C stops earlier.")
@click.option("--hz", type=float, help="Readings per second.  [default: 10, or 2 per line if that is more]")
@click.option("--web", is_flag=True, help="Also serve a page with live data to browsers.")
@click.option("--listen", default="127.0.0.1:8787", show_default=True, metavar="HOST:PORT", callback=_address,
              help="With --web: the address of the page. Port 0 takes a free port.")  # fmt: skip
@json_options("Print one JSON object per line.")
@click.pass_context
def watch(
    ctx: click.Context,
    folder: Path | None,
    channels: list[str] | None,
    every: float,
    seconds: float | None,
    hz: float | None,
    web: bool,
    listen: tuple[str, int],
    answer: JsonAnswer,
) -> None:
    """Show the power while it changes, and the energy at the end.

    RUN is the folder of a run that another process records. Without it, the channels of this machine are read.

    Each power is the mean since the line before. A counter that updates seldom (NVML: every 10 to 100 ms) makes its
    power jump by up to one update; a longer --every smooths that.
    """
    if folder is not None and (channels or hz):
        raise click.UsageError("-c and --hz cannot be used with RUN: the recording has its own channels and rate")
    if not web and ctx.get_parameter_source("listen") == click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError("--listen needs --web")
    with ExitStack() as stack:
        page = stack.enter_context(_served(listen, folder)) if web else None
        if folder is not None:
            result = _follow(folder, every, seconds, answer, page)
        else:
            result = _measure(channels, every, seconds, hz, answer, page, stack)
    if result is not None and not answer.printed:
        show(result, people_console())


class _served:
    """The page while it is served; its address is printed."""

    def __init__(self, listen: tuple[str, int], folder: Path | None) -> None:
        from fastgreen.reports.live_page import LivePage

        title = f"Energy of {folder.resolve().name}" if folder is not None else "Energy of this machine"
        host, port = listen
        try:
            self._page = LivePage(host, port, title)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise click.ClickException(f"cannot serve on {host}:{port}: {why}. Choose another --listen") from None

    def __enter__(self) -> LivePage:
        say(f"page: {self._page.address}", err=True)
        return self._page

    def __exit__(self, *exc_info: object) -> None:
        self._page.close()


def _measure(
    channels: list[str] | None,
    every: float,
    seconds: float | None,
    hz: float | None,
    answer: JsonAnswer,
    page: LivePage | None,
    stack: ExitStack,
) -> Result | None:
    if page is not None:
        _measure_for_page(channels, every, seconds, hz, answer, page, stack)
        return None
    from fastgreen.measuring.monitor import Monitor

    monitor = Monitor(channels, hz=hz or max(10.0, 2 / every)).start()
    try:
        _show(_glances(monitor, every, seconds), _titles(monitor), answer)
    except KeyboardInterrupt:
        pass  # the usual way to end it
    finally:
        monitor.stop()
    return monitor.result


def _titles(monitor: Monitor) -> dict[str, str]:
    return {c.id: titled(c.id, c.name) for c in monitor.channels}


def _measure_for_page(
    channels: list[str] | None,
    every: float,
    seconds: float | None,
    hz: float | None,
    answer: JsonAnswer,
    page: LivePage,
    stack: ExitStack,
) -> None:
    """Measure with a page, which is made of what is recorded. A recording that is large gives way to a new one."""
    from fastgreen.measuring.monitor import Monitor

    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fastgreen-watch-")))
    rate = hz or max(10.0, 2 / every)
    meter = Monitor(channels, hz=rate, keep="totals").start()  # counts on while recordings change
    parts = _Parts(folder, meter, lambda record: Monitor(channels, hz=rate, record=record).start())
    try:
        _show(parts.glances(every, seconds, page), _titles(meter), answer)
    except KeyboardInterrupt:
        pass  # the usual way to end it
    finally:
        meter.stop()
        parts.monitor.stop()
    page.show(parts.noted(parts.monitor.result))
    if not answer.printed:
        show(meter.result, people_console())
        if parts.before_s:
            say(f"note: the page shows the time after the first {quantity(parts.before_s, 's')}")


class _Parts:
    """Recordings one after the other, of which only the last one stays on disk; `meter` measures the whole time."""

    def __init__(
        self, folder: Path, meter: Monitor, start: Callable[[Path], Monitor], most_bytes: int = _MOST_BYTES
    ) -> None:
        self._folder, self._meter, self._start, self._most_bytes, self._number = folder, meter, start, most_bytes, 0
        self.before_j = self.before_s = 0.0
        self.monitor = start(self._place)

    @property
    def _place(self) -> Path:
        return self._folder / f"run-{self._number}"

    def glances(self, every_s: float, most_s: float | None, page: LivePage) -> Glances:
        """Glances at the meter. The page shows the recording."""
        from fastgreen.reports.followed import FollowedRun

        begin, free_at = time.monotonic(), 0.0
        run = FollowedRun(str(self._place))
        for glance in _glances(self._meter, every_s, most_s):
            now = time.monotonic()
            if now >= free_at and (result := run.look()) is not None:
                free_at = time.monotonic() + _BUSY * page.show(self.noted(result))
            yield glance
            if sum(file.stat().st_size for file in self._place.iterdir()) > self._most_bytes:
                self._begin_again(glance["energy_j"], now - begin)
                run = FollowedRun(str(self._place))

    def noted(self, result: Result) -> Result:
        """The result, with a note on the time before its recording."""
        if self.before_s:
            said = f"{quantity(self.before_j, 'J')} in {quantity(self.before_s, 's')}"
            result.given_notes.append(f"before this began, {said} were measured, which this page does not show")
        return result

    def _begin_again(self, energy_j: float, seconds: float) -> None:
        before, old = self.monitor, self._place
        self.before_j, self.before_s = energy_j, seconds
        self._number += 1
        self.monitor = self._start(self._place)
        before.stop()
        shutil.rmtree(old, ignore_errors=True)


def _follow(
    folder: Path, every: float, seconds: float | None, answer: JsonAnswer, page: LivePage | None
) -> Result | None:
    from fastgreen.reports.followed import FollowedRun

    run = FollowedRun(folder)
    if not folder.exists():
        say(f"waiting for {folder}", err=True)
    last: list[Result] = []
    titles: dict[str, str] = {}
    with suppress(KeyboardInterrupt):  # the usual way to end it
        _show(_followed(run, every, seconds, page, titles, last), titles, answer)
    if not last:
        raise click.ClickException(f"{folder} holds no reading of a run")
    if not run.ended and run.silent_s() > 10 + every:
        say(f"note: {folder} has not grown for {quantity(run.silent_s(), 's', 2)}", err=True)
    return last[-1]


def _followed(
    run: FollowedRun,
    every_s: float,
    most_s: float | None,
    page: LivePage | None,
    titles: dict[str, str],
    last: list[Result],
) -> Glances:
    """Glances at a run that another process records, until it ends."""
    from fastgreen.reports.followed import count_of

    begin = time.monotonic()
    before: tuple[float, Result, tuple[int, int]] | None = None
    due = begin
    while True:
        looked, cost_s = time.monotonic(), time.process_time()
        warm = before is not None
        result = run.look()
        if result is not None and result.traces and result.known:
            counts = count_of(result)
            titles.update({t.channel.id: titled(t.channel.id, t.channel.name) for t in result.traces})
            if before is not None:
                yield _between(before, (looked, result, counts))
            before = looked, result, counts
        if result is not None:
            last[:] = [result]
            if page is not None:
                page.show(result)
        now = time.monotonic()
        if run.ended or (most_s is not None and now - begin >= most_s - 1e-9):
            return
        # The first look also loads modules, which the next ones do not.
        cost_s = time.process_time() - cost_s if warm else 0.0
        due = max(due + every_s, now if cost_s < every_s / _BUSY else now + _BUSY * cost_s)
        time.sleep(max(0.0, min(due, begin + most_s if most_s is not None else due) - now))


def _between(before: tuple[float, Result, tuple[int, int]], after: tuple[float, Result, tuple[int, int]]) -> Any:
    """What is new of a followed run, in the form of `_glances`."""
    (then, old, old_counts), (now, new, counts) = before, after
    ends_ns = {t.channel.id: (t.tally["end_at_ns"], float(old.totals[t.channel.id].energy_j)) for t in old.traces}
    channels = {}
    for trace in new.traces:
        if not trace.has_data or trace.channel.id not in ends_ns:
            continue
        was_ns, was_j = ends_ns[trace.channel.id]
        energy_j = float(new.totals[trace.channel.id].energy_j)
        seconds = (trace.tally["end_at_ns"] - was_ns) / NS_PER_S
        channels[trace.channel.id] = {
            "power_w": max(energy_j - was_j, 0.0) / seconds if seconds > 0 else 0.0,
            "energy_j": energy_j,
            "counted": trace.counted,
            "between_readings_s": seconds,
            "age_s": max(now - trace.tally["end_at_ns"] / NS_PER_S, 0.0),
        }
    lasted_s = now - then
    counted = [c for c in channels.values() if c["counted"]]
    return {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "duration_s": lasted_s,
        "power_w": sum(c["power_w"] for c in counted),
        "energy_j": sum(c["energy_j"] for c in counted),
        "estimated": new.estimated,
        "channels": channels,
        "windows_per_s": (counts[0] - old_counts[0]) / lasted_s,
        "spans_per_s": (counts[1] - old_counts[1]) / lasted_s,
    }


def _show(glances: Glances, titles: dict[str, str], answer: JsonAnswer) -> None:
    with answer.lines() as write:
        glances = _written(glances, write)
        if answer.printed:
            for _ in glances:
                pass
        else:
            _show_for_people(glances, titles)


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


def _show_for_people(glances: Glances, titles: dict[str, str]) -> None:
    """One table that changes on a terminal; elsewhere a line at each look."""
    console = people_console()
    if console.is_terminal:
        histories = Histories()
        with Live(console=console, auto_refresh=False, transient=True) as live:
            for glance in glances:
                histories.add(glance)
                live.update(_table(glance, titles, histories, console.width), refresh=True)
        return
    for glance in glances:
        parts = [f"{titles[name]} {quantity(c['power_w'], 'W')}" for name, c in glance["channels"].items()]
        parts += _rates(glance)
        mark = " estimated" if glance["estimated"] else ""
        total = f"{quantity(glance['power_w'], 'W')}{mark}"
        console.print(f"{glance['time']}  {total}  ({', '.join(parts)})", markup=False, soft_wrap=True)


def _rates(glance: dict[str, Any]) -> list[str]:
    """Windows and spans per second, of a followed run."""
    found = {name: glance.get(f"{name}_per_s", 0.0) for name in ("windows", "spans")}
    return [f"{rate:.4g} {name} per s" for name, rate in found.items() if rate]


def _table(glance: dict[str, Any], titles: dict[str, str], histories: Histories, width: int) -> Table:
    names = {name: titles[name] + ("" if c["counted"] else " *") for name, c in glance["channels"].items()}
    longest = max([len("together"), *map(len, names.values())])
    room = min(max(width - longest - 48, 8), 60)

    def row(shown: str, key: str, values: dict[str, Any]) -> dict[str, str]:
        history = histories.of(key)
        return {
            "channel": shown,
            "power": quantity(values["power_w"], "W"),
            f"last {histories.length}": history.sparkline(room),
            "mean": quantity(history.mean, "W"),
            "peak": quantity(history.peak, "W"),
            "energy": quantity(values["energy_j"], "J"),
        }

    rows = [row(names[name], name, channel) for name, channel in glance["channels"].items()]
    total = row("together", "", glance)
    title = ", ".join(["power now" + (", estimated" if glance["estimated"] else ""), *_rates(glance)])
    shown = table(title, [*rows, total])
    if rows:
        shown.rows[-2].end_section = True
    return shown
