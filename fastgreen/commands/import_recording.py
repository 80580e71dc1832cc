"""``fastgreen import``: a recording of another tool, as joules, as a saved run, and compared with a second one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fastgreen.commands.common import JsonAnswer, json_options, say, table

__all__ = ["import_"]


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--format", "format_", help="aipowermeter, nvidia-smi, codecarbon or omegawatt.  [default: by the first lines]"
)
@click.option(
    "--timezone", default="UTC", show_default=True, help="Time zone of times that name no zone, such as Europe/Paris."
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
) -> None:
    """Read a recording of another tool.

    The tools are AIPowerMeter, nvidia-smi, CodeCarbon and OmegaWatt. FILE may be a folder of AIPowerMeter.
    """
    recording = _read(file, format_, timezone, drop)
    comparison = _compared(recording, _read(against, None, timezone, 0), shift_s) if against is not None else None
    if output is not None:
        recording.to_result().save(output)
    rows = [row for row in recording.channels.to_pylist() if row["samples"]]
    if answer.give(lambda: _as_mapping(recording, rows, comparison)):
        return
    shown = ("id", "unit", "energy_j", "mean", "max", "covered_s", "missing_s", "samples", "absent", "segments")
    channels = [{name: row[name] for name in shown} for row in rows]
    said = [f"together {recording.total_j:.9g} J over {recording.duration_s:.6g} s"] if recording.energy_j() else []
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


def _compared(inner: Any, outer: Any, shift_s: float) -> Any:
    from fastgreen.recordings.comparison import NoOverlap, compare

    try:
        return compare(inner, outer, shift_s=shift_s)
    except NoOverlap as error:
        raise click.UsageError(
            f"{error.when}; check the time zone (--timezone) and the shift of the clock (--shift)"
        ) from None


def _read(file: Path, format_: str | None, timezone: str, drop: int) -> Any:
    from fastgreen.recordings.readers import format_of, read

    known = format_ or format_of(file)
    options: dict[str, Any] = {} if known == "omegawatt" else {"timezone": timezone}
    if known == "nvidia-smi":
        options |= {"drop_first": drop, "drop_last": drop}
    elif drop:
        raise click.UsageError(f"--drop: only a log of nvidia-smi can leave out rows; this is a recording of {known}")
    return read(file, known, **options)
