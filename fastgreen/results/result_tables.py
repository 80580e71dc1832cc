"""The Arrow tables of a finished run: its channels, its windows, their summary, and its power over time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa

from fastgreen.guards.arguments import number
from fastgreen.results.durations import Durations
from fastgreen.results.following import windows_named
from fastgreen.results.questions import WindowsQuestion, ask
from fastgreen.results.together import BLOCK, TogetherQuestion
from fastgreen.results.trace import Bounded, Trace, Windows, learn
from fastgreen.results.window_amounts import amount_columns, summed
from fastgreen.sensors.channel import least_certain
from fastgreen.units import NS_PER_S, unit_metadata

if TYPE_CHECKING:
    from fastgreen.results.energies import Energies
    from fastgreen.results.following import Following

__all__ = [
    "channel_table",
    "picture_step_s",
    "power_table",
    "resolved_s",
    "summary_rows",
    "summary_table",
    "together_by_name",
    "window_table",
]

_MOST_STEPS = 10_000_000
_STEPS = 500  # of a power curve whose step nobody chose: as many as a picture shows

_MOST_ANSWERS = 1 << 21  # windows whose answers wait at one time: 100 MB
_OF_A_QUESTION = 1 << 9  # a resolver takes as much memory as the answers of so many windows

_ENERGIES = {"energy_j": "energy_j", "energy_low_j": "low_j", "energy_high_j": "high_j"}


# ---- channels ----


def channel_table(traces: Sequence[Trace], totals: Mapping[str, Bounded]) -> pa.Table:
    """A row per channel; `totals` are their energies by id."""
    rows = [_channel_row(trace, totals) for trace in traces]
    return _table(
        rows,
        [
            ("id", "string", None),
            ("energy_j", "float64", "J"),
            ("energy_low_j", "float64", "J"),
            ("energy_high_j", "float64", "J"),
            ("mean_power_w", "float64", "W"),
            ("samples", "int64", None),
            ("updates", "int64", None),
            ("update_period_s", "float64", "s"),
            ("missed", "int64", None),
            ("lost", "int64", None),
            ("read_errors", "int64", None),
            ("estimated", "bool", None),
            ("method", "string", None),
            ("counted", "bool", None),
            ("restarts", "int64", None),
            ("jumps", "int64", None),
            ("standstills", "int64", None),
            ("mean_read_s", "float64", "s"),
            ("update_longest_s", "float64", "s"),
            ("averaging_s", "float64", "s"),
            ("coverage", "float64", None),
            ("ratio_to_counter", "float64", None),
            ("status", "string", None),
            ("note", "string", None),
            ("name", "string", None),
            ("bounds", "string", None),
        ],
    )


def _channel_row(trace: Trace, totals: Mapping[str, Bounded]) -> tuple:
    tally, total = trace.learnt, totals[trace.channel.id]
    seconds = (tally["end_at_ns"] - tally["first_at_ns"]) / NS_PER_S
    known = trace.has_data
    return (
        trace.channel.id,
        float(total.energy_j) if known and not trace.dead else None,
        *((float(x) if known else None) for x in (total.low_j, total.high_j)),
        float(total.energy_j) / seconds if known and not trace.dead and seconds > 0 else None,
        tally["samples"],
        tally["updates"],
        tally["period_mean_ns"] / NS_PER_S if tally["period_mean_ns"] else None,
        tally["missed"],
        tally["lost"],
        tally["read_errors"],
        trace.channel.estimated,
        trace.method,
        trace.counted,
        trace.restarts,
        trace.jumps,
        len(tally.get("still_ns", [])),
        tally["read_mean_ns"] / NS_PER_S if known else None,
        tally["period_upper_ns"] / NS_PER_S if tally["period_upper_ns"] else None,
        trace.channel.averaging_s,
        trace.channel.coverage,
        _ratio_to_counter(trace, totals),
        tally.get("why_ended") or ("ok" if known else tally.get("last_error") or "no reading"),
        trace.channel.note,
        trace.channel.name,
        trace.channel.bounds,
    )


def _ratio_to_counter(trace: Trace, totals: Mapping[str, Bounded]) -> float | None:
    """Integrated power over the energy that the channel's own counter showed, where there is one."""
    counter = totals.get(trace.channel.parent or "")
    if trace.channel.kind != "power" or counter is None or not counter.energy_j > 0:
        return None
    return float(totals[trace.channel.id].energy_j / counter.energy_j)


# ---- windows ----


class Followable(Protocol):
    """A run: a `Result`."""

    traces: list[Trace]

    @property
    def estimated(self) -> bool: ...
    @property
    def following(self) -> Following: ...


