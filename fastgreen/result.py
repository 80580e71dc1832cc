"""What a monitor measured, as Arrow tables, as numbers, as a table for people, and as a folder of files."""

from __future__ import annotations

import os
from functools import cached_property

from fastgreen import _core
from fastgreen.trace import Bounded, Trace, Windows
from fastgreen.units import NS_PER_S, counted, unit_metadata

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Any

    import numpy as np
    import pyarrow as pa

    from fastgreen.gpu_edges import Lane

__all__ = ["Result", "load"]

_WH_PER_J = 1 / 3600


class Result:
    """Energies of a finished run.

    It needs neither its monitor nor its process: it can be pickled, copied and sent. What was recorded to files stays
    there, and is read from there when it is asked for.

    Attributes
    ----------
    energy_j, energy_low_j, energy_high_j : float
        Energy of all counted channels together and its bounds, in J; 0 where nothing could be read.
    energy_wh : float
        The same in Wh.
    duration_s : float
        From the first reading to the last.
    mean_power_w : float
    known : bool
        False when no counted channel gave a reading: the energies are then 0 and mean nothing.
    estimated : bool
        True when any counted channel is a model and not a measurement.
    start_ns, end_ns : int
        First and last reading, ns of CLOCK_MONOTONIC.
    metadata : dict
        Format, package version, host, and one instant on both clocks (``realtime_ns``, ``monotonic_ns``).
    notes : list of str
        What a reader should know: channels that could not be read, windows that were left open, ...
    """

    def __init__(
        self,
        traces: list[Trace],
        windows: list[Windows] | Callable[[], list[Windows]],
        metadata: dict[str, Any],
        start_ns: int,
        end_ns: int,
        notes: list[str] | None = None,
    ) -> None:
        self.traces = traces
        self.metadata = metadata
        self.given_notes = list(notes or [])
        self._given_windows = windows
        self._span = start_ns, end_ns
        read = [t for t in traces if t.has_data]
        self.start_ns = min((t.report["first_at_ns"] for t in read), default=start_ns)
        self.end_ns = max((t.report["end_at_ns"] for t in read), default=end_ns)

    @cached_property
    def _windows(self) -> list[Windows]:
        given = self._given_windows
        self._given_windows = [w for w in (given() if callable(given) else given) if len(w)]
        return self._given_windows

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled and copied: the windows, and not the handles that they were entered through."""
        return {**self.__dict__, "_given_windows": self._windows}

    @property
    def notes(self) -> list[str]:
        """What a reader should know of this run, a sentence each."""
        out = list(self.given_notes)
        for trace in self.traces:
            identity, report = trace.channel.id, trace.report
            if not trace.has_data:
                out.append(f"{identity} gave no reading: {report.get('last_error') or 'unknown reason'}")
            elif report.get("why_ended"):
                out.append(f"{identity} ended early: {report['why_ended']}")
            out += [
                f"{identity} was not read for {(p.end_ns - p.begin_ns) / NS_PER_S:.3g} s, in which it can have wrapped "
                f"unseen: up to {p.hidden_j:.6g} J more, which its upper bounds contain"
                for p in trace.pauses
            ]
        if not self.known:
            out.append("no channel gave a reading, so the energies of this run are unknown; they stand as 0")
        return out

    @property
    def known(self) -> bool:
        """Whether any counted channel was read; if not, every energy is 0 for want of a reading."""
        return any(t.counted and t.has_data for t in self.traces)

    # ---- numbers ----

    @cached_property
    def totals(self) -> dict[str, Bounded]:
        """Energy of each channel with its bounds, by id; NaN for one that was never read."""
        return {t.channel.id: t.total() for t in self.traces}

    @cached_property
    def _total(self) -> Bounded:
        counted = [self.totals[t.channel.id] for t in self.traces if t.counted and t.has_data]
        return sum(counted, Bounded(0.0, 0.0, 0.0))

    @property
    def energy_j(self) -> float:
        """Energy of all counted channels together, in J; 0 where nothing could be read (see `known`)."""
        return float(self._total.energy_j)

    @property
    def energy_low_j(self) -> float:
        """The least that it can have been, in J."""
        return float(self._total.low_j)

    @property
    def energy_high_j(self) -> float:
        """The most that it can have been, in J."""
        return float(self._total.high_j)

    @property
    def energy_wh(self) -> float:
        """`energy_j` in Wh."""
        return self.energy_j * _WH_PER_J

    @property
    def duration_s(self) -> float:
        """From the first reading to the last, in s."""
        return (self.end_ns - self.start_ns) / NS_PER_S

    @property
    def mean_power_w(self) -> float:
        """`energy_j` over `duration_s`, in W; NaN where no time passed."""
        return self.energy_j / self.duration_s if self.duration_s > 0 else float("nan")

    @property
    def estimated(self) -> bool:
        """Whether any counted channel is a model and not a measurement."""
        return any(t.channel.estimated for t in self.traces if t.counted)

    @property
    def names(self) -> list[str]:
        """The names of the windows, in the order of their first use."""
        return list(dict.fromkeys(w.name for w in self._windows))

    # ---- tables ----

    @cached_property
    def channels(self) -> pa.Table:
        """A row per channel: id, energies (J), power (W), counts, how it was measured and what became of it.

        ``energy_j`` is null for a channel that was never read; ``counted`` says which rows make up the total.
        """
        rows = [self._channel_row(t) for t in self.traces]
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
                ("mean_read_s", "float64", "s"),
                ("update_longest_s", "float64", "s"),
                ("averaging_s", "float64", "s"),
                ("coverage", "float64", None),
                ("ratio_to_counter", "float64", None),
                ("status", "string", None),
                ("note", "string", None),
            ],
        )

    def _channel_row(self, trace: Trace) -> tuple:
        report, total = trace.report, self.totals[trace.channel.id]
        seconds = (report["end_at_ns"] - report["first_at_ns"]) / NS_PER_S
        known = trace.has_data
        return (
            trace.channel.id,
            *((float(x) if known else None) for x in (total.energy_j, total.low_j, total.high_j)),
            float(total.energy_j) / seconds if known and seconds > 0 else None,
            report["samples"],
            report["updates"],
            report["period_mean_ns"] / NS_PER_S if report["period_mean_ns"] else None,
            report["missed"],
            report["lost"],
            report["read_errors"],
            trace.channel.estimated,
            trace.method,
            trace.counted,
            report["resets"],
            report["read_mean_ns"] / NS_PER_S if known else None,
            report["period_upper_ns"] / NS_PER_S if report["period_upper_ns"] else None,
            trace.channel.averaging_s,
            trace.channel.coverage,
            self._ratio_to_counter(trace),
            report.get("why_ended") or ("ok" if known else report.get("last_error") or "no reading"),
            trace.channel.note,
        )

    def _ratio_to_counter(self, trace: Trace) -> float | None:
        """Integrated power over the energy that the channel's own counter showed, where there is one."""
        counter = self.totals.get(trace.channel.parent or "")
        if trace.channel.kind != "power" or counter is None or not counter.energy_j > 0:
            return None
        return float(self.totals[trace.channel.id].energy_j / counter.energy_j)

    def samples(self, channel: str | None = None) -> pa.Table:
        """Every sample: channel, time (timestamp[ns, UTC]), monotonic_ns, raw (in the channel's own unit), and how it
        was read (half_read_ns, wraps, flags: 1 a gap before it, 2 the counter restarted).

        Parameters
        ----------
        channel : str, optional
            Only this one. ChannelNotFound for one that the run does not have.
        """
        import pyarrow as pa

        from fastgreen import arrow

        traces = self.traces if channel is None else [self.trace(channel)]
        schema = arrow.with_metadata(arrow.SAMPLES, self.metadata)
        batches = [
            arrow.sample_batch(t.channel.id, chunk, self.metadata, schema) for t in traces for chunk in t.chunks()
        ]
        return pa.Table.from_batches(batches, schema=schema).unify_dictionaries()

    def trace(self, channel: str) -> Trace:
        """The trace of one channel. ChannelNotFound for one that the run does not have."""
        from fastgreen.errors import ChannelNotFound

        for trace in self.traces:
            if trace.channel.id == channel:
                return trace
        raise ChannelNotFound(f"the run has no channel {channel!r}; it has {[t.channel.id for t in self.traces]}")

    def windows(self, name: str | None = None, per_channel: bool = False) -> pa.Table:
        """A row per stretch of a window: name, index, start_ns, duration_s, energy_j, energy_low_j, energy_high_j.

        The schema's metadata say whether the energies are ``estimated``.

        Parameters
        ----------
        name : str, optional
            Only windows of this name. KeyError for one that was never used.
        per_channel : bool
            A row per stretch and channel, with a column ``channel``, counted or not.
        """
        import numpy as np
        import pyarrow as pa

        chosen = self._named(name) if self.traces or not per_channel else []
        parts = []
        wanted: list[Trace | None] = [*self.traces] or [None]
        for trace in wanted if per_channel else [None]:
            columns: dict[str, Any] = self._window_columns(chosen)
            energies = [self._energies(w, trace) for w in chosen]
            for key, attribute in (("energy_j", "energy_j"), ("energy_low_j", "low_j"), ("energy_high_j", "high_j")):
                columns[key] = np.concatenate([getattr(e, attribute) for e in energies]) if energies else np.empty(0)
            if per_channel:
                ids = pa.array([trace.channel.id] if trace else [], pa.string())
                columns["channel"] = pa.DictionaryArray.from_arrays(np.zeros(len(columns["index"]), np.int32), ids)
            parts.append(pa.table(columns))
        table = pa.concat_tables(parts).unify_dictionaries()
        units = {"start_ns": "ns", "duration_s": "s", "energy_j": "J", "energy_low_j": "J", "energy_high_j": "J"}
        return _with_units(table, units).replace_schema_metadata({"estimated": str(self.estimated).lower()})

    def _named(self, name: str | None) -> list[Windows]:
        if name is not None and name not in self.names:
            raise KeyError(f"no window {name!r} was entered; there are {self.names or 'none'}")
        return [w for w in self._windows if name is None or w.name == name]

    def _window_columns(self, chosen: list[Windows]) -> dict[str, Any]:
        import numpy as np
        import pyarrow as pa

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

    def _energies(self, windows: Windows, trace: Trace | None) -> Bounded:
        if trace is not None:
            return trace.windows(windows.begin_ns, windows.end_ns)
        counted = [t for t in self.traces if t.counted and t.has_data]
        return sum((t.windows(windows.begin_ns, windows.end_ns) for t in counted), Bounded.zeros(len(windows)))

    def summary(self) -> pa.Table:
        """A row per window name: count, total and mean energy (J) with bounds, mean power (W), durations (s).

        The bounds of the sum are those of the stretches taken together (`fastgreen.trace.Trace.together`), so the mean
        energy of many short windows is known far better than that of one.
        """
        import numpy as np

        rows = []
        for name in self.names:
            handles = self._named(name)
            total = sum(
                (t.together(w) for t in self.traces if t.counted and t.has_data for w in handles),
                Bounded(0.0, 0.0, 0.0),
            )
            durations = np.concatenate([w.end_ns - w.begin_ns for w in handles]) / NS_PER_S
            count, seconds = len(durations), float(durations.sum())
            p50, p95, p99 = np.percentile(durations, [50, 95, 99])
            rows.append(
                (
                    name,
                    count,
                    float(total.energy_j),
                    float(total.low_j),
                    float(total.high_j),
                    float(total.energy_j) / count,
                    float(total.low_j) / count,
                    float(total.high_j) / count,
                    float(total.energy_j) / seconds if seconds > 0 else None,
                    seconds,
                    float(p50),
                    float(p95),
                    float(p99),
                    self.estimated,
                )
            )
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
            ],
        )

    # ---- files and people ----

    def save(self, path: str | os.PathLike) -> None:
        """Write the run as a folder of Arrow files (DESIGN: channels, samples, windows). FileExistsError for a run."""
        from pathlib import Path

        from fastgreen.runfile import save_run

        save_run(Path(path), self.traces, self._windows, self.metadata, self.given_notes, self._span)

    def to_dict(self) -> dict[str, Any]:
        """Totals, channels and window summary as plain Python, for JSON."""
        return {
            "energy_j": self.energy_j,
            "energy_low_j": self.energy_low_j,
            "energy_high_j": self.energy_high_j,
            "energy_wh": self.energy_wh,
            "duration_s": self.duration_s,
            "mean_power_w": self.mean_power_w,
            "estimated": self.estimated,
            "notes": self.notes,
            "channels": self.channels.to_pylist(),
            "windows": self.summary().to_pylist(),
        }

    def __repr__(self) -> str:
        mark = " (estimated)" if self.estimated else ""
        return (
            f"<fastgreen.Result: {self.energy_j:.4g} J in {self.duration_s:.4g} s{mark}, "
            f"{counted(len(self.traces), 'channel')}>"
        )

    def __str__(self) -> str:
        from fastgreen.report import render

        return render(self)


