# SPDX-License-Identifier: Apache-2.0
"""``fastgreen share``: the energy of a saved run by the spans of a trace or a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from fastgreen.commands.common import InputPath, JsonAnswer, channel_option, json_options, say, table

__all__ = ["share"]


@click.command()
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--spans",
    "file",
    required=True,
    type=InputPath(dir_okay=False, path_type=Path),
    help="Trace of torch.profiler, py-spy or Chrome, spans of OpenTelemetry (OTLP JSON lines), or a table.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["chrome", "otlp", "table"]),
    help="Form of the file.  [default: by the first bytes]",
)
@click.option("--begin", help="Column of the begin times, in a table.  [default: begin_ns, start_ns, ...]")
@click.option("--end", help="Column of the end times, in a table.  [default: end_ns, end, ...]")
@click.option("--name", help="Column of the names, in a table.  [default: name]")
@click.option("--weight", help="Column of the weights, in a table.  [default: each weight is 1]")
@click.option(
    "--clock",
    type=click.Choice(["auto", "monotonic", "realtime", "start"]),
    default="auto",
    show_default=True,
    help="Clock of the spans; start: the times count from the start of the run.",
)
@click.option("--shift", "shift_s", type=float, default=0.0, help="Seconds to add to the times of the spans.")
@channel_option("Share the energy of this channel: an id, a pattern, or gpu, cpu or dram; repeat it or use commas.")
@click.option(
    "--baseline",
    "baselines",
    multiple=True,
    metavar="W",
    help="Idle power in W, shown apart from the spans: of all channels, or CHANNEL=W; repeat it for more.",
)
@click.option("--gpu", "gpus", multiple=True, metavar="N=CHANNEL", help="Channel of the GPU that the trace calls N.")
@click.option("--each", is_flag=True, help="With -o: a row per span instead of per name.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write a table: .csv, .parquet or Arrow.")
@json_options()
def share(
    folder: Path,
    file: Path,
    format_: str | None,
    clock: str,
    shift_s: float,
    channels: list[str] | None,
    baselines: tuple[str, ...],
    gpus: tuple[str, ...],
    each: bool,
    output: Path | None,
    answer: JsonAnswer,
    **columns: str | None,
) -> None:
    """Show the energy of a run by operator, function or request.

    RUN is the folder of the run. The spans come from a profiler or tracer of the same program.
    """
    from fastgreen.recordings.span_files import charged_table, read_spans
    from fastgreen.results.loading import load

    if each and output is None:
        raise click.UsageError("--each needs -o")
    options: dict[str, Any] = {"clock": clock, "shift_s": shift_s, "channels": channels}
    options |= {"baseline_w": _baseline(baselines), "gpus": _gpus(gpus)}
    result = load(folder)
    spans = read_spans(file, format_, **columns)
    found = charged_table(result, spans, **options)
    if output is not None:
        from fastgreen.table_files import save_table

        save_table(charged_table(result, spans, **options, each=True) if each else found, output)
    about = {key.decode(): value.decode() for key, value in found.schema.metadata.items()}
    rows = sorted(found.to_pylist(), key=lambda row: -(row["energy_j"] or 0.0))
    if not answer.give(lambda: {"source": spans.source, **_parsed(about), "spans": rows}):
        _show(f"{spans.source}: {file}", rows, about)


def _parsed(about: dict[str, str]) -> dict[str, Any]:
    return {key: value if key == "rule" else json.loads(value) for key, value in about.items()}


def _show(title: str, rows: list[dict[str, Any]], about: dict[str, str]) -> None:
    from fastgreen.guards.printable import printable
    from fastgreen.results.console import quantity

    def with_bounds(row: dict[str, Any], kind: str) -> str:
        low, energy, high = (row[f"{kind}energy_{which}j"] for which in ("low_", "", "high_"))
        return (
            "unknown"
            if energy is None
            else f"{quantity(energy, 'J')} ({quantity(low, 'J', 3)} .. {quantity(high, 'J', 3)})"
        )

    devices = {row["device"] for row in rows} != {"all"}
    shown = [
        {
            "name": printable(row["name"], most=80),
            **({"device": row["device"]} if devices else {}),
            "count": row["count"],
            "own energy": with_bounds(row, ""),
            "total": with_bounds(row, "total_"),
            "mean": quantity(row["mean_energy_j"], "J"),
        }
        for row in rows
    ]
    drawn, rest, apart = (float(about[key]) for key in ("drawn_j", "unattributed_j", "baseline_j"))
    estimated = " (estimated)" if about["estimated"] == "true" else ""
    own = sum(row["energy_j"] or 0.0 for row in rows)
    sentences = [
        f"drawn {quantity(drawn, 'J', 6)}{estimated}: own energies {quantity(own, 'J', 6)}, charged to no span "
        f"{quantity(rest, 'J', 6)}, baseline {quantity(apart, 'J', 6)}",
        f"rule: {about['rule']}",
        *(f"note: {note}" for note in json.loads(about["notes"])),
    ]
    say(table(title, shown), *(printable(text) for text in sentences))


def _baseline(given: tuple[str, ...]) -> float | dict[str, float] | None:
    named: dict[str, float] = {}
    for text in given:
        channel, equals, watts = text.rpartition("=")
        try:
            number = float(watts)
        except ValueError:
            raise click.BadParameter(f"--baseline must be W or CHANNEL=W, not {text!r}") from None
        if not equals:
            if len(given) > 1:
                raise click.UsageError("--baseline must be one number, or CHANNEL=W for each channel")
            return number
        named[channel] = number
    return named or None


def _gpus(given: tuple[str, ...]) -> dict[int, str]:
    out = {}
    for text in given:
        number, equals, channel = text.partition("=")
        if not (equals and channel and number.isascii() and number.isdigit() and len(number) < 5):
            raise click.BadParameter(f"--gpu must be N=CHANNEL, not {text!r}")
        out[int(number)] = channel
    return out