def window_table(result: Followable, chosen: list[Windows], per_channel: bool) -> pa.Table:
    """A row per stretch of the chosen windows, of all counted channels together or of each channel."""
    traces = result.traces
    if per_channel and not traces:
        chosen = []
    parts = []
    for trace in _rows_of(traces, per_channel):
        columns = _window_columns(chosen)
        energies = [_energies(traces, w, trace, result.following) for w in chosen]
        for key, attribute in _ENERGIES.items():
            columns[key] = np.concatenate([getattr(e, attribute) for e in energies]) if energies else np.empty(0)
        columns.update(amount_columns(chosen, columns))
        parts.append(_with_channel(columns, trace, per_channel))
    units = {"start_ns": "ns", "duration_s": "s", **dict.fromkeys(_ENERGIES, "J")}
    return _joined(parts, units, result.estimated, _least_certain(traces, per_channel))


def _rows_of(traces: Sequence[Trace], per_channel: bool) -> Sequence[Trace | None]:
    """What a table has rows of: every channel, or None for all that are counted."""
    return (traces or [None]) if per_channel else [None]


def _with_channel(columns: dict[str, Any], trace: Trace | None, per_channel: bool) -> pa.Table:
    if per_channel:
        rows = len(next(iter(columns.values())))
        ids = pa.array([trace.channel.id] if trace else [], pa.string())
        columns["channel"] = pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), ids)
    return pa.table(columns)


def _least_certain(traces: Sequence[Trace], per_channel: bool = False) -> str:
    """`Channel.bounds` of a table's energies: of all counted channels together, or of the least certain channel."""
    return least_certain(t.channel for t in traces if t.has_data and (t.counted or per_channel))


def _joined(parts: list[pa.Table], units: Mapping[str, str], estimated: bool, bounds: str) -> pa.Table:
    table = pa.concat_tables(parts).unify_dictionaries()
    fields = [f.with_metadata(unit_metadata(units[f.name])) if f.name in units else f for f in table.schema]
    return table.cast(pa.schema(fields)).replace_schema_metadata(
        {"estimated": str(estimated).lower(), "bounds": bounds}
    )


def _window_columns(chosen: list[Windows]) -> dict[str, Any]:
    names = list(dict.fromkeys(w.name for w in chosen))
    codes = [np.full(len(w), names.index(w.name), np.int32) for w in chosen]
    starts = dict.fromkeys(names, 0)
    index = []
    for w in chosen:
        index.append(np.arange(starts[w.name], starts[w.name] + len(w)))
        starts[w.name] += len(w)
    join = lambda arrays, dtype: np.concatenate(arrays) if arrays else np.empty(0, dtype)  # noqa: E731
    return {
        "name": pa.DictionaryArray.from_arrays(join(codes, np.int32), pa.array(names, pa.string())),
        "index": join(index, np.int64),
        "start_ns": join([w.begin_ns for w in chosen], np.int64),
        "duration_s": join([(w.end_ns - w.begin_ns) / NS_PER_S for w in chosen], np.float64),
    }


def _energies(
    traces: Sequence[Trace], windows: Windows, trace: Trace | None, following: Following | None = None
) -> Bounded:
    if trace is not None:
        return _follow(trace.windows(windows.begin_ns, windows.end_ns), trace, windows, following)
    counted = [t for t in traces if t.counted and t.has_data]
    learn(counted)
    total = Bounded.zeros(len(windows))
    for some in _groups(counted, len(windows)):
        asked = [WindowsQuestion(t, windows.begin_ns, windows.end_ns) for t in some]
        ask(asked)
        for t, question in zip(some, asked, strict=True):
            total = total + _follow(question.answer(), t, windows, following)
    return total