def load(path: str | os.PathLike) -> Result:
    """Open a saved or recorded run.

    Parameters
    ----------
    path : path
        The folder that `Result.save` or ``Monitor(record=)`` wrote. Its samples stay on disk and are read when needed.

    Returns
    -------
    Result
        Of a run whose process was killed, what was recorded up to then; `Result.notes` says so.

    Raises
    ------
    TraceError
        When the folder holds no run, a damaged one, or one of a newer format.
    """
    from pathlib import Path

    from fastgreen.runfile import read_run

    traces, windows, metadata, notes, (start_ns, end_ns) = read_run(Path(path))
    return Result(traces, windows, metadata, start_ns, end_ns, notes)


# What a monitor gives its result to ask for later; apart from the monitor, which a result does not keep.


def finished_windows(handles: list[_core.Window | Lane]) -> list[Windows]:
    """The stretches of a monitor's handles."""
    return [Windows(handle.name, i, *handle.edges()) for i, handle in enumerate(handles)]


def kept_chunks(recorded: Path | None, channel: str, kept: list[bytearray]) -> Iterator[np.ndarray]:
    """The samples of a channel: those on disk, then those in memory."""
    if recorded is not None:
        from fastgreen.runfile import stored_chunks

        yield from stored_chunks(recorded, channel)
    yield from map(_core.samples, kept)


def _with_units(table: pa.Table, units: dict[str, str]) -> pa.Table:
    import pyarrow as pa

    fields = [f.with_metadata(unit_metadata(units[f.name])) if f.name in units else f for f in table.schema]
    return table.cast(pa.schema(fields))


def _table(rows: list[tuple], columns: list[tuple[str, str, str | None]]) -> pa.Table:
    import pyarrow as pa

    kinds = {"string": pa.string(), "float64": pa.float64(), "int64": pa.int64(), "bool": pa.bool_()}
    arrays = [pa.array([row[i] for row in rows], kinds[kind]) for i, (_, kind, _) in enumerate(columns)]
    fields = [
        pa.field(name, kinds[kind], metadata=unit_metadata(unit) if unit else None) for name, kind, unit in columns
    ]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))
