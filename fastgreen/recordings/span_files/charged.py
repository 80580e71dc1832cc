# SPDX-License-Identifier: Apache-2.0
"""The energy of a run by the spans of a file: a row per name, or per span."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from fastgreen.errors import TraceError
from fastgreen.recordings.span_files.span_file import LARGEST_NS, SpanFile
from fastgreen.results.nested_spans import NestedSpans, own_and_total
from fastgreen.results.share_table import chosen_traces
from fastgreen.results.shares import Shares, check_baseline, set_apart
from fastgreen.results.trace import Bounded
from fastgreen.results.wall_clock import WallClock
from fastgreen.sensors.channel_kinds import kind_of
from fastgreen.units import NS_PER_S, counted, unit_metadata

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fastgreen.results.result import Result
    from fastgreen.results.trace import Trace

__all__ = ["CLOCKS", "charged_table"]

CLOCKS = ("auto", "monotonic", "realtime", "start")
RULE = (
    "at each instant the innermost open spans are charged, each its weight over the weights of all of them; a total "
    "also holds the spans inside"
)


def charged_table(
    result: Result,
    file: SpanFile,
    clock: str = "auto",
    shift_s: float = 0.0,
    channels: str | Iterable[str] | None = None,
    baseline_w: float | Mapping[str, float] | None = None,
    gpus: Mapping[int, str] | None = None,
    each: bool = False,
) -> pa.Table:
    """Share the energy of a run among the spans of a file.

    Work of a GPU is charged on the channel of that GPU, other work on the other channels, if the file tells them apart.

    Parameters
    ----------
    result : Result
    file : SpanFile
    clock : {"auto", "monotonic", "realtime", "start"}
        The clock of the file: CLOCK_MONOTONIC, the time since 1970, or the time since the begin of the run. By default
        the file's own, or the one by which it overlaps the run.
    shift_s : float
        Seconds to add to all instants of the file.
    channels : str or iterable of str, optional
        Ids or patterns of the channels to share; by default those of the total.
    baseline_w : float or dict of float, optional
        Power to set apart, in W, as of `Result.share`. By channel, if the file has work of GPUs.
    gpus : dict of int to str, optional
        The channel of a GPU that the file calls by this number; by default the GPUs of the run in their order.
    each : bool
        A row per span instead of per name, with the columns of the file that have other names.

    Returns
    -------
    pyarrow.Table
        ``name``, ``device``, ``count`` and ``outside`` (spans beyond the run; not in ``count``), ``duration_s``
        (s), ``energy_j`` with its bounds and ``baseline_j``: the own energy; ``total_energy_j`` with its bounds, and
        ``mean_energy_j``, the total by the count (J). Null where no part is within the run or no channel was read. The
        schema's metadata hold ``unattributed_j``, ``baseline_j`` and ``drawn_j`` (J), ``channels``, ``rule`` and
        ``notes``.

    Raises
    ------
    ChannelNotFound
        For a channel that the run does not have.
    TraceError
        If no span lies within the run.
    ValueError
        For an unknown clock, or a baseline that is not possible.
    """
    offset_ns, notes = _offset_ns(result, file, clock, shift_s)
    spans = NestedSpans(
        file.spans.begin_ns + offset_ns, file.spans.end_ns + offset_ns, file.spans.parent, file.spans.weight
    )
    run = (result.start_ns, result.end_ns)
    inside = (spans.end_ns >= run[0]) & (spans.begin_ns <= run[1])
    partly = inside & ((spans.begin_ns < run[0]) | (spans.end_ns > run[1]))
    if outside := int(np.sum(~inside)):
        notes.append(f"{counted(outside, 'span')} beyond the run: energy unknown")
    if partly.any():
        notes.append(
            f"{counted(int(partly.sum()), 'span')} partly beyond the run: the energy there is unknown, and only the "
            "upper bound holds it"
        )
    if file.host and result.metadata.get("host") and file.host != result.metadata["host"]:
        notes.append(f"the spans are of the machine {file.host!r}, and the run is of {result.metadata['host']!r}")
    traces = chosen_traces(result, channels)
    places = _places(file, traces, channels is not None, dict(gpus or {}), notes)
    parts = [_Part(result, file, spans, inside, device, of, each) for device, of in places]
    used = {t.channel.id for part in parts for t in part.traces}
    idle = [t for t in traces if t.channel.id not in used]
    rest = {t.channel.id: float(result.totals[t.channel.id].energy_j) for t in idle}
    for identity, energy_j in rest.items():
        notes.append(f"{identity}: no span runs on it, so its {energy_j:.6g} J are charged to no span")
    baseline = _baselines(baseline_w, parts)
    table = pa.concat_tables([part.table(baseline) for part in parts])
    baseline_j = float(np.nansum(np.array(table["baseline_j"].fill_null(0.0))))
    unattributed_j = sum(sum(p.own.unattributed_j.values()) for p in parts) + sum(rest.values())
    totals = {
        "unattributed_j": repr(float(unattributed_j)),
        "baseline_j": repr(baseline_j),
        "drawn_j": repr(float(sum(sum(p.own.drawn_j.values()) for p in parts) + sum(rest.values()))),
        "channels": json.dumps([t.channel.id for t in traces]),
        "estimated": str(any(t.channel.estimated for t in traces)).lower(),
        "rule": RULE
        + ("" if np.all(file.spans.weight == file.spans.weight[0]) else "; the weights are those of the file"),
        "notes": json.dumps([*file.notes, *notes]),
    }
    return table.replace_schema_metadata(totals)


# ---- clocks ----


def _offset_ns(result: Result, file: SpanFile, clock: str, shift_s: float) -> tuple[int, list[str]]:
    """What to add to instants of the file to get CLOCK_MONOTONIC."""
    if clock not in CLOCKS:
        raise ValueError(f"clock must be one of {', '.join(CLOCKS)}, not {clock!r}")
    if not abs(shift_s) < LARGEST_NS / NS_PER_S / 4:
        raise ValueError(f"shift must be a number of seconds, not {shift_s!r}")
    middle_ns = np.array([int(file.spans.begin_ns.min()) // 2 + int(file.spans.end_ns.max()) // 2])
    on_wall_ns = int(WallClock(result.metadata).monotonic(middle_ns)[0][0] - middle_ns[0])
    offsets = {"monotonic": 0, "realtime": on_wall_ns, "start": result.start_ns}
    asked = file.clock if clock == "auto" else clock
    if clock == "auto" and asked == "start":
        raise TraceError(
            f"{file.path} is of {file.source}, and its times count from its own begin. Give --clock start if the "
            "program began with the run, and --shift SECONDS for the time between both begins"
        )
    first_ns, last_ns = int(file.spans.begin_ns.min()), int(file.spans.end_ns.max())
    shift_ns = round(shift_s * NS_PER_S)
    away_s: dict[str, float] = {}
    for name in [asked] if asked else ["monotonic", "realtime"]:
        begin_ns, end_ns = (at + offsets[name] + shift_ns for at in (first_ns, last_ns))
        if end_ns >= result.start_ns and begin_ns <= result.end_ns and end_ns - begin_ns < LARGEST_NS:
            return offsets[name] + shift_ns, []
        before_ns = result.start_ns - end_ns
        away_s[name] = (before_ns if before_ns > 0 else result.end_ns - begin_ns) / NS_PER_S
    way = {name: f"{abs(s):.6g} s {'before' if s > 0 else 'after'} the run" for name, s in away_s.items()}
    if asked:
        raise TraceError(f"{file.path} must be of the time of the run; on the clock {asked} its spans are {way[asked]}")
    raise TraceError(
        f"{file.path} must be of the time of the run; its spans are {way['monotonic']} if they are on CLOCK_MONOTONIC, "
        f"and {way['realtime']} if they count from 1970. Give --clock start if they count from the begin of the run"
    )


# ---- channels ----


def _places(
    file: SpanFile, traces: Sequence[Trace], asked: bool, gpus: dict[int, str], notes: list[str]
) -> list[tuple[int, list[Trace]]]:
    """For each device of the file its channels."""
    devices = np.unique(file.device).tolist()
    if not file.knows_devices or (devices == [-1] and asked):
        return [(-1, list(traces))]
    boards = [t for t in traces if kind_of(t.channel.id) == "gpu"]
    by_id = {t.channel.id: t for t in traces}
    places: list[tuple[int, list[Trace]]] = []
    for device in devices:
        if device < 0:
            found = [t for t in traces if kind_of(t.channel.id) != "gpu"]
        elif device in gpus:
            if gpus[device] not in by_id:
                raise ValueError(f"gpu must name a channel that is shared, {list(by_id)}, not {gpus[device]!r}")
            found = [by_id[gpus[device]]]
        else:
            found = boards[device : device + 1]
        if not found:
            notes.append(
                f"{_device(device, True)}: the run has no channel of it, so the energy of its spans is unknown"
            )
        places.append((device, found))
    return places


def _device(device: int, known: bool) -> str:
    return f"gpu {device}" if device >= 0 else "cpu" if known else "all"


def _baselines(baseline_w: Any, parts: Sequence[_Part]) -> float | dict[str, float]:
    baseline = check_baseline(baseline_w, [t.channel.id for part in parts for t in part.traces])
    if baseline and not isinstance(baseline, dict) and len(parts) > 1:
        raise ValueError("baseline_w must be given by channel, because the file has work of several devices")
    return baseline


class _Part:
    """The spans of one device and their energies."""

    def __init__(
        self,
        result: Result,
        file: SpanFile,
        spans: NestedSpans,
        inside: np.ndarray,
        device: int,
        traces: Sequence[Trace],
        each: bool,
    ) -> None:
        mine = file.device == device if file.knows_devices else np.ones(len(spans), bool)
        self.all_mine, self.traces, self.each = np.flatnonzero(mine), traces, each
        self.device = _device(device, file.knows_devices)
        kept = mine & inside
        self.codes = np.arange(len(spans)) if each else file.name
        self.groups, numbers = np.unique(self.codes[mine], return_inverse=True)
        group = np.zeros(len(spans), np.int64)
        group[mine] = numbers
        self.count = np.bincount(group[kept], minlength=len(self.groups))
        self.outside = np.bincount(group[mine & ~inside], minlength=len(self.groups))
        lengths = (spans.end_ns - spans.begin_ns)[kept] / NS_PER_S
        self.duration_s = np.bincount(group[kept], lengths, len(self.groups))
        self.begin_ns = spans.begin_ns
        self.rest = file.columns.take(self.groups) if each and file.columns is not None else None
        self.names = [file.names[c] for c in (file.name[self.groups] if each else self.groups).tolist()]
        self.own, self.total = own_and_total(result, traces, spans.where(kept), group[kept], len(self.groups))

    def table(self, baseline: float | dict[str, float]) -> pa.Table:
        own, baseline_j = _less(self.own, baseline)
        total, _ = _less(self.total, baseline)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = total.energy_j / self.count
        unknown = (self.count == 0) | (not self.traces)
        columns: dict[str, Any] = {
            "name": pa.array(self.names, pa.string()),
            "device": pa.array([self.device] * len(self.names), pa.string()),
        }
        if self.each:
            columns["begin_ns"] = pa.array(self.begin_ns[self.groups], pa.int64())
        else:
            columns["count"], columns["outside"] = pa.array(self.count), pa.array(self.outside)
        columns["duration_s"] = pa.array(self.duration_s, pa.float64(), mask=unknown & (self.count == 0))
        energies = {
            "energy_j": own.energy_j,
            "energy_low_j": own.low_j,
            "energy_high_j": own.high_j,
            "baseline_j": baseline_j,
            "total_energy_j": total.energy_j,
            "total_energy_low_j": total.low_j,
            "total_energy_high_j": total.high_j,
            **({} if self.each else {"mean_energy_j": mean}),
        }
        columns |= {name: pa.array(values, pa.float64(), mask=unknown) for name, values in energies.items()}
        units = {name: name.rpartition("_")[2] for name in columns}
        known = {"j": "J", "s": "s", "ns": "ns"}
        fields = [
            pa.field(name, column.type, metadata=unit_metadata(known[units[name]]) if units[name] in known else None)
            for name, column in columns.items()
        ]
        table = pa.table(list(columns.values()), schema=pa.schema(fields))
        if self.rest is not None:
            for field, values in zip(self.rest.schema, self.rest.columns, strict=True):
                if field.name not in table.column_names:
                    table = table.append_column(field, values)
        return table


def _less(found: Shares, baseline: float | dict[str, float]) -> tuple[Bounded, np.ndarray]:
    """The energies of all channels without the baseline, and the baseline's part of each."""
    zeros = Bounded.zeros(len(found.time_s))
    if not isinstance(baseline, dict):
        apart = set_apart(found.together, found.time_s, baseline)
        return apart.left, apart.baseline_j + np.zeros(len(found.time_s))
    parts = [set_apart(b, found.time_s, baseline.get(k, 0.0)) for k, b in found.by_channel.items()]
    return sum((p.left for p in parts), zeros), sum((p.baseline_j for p in parts), np.zeros(len(found.time_s)))