def _groups(traces: Sequence[Trace], windows: int) -> Iterator[Sequence[Trace]]:
    """As many traces at a time as memory bears answers of; each group reads its file once."""
    size = max(_MOST_ANSWERS // max(windows, 1), 1)
    return (traces[first : first + size] for first in range(0, len(traces), size))


def together_by_name(
    traces: Sequence[Trace], named: Mapping[str, list[Windows]], following: Following
) -> dict[str, Bounded]:
    """The energy of all windows of each name."""
    counted = [t for t in traces if t.counted and t.has_data]
    learn(counted)
    totals = dict.fromkeys(named, Bounded(0.0, 0.0, 0.0))
    waiting: list[tuple[str, Trace, Windows, TogetherQuestion]] = []
    room = _MOST_ANSWERS
    pairs = [(t, name, w) for t in counted for name, handles in named.items() for w in handles]
    for n, (trace, name, windows) in enumerate(pairs):
        waiting.append((name, trace, windows, TogetherQuestion(trace, windows)))
        room -= min(len(windows), BLOCK) + _OF_A_QUESTION
        if room > 0 and n + 1 < len(pairs):
            continue
        ask([question for *_, question in waiting])
        for of, t, w, question in waiting:
            totals[of] += _follow(question.answer(), t, w, following)
        waiting, room = [], _MOST_ANSWERS
    return totals


def _follow(bounded: Bounded, trace: Trace, windows: Windows, following: Following | None) -> Bounded:
    """The same bounds, and the energies that follow the load where the trace does."""
    followed = following.of(trace) if following is not None else None
    if followed is None:
        return bounded
    energy_j: Any = followed.windows_j(windows.begin_ns, windows.end_ns)
    if np.ndim(bounded.low_j) == 0:
        energy_j = float(energy_j.sum())
    # The curve is within the bounds; its sums are rounded.
    return Bounded(np.clip(energy_j, bounded.low_j, bounded.high_j), bounded.low_j, bounded.high_j)


def summary_table(result: Followable, named: Mapping[str, list[Windows]], unions: Mapping[str, Bounded]) -> pa.Table:
    """A row per name of its windows: count, energies with bounds and interval, mean power, durations.

    `unions` holds the energies of the names whose windows overlap.
    """
    rows = []
    totals = together_by_name(result.traces, named, result.following)
    done = summed(named)
    amounts = list(dict.fromkeys(amount for sums in done.values() for amount in sums))
    for name, handles in named.items():
        total, durations = totals[name], Durations(handles)
        count, seconds = durations.count, durations.total_s()
        energies = [float(x) for x in (total.energy_j, total.low_j, total.high_j)]
        interval = result.following.interval(windows_named(name)).over(count)
        rows.append(
            (
                name,
                count,
                *energies,
                *(x / count for x in energies),
                energies[0] / seconds if seconds > 0 else None,
                seconds,
                *durations.percentiles_s([50, 95, 99]),
                result.estimated,
                _least_certain(result.traces),
                *interval.around(energies[0] / count),
                interval.method,
                interval.reason,
                *_three(unions.get(name)),
                *(value for amount in amounts for value in _per_amount(energies, done[name].get(amount))),
            )
        )
    return summary_rows(rows, amounts)


def summary_rows(rows: list[tuple], amounts: Sequence[str]) -> pa.Table:
    """The rows of a summary as its table."""
    return _table(
        rows,
        [
            ("name", "string", None),
            ("count", "int64", None),
            ("energy_j", "float64", "J"),
            ("energy_low_j", "float64", "J"),
            ("energy_high_j", "float64", "J"),
            ("mean_energy_j", "float64", "J"),
            ("mean_energy_low_j", "float64", "J"),
            ("mean_energy_high_j", "float64", "J"),
            ("mean_power_w", "float64", "W"),
            ("total_duration_s", "float64", "s"),
            ("duration_p50_s", "float64", "s"),
            ("duration_p95_s", "float64", "s"),
            ("duration_p99_s", "float64", "s"),
            ("estimated", "bool", None),
            ("bounds", "string", None),
            ("mean_energy_ci_low_j", "float64", "J"),
            ("mean_energy_ci_high_j", "float64", "J"),
            ("method", "string", None),
            ("interval_note", "string", None),
            ("union_energy_j", "float64", "J"),
            ("union_energy_low_j", "float64", "J"),
            ("union_energy_high_j", "float64", "J"),
            *(column for amount in amounts for column in _amount_fields(amount)),
        ],
    )


def _amount_fields(amount: str) -> list[tuple[str, str, str | None]]:
    energies = ((f"energy_per_{amount}{end}_j", "float64", "J") for end in ("", "_low", "_high"))
    return [(f"total_{amount}", "float64", None), *energies]


def _per_amount(energies: list[float], total: float | None) -> list[float | None]:
    """The sum of an amount, and the energy of the windows per one of it, with bounds."""
    known = total is not None and total > 0
    return [total, *(x / total if known and total else None for x in energies)]


def _three(energies: Bounded | None) -> list[float | None]:
    return [None] * 3 if energies is None else [float(x) for x in (energies.energy_j, energies.low_j, energies.high_j)]


def _table(rows: list[tuple], columns: list[tuple[str, str, str | None]]) -> pa.Table:
    kinds = {"string": pa.string(), "float64": pa.float64(), "int64": pa.int64(), "bool": pa.bool_()}
    arrays = [pa.array([row[i] for row in rows], kinds[kind]) for i, (_, kind, _) in enumerate(columns)]
    fields = [
        pa.field(name, kinds[kind], metadata=unit_metadata(unit) if unit else None) for name, kind, unit in columns
    ]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


# ---- power over time ----


def power_table(result: Energies, step_s: float | None, per_channel: bool) -> pa.Table:
    """The run in equal steps and the mean power of each; see `fastgreen.Result.power`."""
    steps = _steps(result, step_s)
    if per_channel and not result.traces:
        steps = Windows("", 0, steps.begin_ns[:0], steps.end_ns[:0])
    durations_s = (steps.end_ns - steps.begin_ns) / NS_PER_S
    realtime = steps.begin_ns + (result.metadata["realtime_ns"] - result.metadata["monotonic_ns"])
    powers = {"power_w": "energy_j", "power_low_w": "low_j", "power_high_w": "high_j"}
    parts = []
    for trace in _rows_of(result.traces, per_channel):
        columns: dict[str, Any] = {
            "time": pa.array(realtime).cast(pa.timestamp("ns", "UTC")),
            "start_ns": steps.begin_ns,
            "duration_s": durations_s,
        }
        energies = _energies(result.traces, steps, trace)
        known = trace.has_data if trace is not None else result.known
        for key, attribute in powers.items():
            watts = getattr(energies, attribute) / durations_s
            columns[key] = pa.array(watts, mask=np.full(len(watts), not known))
        parts.append(_with_channel(columns, trace, per_channel))
    units = {"start_ns": "ns", "duration_s": "s", **dict.fromkeys(powers, "W")}
    return _joined(parts, units, result.estimated, _least_certain(result.traces, per_channel))


def _steps(result: Energies, step_s: float | None) -> Windows:
    """The run from its first to its last reading, cut; no steps where no time passed."""
    if step_s is None:
        step_s = _round_step_s(result)
    if isinstance(step_s, bool) or not isinstance(step_s, (int, float)) or not 0 < step_s < math.inf:
        raise ValueError(f"step_s must be a number of seconds above 0, not {step_s!r}")
    if result.duration_s / number("step_s", step_s) > _MOST_STEPS:
        raise ValueError(f"step_s of {step_s:g} s cuts {result.duration_s:.4g} s into more than {_MOST_STEPS:,} steps")
    step_ns = max(1, round(step_s * NS_PER_S))
    # A last piece of less than half a step would show the noise of the first and the last reading, not a power.
    last_ns = max(result.end_ns - step_ns // 2, min(result.start_ns + 1, result.end_ns))
    begin_ns = np.arange(result.start_ns, last_ns, step_ns, dtype=np.int64)
    return Windows("", 0, begin_ns, np.append(begin_ns[1:], result.end_ns)[: len(begin_ns)])


def _round_step_s(result: Energies) -> float:
    """1, 2 or 5 times a power of ten: at most 500 steps, none shorter than a counted sensor's mean update."""
    # None for a channel that was seen to update once at most: it says nothing of how long an update takes
    periods_ns = [t.learnt["period_mean_ns"] or 0 for t in result.traces if t.counted and t.has_data]
    slowest_ns = max(periods_ns, default=0)
    least_s = max(result.duration_s / _STEPS, slowest_ns / NS_PER_S, 1e-6)
    decade = 10.0 ** math.floor(math.log10(least_s))
    return next(n * decade for n in (1.0, 2.0, 5.0, 10.0) if n * decade >= least_s)


def resolved_s(traces: list[Trace]) -> float:
    """The mean time between two readings or two updates of the slowest of these channels, in s."""
    longest = 1e-6
    for trace in traces:
        tally = trace.learnt
        between_ns = (tally["end_at_ns"] - tally["first_at_ns"]) / max(tally["samples"] - 1, 1)
        longest = max(longest, between_ns / NS_PER_S, (tally["period_mean_ns"] or 0) / NS_PER_S)
    return longest


def picture_step_s(result: Energies) -> float:
    """The step of a picture: what the samples resolve well, so that bounds are narrow, and not more than fit.

    It is twenty times `resolved_s`; ten times, and less, where a run would have fewer than 100 or 20 steps. As in a
    page of `fastgreen.to_html`.
    """
    counted = [t for t in result.traces if t.counted and t.has_data and not t.dead]
    if not counted or result.duration_s <= 0:
        return _round_step_s(result)
    resolved = resolved_s(counted)
    wanted_s = resolved * (20 if result.duration_s >= 2000 * resolved else 10)
    least_s = max(result.duration_s / _STEPS, min(wanted_s, max(result.duration_s / 20, resolved)))
    decade = 10.0 ** math.floor(math.log10(least_s))
    return next(n * decade for n in (1.0, 2.0, 5.0, 10.0, 20.0) if n * decade >= least_s)
