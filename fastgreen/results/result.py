"""What a monitor measured, as Arrow tables, as numbers, as a table for people, and as a folder of files."""

from __future__ import annotations

import os
from functools import cached_property

from fastgreen.guards.arguments import path_text
from fastgreen.guards.printable import encodable
from fastgreen.results.energies import Energies
from fastgreen.results.lies import lies
from fastgreen.results.trace import Trace, Windows, learn
from fastgreen.units import NS_PER_S, counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, Literal

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from fastgreen.results.bounded import Bounded
    from fastgreen.results.footprint import Footprint
    from fastgreen.results.ledger_spans import LedgerSpans

__all__ = ["Result"]


class Result(Energies):
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
        Energy over duration, in W.
    known : bool
        False when no counted channel gave a reading: the energies are then 0 and mean nothing.
    estimated : bool
        True when any counted channel is a model and not a measurement.
    bounds : str
        ``certain``, ``modelled`` or ``sampled``: quality of the low and high energies. The true energy can lie outside
        of sampled ones, which are those of a power sensor's readings.
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
        spans: Callable[[], pa.Table | None] | None = None,
    ) -> None:
        super().__init__(traces, metadata, start_ns, end_ns)
        self._given_spans = spans
        self.given_notes = list(notes or [])
        self._given_windows = windows
        self._span = start_ns, end_ns

    def _followed_work(self) -> tuple[list[Windows], NDArray[np.int64] | None]:
        if not self._ledgers:
            return self._windows, None
        from fastgreen.results.ledger_spans import activity_of_all

        did, edges_ns = activity_of_all(self._ledgers)
        return [*self._windows, *did], edges_ns

    @cached_property
    def _windows(self) -> list[Windows]:
        given = self._given_windows
        self._given_windows = [w for w in (given() if callable(given) else given) if len(w)]
        return self._given_windows

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled and copied: the windows, and not the handles that they were entered through."""
        state = {**self.__dict__, "_given_windows": self._windows}
        state.pop("following", None)  # it is made again where it is needed
        return state

    @property
    def notes(self) -> list[str]:
        """Notes on this run, a sentence each."""
        learn(self.traces)
        out = list(self.given_notes)
        for trace in self.traces:
            identity, tally = trace.channel.id, trace.tally
            if not trace.has_data:
                out.append(f"{identity} gave no reading: {tally.get('last_error') or 'unknown reason'}")
            elif tally.get("why_ended"):
                out.append(f"{identity} ended early: {tally['why_ended']}")
            out += lies(trace)
            out += [
                f"{identity} was not read for {(p.end_ns - p.begin_ns) / NS_PER_S:.3g} s, in which it can have wrapped "
                f"unseen: up to {p.hidden_j:.6g} J more, which its upper bounds contain"
                for p in trace.pauses
            ]
        out += [note for ledger in self._ledgers for note in ledger.notes]
        out += self._overlap_notes()
        if not self.known:
            out.append("no channel gave a reading, so the energies of this run are unknown and appear as 0")
        return out

    @property
    def names(self) -> list[str]:
        """The names of the windows, in the order of their first use."""
        return list(self._by_name)

    @cached_property
    def _by_name(self) -> dict[str, list[Windows]]:
        out: dict[str, list[Windows]] = {}
        for w in self._windows:
            out.setdefault(w.name, []).append(w)
        return out

    # ---- tables ----

    @cached_property
    def channels(self) -> pa.Table:
        """A row per channel: id, energies (J), power (W), counts, its method and its faults.

        ``energy_j`` is null for a channel that was never read; ``counted`` says which rows make up the total.
        """
        from fastgreen.results import result_tables

        return result_tables.channel_table(self.traces, self.totals)

    def samples(self, channel: str | None = None) -> pa.Table:
        """Every sample: channel, time (timestamp[ns, UTC]), monotonic_ns, raw (in the channel's own unit), and how it
        was read (half_read_ns, wraps, flags: 1 a gap before it, 2 the counter restarted).

        Parameters
        ----------
        channel : str, optional
            Only this one.

        Returns
        -------
        pyarrow.Table
            A row per sample, channel after channel, each in time order; units are in the field metadata.

        Raises
        ------
        ChannelNotFound
            For a channel that the run does not have.
        """
        import pyarrow as pa

        from fastgreen.results import run_folder

        traces = self.traces if channel is None else [self.trace(channel)]
        schema = run_folder.with_metadata(run_folder.SAMPLES, self.metadata)
        batches = [
            run_folder.sample_batch(t.channel.id, chunk, self.metadata, schema) for t in traces for chunk in t.chunks()
        ]
        return pa.Table.from_batches(batches, schema=schema).unify_dictionaries()

    def windows(self, name: str | None = None, per_channel: bool = False) -> pa.Table:
        """A row per stretch of a window: name, index, start_ns, duration_s, energy_j, energy_low_j, energy_high_j.

        The energy between two updates of a counter is given out by how much power the load draws inside and outside of
        windows, as fitted over the whole run. All windows lie on one curve, so their energies and the energy outside
        add up to the counter. The schema's metadata say whether the energies are ``estimated``, and the quality of
        their ``bounds`` (`bounds`; per channel, that of the least certain one).

        Parameters
        ----------
        name : str, optional
            Only windows of this name.
        per_channel : bool
            A row per stretch and channel, with a column ``channel``, counted or not.

        Returns
        -------
        pyarrow.Table
            ``start_ns`` is CLOCK_MONOTONIC, durations are s, energies J; an energy that is not known is null. A column
            for each name of amounts (`Window.add`), null for windows without.

        Raises
        ------
        KeyError
            For a name that was never used.
        """
        from fastgreen.results import result_tables

        return result_tables.window_table(self, self._named(name), per_channel)

    def _named(self, name: str | None) -> list[Windows]:
        name = encodable(name) if isinstance(name, str) else name  # as `Monitor.window` does
        if name is not None and name not in self._by_name:
            raise KeyError(f"no window {name!r} was entered; there are {self.names or 'none'}")
        return self._windows if name is None else self._by_name[name]

    def stretches(self) -> dict[str, list[Windows]]:
        """The stretches of each window name, a `Windows` per handle: ns of CLOCK_MONOTONIC, without energies."""
        return dict(self._by_name)

    def footprint(
        self, *, accuracy: float | None = None, alpha: float = 0.1, beta: float = 1.0, **settings: Any
    ) -> Footprint:
        """Money, carbon and SCI of the run, its windows and its spans; with an accuracy also APC and APEC.

        The settings are those of `fastgreen.results.footprint.footprint_of`: ``price``, ``carbon``, ``pue`` and others.
        A setting that is not given comes from the environment, ``fastgreen.toml`` or ``pyproject.toml``. ValueError for
        an impossible value, TraceError for a file of rates that does not cover the run.
        """
        from fastgreen.results.footprint import footprint_of

        return footprint_of(self, settings, accuracy, alpha, beta)

    def power(self, step_s: float | None = None, per_channel: bool = False) -> pa.Table:
        """Power over time: the run in equal steps, and the mean power of each with its bounds.

        A step's power is its energy, bounded as that of a window, over its length: however slow the sensor is, the
        powers times their lengths add up to the energy of the whole run within its bounds.

        Parameters
        ----------
        step_s : float, optional
            Length of a step in s; the last one takes in a rest of less than half a step, or is shorter itself. By
            default a round number that gives at most 500 steps, none shorter than the slowest counted sensor takes
            to update on average.
        per_channel : bool
            A row per step and channel, with a column ``channel``, counted or not.

        Returns
        -------
        pyarrow.Table
            Columns ``time`` (timestamp[ns, UTC]) and ``start_ns`` (CLOCK_MONOTONIC) of the step's begin, ``duration_s``
            in s, and ``power_w``, ``power_low_w``, ``power_high_w`` in W; a power that is not known is null. The
            schema's metadata say whether they are ``estimated``, and the quality of their ``bounds``.

        Raises
        ------
        ValueError
            For a step that is not above 0, or so short that there were more than ten million.
        """
        from fastgreen.results import result_tables

        return result_tables.power_table(self, step_s, per_channel)

    def summary(self) -> pa.Table:
        """A row per window name: count, total and mean energy (J) with bounds, mean power (W), durations (s).

        The bounds of the sum are those of the stretches taken together (`Trace.together`). So the mean energy of many
        adjoining short windows is known far better than that of one. Gaps between windows that are shorter than an
        update period, or the time between two readings, widen it: their energy can have been spent inside or outside.
        The column ``bounds`` is that of `Result.bounds`.

        The energies follow the load where the samples allow it (`Result.windows`). Then ``mean_energy_ci_low_j`` and
        ``mean_energy_ci_high_j`` hold the true mean in 95 of 100 runs. Certain bounds hold it in every run. The two
        ranges rest on different conditions and are never mixed. Where there is not an interval, both columns are null
        and ``interval_note`` gives the reason.

        Where windows of one name overlap, their energies hold the same joules more than once. ``union_energy_j`` is
        then the energy of the time in which any of them was open, with its bounds; null elsewhere.

        Of each name of amounts (`Window.add`), as ``tokens``, there are ``total_tokens`` and ``energy_per_tokens_j``,
        the energy of all windows of the name per token, with its bounds.

        Returns
        -------
        pyarrow.Table
            One row per name; no rows where no window was used.
        """
        from fastgreen.results import result_tables

        return result_tables.summary_table(self, self._by_name, self._unions)

    # ---- work that overlaps ----

    @cached_property
    def _unions(self) -> dict[str, Bounded]:
        """The energies of the names whose windows overlap, by name."""
        if all(len(handles) < 2 for handles in self._by_name.values()):
            return {}
        from fastgreen.results.overlaps import union_energies

        return union_energies(self, self._by_name)

    def _overlap_notes(self) -> list[str]:
        if not self._unions:
            return []
        from fastgreen.results.overlaps import overlap_notes

        return overlap_notes(self._unions, self.known)

    def share(
        self,
        table: Any,
        begin: str = "begin_ns",
        end: str = "end_ns",
        weight: str | None = None,
        clock: Literal["monotonic", "realtime"] = "monotonic",
        channels: str | Iterable[str] | None = None,
        baseline_w: float | Mapping[str, float] | None = None,
        *,
        per_channel: bool = False,
    ) -> pa.Table:
        """Share the energy of the run among spans that may overlap: requests, tasks, operators of a trace.

        While several spans are open, each is charged its weight over the sum of their weights. So the shares, the
        energy while no span was open and the baseline add up to what the channels drew. The bounds are of the
        measurement: every energy that the samples allow, shared by this rule, lies within them.

        Parameters
        ----------
        table : pyarrow.Table, or what pyarrow.table takes
            A row per span, in any order: a dictionary of arrays, a data frame of pandas or Polars.
        begin, end : str
            Its columns of instants: integers in ns, numbers with decimals in s, or timestamps.
        weight : str, optional
            Its column of weights, 0 or above; 1 each by default. A span of weight 0 is charged nothing.
        clock : "monotonic" or "realtime"
            The clock of the instants: CLOCK_MONOTONIC, as `time.monotonic_ns` gives it, or the time since 1970.
        channels : str or iterable of str, optional
            Ids or patterns of the channels to share; those of the total by default.
        baseline_w : float or dict of float, optional
            Power to set apart, in W, of all channels together or by channel: what the machine draws at rest, say. A
            span's baseline is that power in the span's part of the time, at most its share.
        per_channel : bool
            A row per span and channel, with a column ``channel``. A baseline of all channels together is not split.

        Returns
        -------
        pyarrow.Table
            The table with the columns ``energy_j``, ``energy_low_j``, ``energy_high_j`` and ``baseline_j``, in J; null
            where a begin or an end is missing or the span lies outside of the run. The schema's metadata hold
            ``unattributed_j``, ``baseline_j`` and ``drawn_j`` (J), ``channels``, ``rule`` and ``notes``.

        Raises
        ------
        ChannelNotFound
            For a channel that the run does not have.
        ValueError
            For a span that ends before it begins, a weight below 0 or not finite, or where no row lies within the run.
        """
        from fastgreen.results import share_table

        return share_table.share_table(self, table, begin, end, weight, clock, channels, baseline_w, per_channel)

    @cached_property
    def _ledgers(self) -> list[LedgerSpans]:
        if self._given_spans is None:
            return []
        from fastgreen.results.ledger_spans import ledgers_of

        return ledgers_of(self._given_spans(), self.end_ns)

    @property
    def ledger_names(self) -> list[str]:
        """The names of the ledgers, in the order of their first use."""
        return [ledger.name for ledger in self._ledgers]

    def spans(self, name: str, by: Literal["phase", "channel"] | None = None) -> pa.Table:
        """A row per span of a ledger: its share of the energy, with bounds.

        Parameters
        ----------
        name : str
            The ledger, as of `Monitor.ledger`.
        by : "phase" or "channel", optional
            A row per span and phase, or per span and channel. A span is bounded as a whole, so its bounds are closer
            than the sums of those of its phases.

        Returns
        -------
        pyarrow.Table
            ``id``, ``start_ns`` (CLOCK_MONOTONIC), ``duration_s`` (s), ``weight``, a column for each name of amounts,
            ``energy_j``, ``energy_low_j``, ``energy_high_j`` and ``baseline_j`` (J). The schema's metadata hold
            ``unattributed_j``, ``baseline_j``, ``drawn_j`` (J), ``channels``, ``rule`` and ``notes``.

        Raises
        ------
        KeyError
            For a ledger that the run does not have.
        """
        from fastgreen.results.span_tables import span_table

        name = encodable(name) if isinstance(name, str) else name
        for ledger in self._ledgers:
            if ledger.name == name:
                return span_table(self, ledger, by)
        raise KeyError(f"the run has no ledger {name!r}; there are {self.ledger_names or 'none'}")

    @cached_property
    def ledgers(self) -> pa.Table:
        """The spans of each ledger together: a row per ledger, phase and name of amounts.

        In a row with an ``amount``, as ``tokens``, the means and percentiles are J per amount; else J per span. The
        bounds of a ledger's total are those of the time in which any span was open, so its mean is known far better
        than one span. ``window_factor`` is how many times the energy plain windows would have counted.
        ``mean_energy_ci_low_j``, ``mean_energy_ci_high_j``, ``method`` and ``interval_note`` are as in `summary`.
        """
        from fastgreen.results.span_tables import ledger_table

        return ledger_table(self, self._ledgers)

    # ---- files and people ----

    def save(self, path: str | os.PathLike) -> None:
        """Write the run as a folder of Arrow files, which `load` and any Arrow tool open.

        Parameters
        ----------
        path : path
            The folder, which is made: ``channels.arrow``, ``samples.arrow`` and ``windows.arrow`` in it.

        Raises
        ------
        FileExistsError
            When it holds a run already.
        OSError
            When it cannot be written.
        """
        from pathlib import Path

        from fastgreen.results.run_reader import save_run

        spans = self._given_spans() if self._given_spans is not None else None
        folder = Path(path_text("path", path))
        save_run(folder, self.traces, self._windows, self.metadata, self.given_notes, self._span, spans)

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
            "bounds": self.bounds,
            "notes": self.notes,
            "channels": self.channels.to_pylist(),
            "windows": self.summary().to_pylist(),
            **({"ledgers": self.ledgers.to_pylist()} if self.ledger_names else {}),
        }

    def __repr__(self) -> str:
        mark = " (estimated)" if self.estimated else ""
        return (
            f"<fastgreen.Result: {self.energy_j:.4g} J in {self.duration_s:.4g} s{mark}, "
            f"{counted(len(self.traces), 'channel')}>"
        )

    def __str__(self) -> str:
        from fastgreen.results.console import render

        return render(self)

    def _repr_html_(self) -> str:
        """What a notebook shows: tables of the channels and windows."""
        from fastgreen.results.html_tables import notebook_html

        return notebook_html(self)
