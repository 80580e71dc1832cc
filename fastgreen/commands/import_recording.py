"""``fastgreen import``: a recording of another tool, as joules, as a saved run, and compared with a second one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fastgreen.commands.common import JsonAnswer, json_options, say, spoken, table
from fastgreen.progress_bar import progress_bar

__all__ = ["import_"]

_TABLE = frozenset({"time", "power", "energy", "device"})
_TAKEN: dict[str, frozenset[str]] = {
    "table": _TABLE | {"unit", "period_s", "columns"},
    "nvidia-smi": frozenset({"columns"}),
    "nvidia-smi-dmon": frozenset({"period_s"}),
    "rocm-smi": frozenset({"period_s"}),
    "tegrastats": frozenset({"period_s"}),
    "turbostat": frozenset({"period_s"}),
}
# Each of their rows has its own length, so there is no step that can be a hole.
_OWN_LENGTHS = ("codecarbon", "zeus", "home-assistant", "carbontracker")


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "format_",
    help="aipowermeter, nvidia-smi, nvidia-smi-dmon, codecarbon, omegawatt, rocm-smi, amd-smi, tegrastats, perf, "
    "turbostat, zeus, carbontracker, perun, ptdaemon, home-assistant, influxdb or table.  "
    "[default: by the first lines]",
)
@click.option("--time", "time", help="Column of the times, in a table of another tool.")
@click.option("--power", help="Column of the power.")
@click.option("--energy", help="Column of a counter of energy, instead of --power.")
@click.option("--unit", help="Unit of that column, such as mW or kWh.  [default: from its name or values, or W]")
@click.option("--device", help="Column that separates devices.")
@click.option("--period", "period_s", type=float, help="Seconds between two rows of a device, in a file without times.")
@click.option("--columns", help="Names of the columns of a file without a header, separated by commas.")
@click.option(
    "--max-gap",
    "max_gap_s",
    type=float,
    help="Longest time in s between two rows that is not a gap.  [default: 10 median steps]",
)
@click.option(
    "--timezone", default="UTC", show_default=True, help="Time zone of times that name no zone, such as Europe/Paris."
)
@click.option(
    "--from", "start", metavar="MOMENT", help="Add the energy from here on: seconds since 1970, or a time stamp."
)
@click.option("--until", "end", metavar="MOMENT", help="Add the energy up to here.")
@click.option(
    "--whole-steps",
    is_flag=True,
    help="With --from or --until: leave out the steps at the edges, as AIPowerMeter does.",
)
@click.option("--drop", default=0, show_default=True, help="Rows to leave out at each end of a log of nvidia-smi.")
@click.option("--against", type=click.Path(path_type=Path), help="Compare with this recording of the same time.")
@click.option("--shift", "shift_s", default=0.0, help="With --against: seconds to add to the clock of FILE.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Save the recording as a run, for `fastgreen report`."
)
@json_options()
def import_(
    file: Path,
    format_: str | None,
    timezone: str,
    drop: int,
    against: Path | None,
    shift_s: float,
    output: Path | None,
    answer: JsonAnswer,
    start: str | None,
    end: str | None,
    whole_steps: bool,
    **table_options: Any,
) -> None:
    """Read a recording of another tool.

    The tools are AIPowerMeter, nvidia-smi, CodeCarbon, OmegaWatt, rocm-smi, amd-smi, tegrastats, perf stat, turbostat,
    Zeus, Carbontracker, perun, SPEC PTDaemon, Home Assistant and InfluxDB. For any other tool, give a table and the
    names of its columns.
    FILE may be a folder of AIPowerMeter.
    """
    with progress_bar("reading", None):
        recording = _read(file, format_, timezone, drop, table_options)
        other = _read(against, None, timezone, 0, {}) if against is not None else None
        comparison = _compared(recording, other, shift_s) if other is not None else None
        window = _window(recording, start, end, whole_steps, timezone)
        if output is not None:
            recording.to_result().save(output)
    rows = [row for row in recording.channels.to_pylist() if row["samples"]]
    if answer.give(lambda: {**_as_mapping(recording, rows, comparison), "window": window}):
        return
    shown = ("id", "unit", "energy_j", "mean", "max", "covered_s", "missing_s", "samples", "absent", "segments")
    channels = [spoken({name: row[name] for name in shown}) for row in rows]
    said = [f"together {recording.total_j:.9g} J over {recording.duration_s:.6g} s"] if recording.energy_j() else []
    said += [f"in the window {sum(window.values()):.9g} J ({_listed(window)})"] if window is not None else []
    absent = [f"absent: {', '.join(recording.absent)}"] if recording.absent else []
    say(
        table(f"{recording.source}: {file}", channels, ruled=False),
        *said,
        *absent,
        *recording.notes,
        *([str(comparison)] if comparison else []),
    )
    if not rows:
        raise click.ClickException(f"{file}: it contains no recording")


def _as_mapping(recording: Any, rows: list[dict[str, Any]], comparison: Any) -> dict[str, Any]:
    figures = ("difference_j", "inner_j", "missing_share", "outer_j", "ratio", "seconds")
    return {
        "source": recording.source,
        "total_j": recording.total_j,
        "channels": rows,
        "absent": recording.absent,
        "notes": recording.notes,
        "comparison": {name: getattr(comparison, name) for name in figures} if comparison else None,
    }


def _window(
    recording: Any, start: str | None, end: str | None, whole_steps: bool, timezone: str
) -> dict[str, float] | None:
    """Energies of the root channels in the window that is asked for; None without one."""
    if start is None and end is None:
        if whole_steps:
            raise click.UsageError("--whole-steps needs --from or --until")
        return None
    from fastgreen.recordings.energy_rules import window_energies

    edges = {"start_s": start, "end_s": end}
    known = {name: _moment(text, timezone) for name, text in edges.items() if text is not None}
    try:
        found = window_energies(recording, **known, whole_steps=whole_steps)
    except ValueError as error:
        raise click.UsageError(f"--until must not be before --from ({error})") from None
    roots = {row["id"] for row in recording.channels.to_pylist() if row["root"]}
    return {name: joules for name, joules in found.items() if name in roots}


def _moment(text: str, timezone: str) -> float:
    """Seconds since 1970 of a number or of a time stamp."""
    from fastgreen.recordings.readers.timestamps import ABSENT_NS, to_utc_ns

    try:
        return float(text)
    except ValueError:
        pass
    (moment,) = to_utc_ns([text.replace(" ", "T", 1)], timezone)
    if moment == ABSENT_NS:
        raise click.UsageError(f"--from and --until must be seconds since 1970 or time stamps, not {text!r}")
    return float(moment / 1e9)


def _listed(energies: dict[str, float]) -> str:
    return ", ".join(f"{name} {joules:.9g} J" for name, joules in energies.items()) or "no channel counts"


def _compared(inner: Any, outer: Any, shift_s: float) -> Any:
    from fastgreen.recordings.comparison import NoOverlap, compare

    try:
        return compare(inner, outer, shift_s=shift_s)
    except NoOverlap as error:
        raise click.UsageError(
            f"{error.when}; check the time zone (--timezone) and the shift of the clock (--shift)"
        ) from None


def _read(file: Path, format_: str | None, timezone: str, drop: int, given: dict[str, Any]) -> Any:
    from fastgreen.recordings.readers import read

    options = {name: value for name, value in given.items() if value is not None}
    if "columns" in options:
        options["columns"] = [name.strip() for name in options["columns"].split(",")]
    named = format_ is None and not _TABLE.isdisjoint(options)
    known = "table" if named else format_ or _format_of(file, options)
    taken = _TAKEN.get(known, frozenset()) | ({"max_gap_s"} if known not in _OWN_LENGTHS else set())
    for name in options:
        if name not in taken:
            option = "--" + name.removesuffix("_s").replace("_", "-")
            raise click.UsageError(f"{option}: this is a recording of {known}, which does not take this option")
    if known != "omegawatt":
        options["timezone"] = timezone
    if known == "nvidia-smi":
        options |= {"drop_first": drop, "drop_last": drop}
    elif drop:
        raise click.UsageError(f"--drop: only a log of nvidia-smi can leave out rows; this is a recording of {known}")
    return read(file, known, **options)


def _format_of(file: Path, options: dict[str, Any]) -> str:
    from fastgreen.recordings.readers import format_of

    return "nvidia-smi" if "columns" in options else format_of(file)
