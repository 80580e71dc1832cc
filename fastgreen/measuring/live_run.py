"""A run while it is measured: its samplers, its recording, its notes, and the thread that empties the rings.

The end is worked out in that thread. Python runs signal handlers in the main thread only, so neither Ctrl-C nor the
exception of another handler can cut the end short. `Monitor.stop` asks for the end and waits. An exception while it
waits changes nothing: the next call waits on, or finds everything done.
"""

from __future__ import annotations

import contextlib
import functools
import threading

from fastgreen import _core
from fastgreen._light_dataclass import replace
from fastgreen.errors import FastgreenWarning
from fastgreen.guards.bell import Bell
from fastgreen.measuring.at_exit import prepare_arrow
from fastgreen.measuring.clock_pairs import ClockPairs
from fastgreen.measuring.notes import Notes
from fastgreen.measuring.record_paths import claimed_folder
from fastgreen.measuring.recorder import Recorder, finished_windows, kept_chunks
from fastgreen.measuring.source_sampler import Group
from fastgreen.measuring.standstill import CounterJudge
from fastgreen.measuring.window_handles import WindowHandles
from fastgreen.results.result import Result
from fastgreen.results.run_metadata import run_metadata
from fastgreen.results.trace import Bounded, Trace
from fastgreen.sensors.catalog import counted_ids
from fastgreen.sensors.channel import Channel
from fastgreen.units import NS_PER_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    import pyarrow as pa

    from fastgreen.measuring.kept_totals import KeptTotals
    from fastgreen.measuring.still_watch import StillWatch

__all__ = ["LiveRun"]

_DRAIN_S = 0.25
_PATIENCE_NS = 200_000_000  # for the first reading of a source; one that blocks longer starts late
_WAIT_S = 0.05  # between two looks at a thread that may have died


class LiveRun:
    """The measurement of a monitor, from `start` to its result. It does not hold the monitor, which may end early.

    Parameters
    ----------
    channels : list of Channel
    groups : list of Group
        The same channels by source, opened.
    handles : WindowHandles
    notes : Notes
    record : str or None
        The folder to write to while running. FileExistsError when it holds a run, OSError when it cannot be written.
    judge : CounterJudge
        Watches the load of the CPUs, and finds counters that stood still under it.
    may_replace : bool
        Whether the estimate may count in the place of such a counter.
    identity : (str, dict of str)
        The boot id of the host, and the names of its parts.
    keep : "samples" or "totals"
        Whether samples, windows and spans are kept, or only their totals.

    Attributes
    ----------
    start_ns, end_ns : int
        When it began, and when its end was asked for (0 before), ns of CLOCK_MONOTONIC.
    metadata : dict
    tallies : dict
        The final counts of each channel, by id; empty before the end.
    """

    def __init__(
        self,
        channels: list[Channel],
        groups: list[Group],
        handles: WindowHandles,
        notes: Notes,
        record: str | None,
        judge: CounterJudge,
        may_replace: bool,
        identity: tuple[str, dict[str, str]] = ("", {}),
        keep: str = "samples",
    ) -> None:
        self.judge, self._may_replace = judge, may_replace
        self.channels, self.groups, self.handles, self.notes = channels, groups, handles, notes
        self.start_ns = self.end_ns = 0
        self.metadata = run_metadata(*identity, clock_error_s=_core.clock_error_s())
        self._clocks = ClockPairs()
        self.folder = claimed_folder(record) if record is not None else None
        self.tallies: dict[str, dict[str, Any]] = {}
        self._recorder: Recorder | None = None  # while it writes its first table
        if self.folder is not None:
            prepare_arrow()
            self._recorder = Recorder(self.folder, self.metadata, self._channel_table)
        self._result: Result | None = None
        self._keeps_totals = keep == "totals"
        self._totals: KeptTotals | None = None
        self._settle_ns = 0
        self._draining = False
        self._left = [
            self.handles.finish_deferred,
            self._stop_samplers,
            self.drain,
            self.handles.finish_ledgers,
            self._take_tallies,
            self._finish_totals,
            self._judge_counters,
            self._note_the_end,
            self._close_record,
            self._write_channels,
        ]
        self._wake, self._done = Bell(), Bell()
        self._one_at_a_time = threading.RLock()
        self._thread = threading.Thread(target=self._work, name="fastgreen-drain", daemon=True)

    def start(self) -> None:
        """Start the sampling threads and the one that empties their rings."""
        self.start_ns = _core.now_ns()
        if self._keeps_totals:
            from fastgreen.measuring.kept_totals import KeptTotals

            self._totals = KeptTotals(self.channels, self.start_ns, self.judge)
        self.judge.look()
        self._clocks.look()
        for group in self.groups:
            group.sampler.start(_PATIENCE_NS)
        counted = counted_ids(self.channels)
        recent = [r for g in self.groups for c, r in zip(g.channels, g.recent, strict=True) if c.id in counted]
        self.handles.go_live(_core.Recents(recent, Bounded) if recent else None)
        self.handles.open()
        self._thread.start()

    def poke(self) -> None:
        """Have the rings emptied now."""
        self._wake.poke()

    # ---- the end ----

    @property
    def asked(self) -> bool:
        """Whether its end was asked for."""
        return self._wake.rung

    @property
    def ended(self) -> bool:
        """Whether everything is there that a result needs, and the recording is closed."""
        return not self._left

    def ask_to_end(self, settle_ns: int) -> None:
        """Have open windows ended, a last reading taken of every channel, and the rest done. Idempotent.

        An exception at any instruction leaves the run asked to end, or as it was.
        """
        if not self.asked:
            self._settle_ns = settle_ns
            self.handles.close()
            self._wake.ring()

    def wait_for_end(self) -> None:
        """Wait until the run has ended. Idempotent, from any thread.

        In the run's own thread, where a monitor can be dropped while samples are moved, that is after this call.
        """
        own = self._thread is threading.current_thread()
        while not self.ended and not (own and self._draining):
            if own or not self._thread.is_alive():  # an error ended it
                self._conclude()
            else:
                self._done.wait(_WAIT_S)

    def _work(self) -> None:
        """The thread: empty the rings a few times a second, then end the run."""
        pause_s = min([_DRAIN_S, *(group.full_s / 4 for group in self.groups)])
        try:
            while not self._wake.wait(pause_s):
                self.drain()
                with contextlib.suppress(FastgreenWarning):  # made an exception, it must not end this thread
                    self.notes.say()
            self._conclude()
        finally:
            self._done.ring()

    def _conclude(self) -> None:
        """Do the steps that are left, in order. One that an exception interrupted is done again."""
        with self._one_at_a_time:
            while self._left:
                self._left[0]()
                del self._left[0]

    def _stop_samplers(self) -> None:
        self.handles.go_live(None)
        self.end_ns = _core.now_ns()
        for group in self.groups:
            group.sampler.stop_soon(self._settle_ns)
        for group in self.groups:
            group.sampler.stop(self._settle_ns)

    def _take_tallies(self) -> None:
        self.tallies = {identity: tally for group in self.groups for identity, tally in group.tallies().items()}

    def _finish_totals(self) -> None:
        if self._totals is not None:
            self._totals.finish(self.handles.only_windows(), self.tallies)

    def _judge_counters(self) -> None:
        """Find the counters without change under load; if no counter of the CPU changed, the estimate counts."""
        if self.judge.stand_ins:  # done before an exception interrupted the end
            return
        if self._totals is not None:
            note = self._totals.judge(self.tallies, self._may_replace)
            if note is not None:
                self.notes.add(note)
            return
        note = self.judge.decide(self._traces(), self._recorder, may_replace=self._may_replace)
        if note is not None:
            self.notes.add(note)

    def _note_the_end(self) -> None:
        """Note the windows that were open, and the channels without a reading at the end."""
        self._clocks.look(last=True)
        for text in (*self.handles.notes, *([self._clocks.note] if self._clocks.note else [])):
            self.notes.add(text)
        for channel in self.channels:
            tally = self.tallies[channel.id]
            silent_s = (self.end_ns - tally["end_at_ns"]) / NS_PER_S
            if tally["samples"] and not tally["why_ended"] and channel.source != "replay" and silent_s > 0:
                reason = tally["last_error"] or "unknown reason"
                self.notes.add(f"{channel.id} gave no reading in the last {silent_s:.3g} s: {reason}")

    def _close_record(self) -> None:
        if self._recorder is not None:
            self._recorder.close()
            self._note_problems(self._recorder)

    def _write_channels(self) -> None:
        if self._recorder is not None:
            self._recorder.write_channels(self._channel_table)
            self._note_problems(self._recorder)

    def _note_problems(self, recorder: Recorder) -> None:
        for text in recorder.take_problems():
            self.notes.add(text)

    # ---- samples ----

    @property
    def still_watches(self) -> Mapping[str, StillWatch]:
        """Where only totals are kept: by channel, what finds out that a counter stands still under load."""
        return self._totals.watches if self._totals is not None else {}

    def drain(self) -> None:
        """Move the samples that wait in the rings to memory or to the recording."""
        self._draining = True
        try:
            self._drain()
        finally:
            self._draining = False

    def _drain(self) -> None:
        recorder = self._recorder
        drained: dict[str, bytearray] = {}
        self.judge.look()
        self._clocks.look()
        for group in self.groups:
            for i, channel in enumerate(group.channels):
                samples = group.recent[i].take()
                if samples:
                    drained[channel.id] = samples
                if samples and not self._keeps_totals and not (recorder and recorder.add_samples(channel.id, samples)):
                    group.samples[i].append(samples)
        if self._totals is not None:
            self._totals.drain(drained, self.handles.only_windows())
        if recorder is not None:
            recorder.add_windows(self.handles.windows)
        if self.handles.ledgers is not None:
            self.handles.ledgers.share_live(drained)
            self.handles.ledgers.drain(recorder)
        if recorder is not None:
            self._note_problems(recorder)

    def result(self) -> Result | None:
        """The measurement, always the same object; None before the end."""
        if not self.ended:
            return None
        with self._one_at_a_time:
            if self._result is None and self._totals is not None:
                self._result = self._totals_result(self._totals)
            if self._result is None:
                windows = functools.partial(finished_windows, self.handles.windows)
                self._result = Result(
                    self._traces(), windows, self._about, self.start_ns, self.end_ns, self.notes.texts, self._spans()
                )
            return self._result

    def _totals_result(self, totals: KeptTotals) -> Result:
        ledgers = self.handles.ledgers.totals if self.handles.ledgers is not None else []
        notes = self.notes.texts + totals.notes(self.tallies)
        traces = totals.traces([_without_recording(c) for c in self.channels], self.tallies)
        return totals.result(traces, ledgers, self._about, (self.start_ns, self.end_ns), notes)

    @property
    def _about(self) -> dict[str, Any]:
        """The metadata, with the instants that were taken on both clocks."""
        return {**self.metadata, "clock": self._clocks.pairs}

    def _spans(self) -> Callable[[], pa.Table | None] | None:
        if self.handles.ledgers is None:
            return None
        from fastgreen.measuring.ledger import kept_spans

        recorded = self._recorder.spans_file if self._recorder is not None else None
        return functools.partial(kept_spans, recorded, self.handles.ledgers.kept)

    def _channel_table(self) -> pa.Table:
        from fastgreen.results.run_reader import channel_table

        span = (self.start_ns, self.end_ns) if self.end_ns else None
        return channel_table(self._traces(), self.notes.texts, span, self._clocks.pairs)

    def _traces(self) -> list[Trace]:
        counted = counted_ids(self.channels)
        kept = {c.id: samples for g in self.groups for c, samples in zip(g.channels, g.samples, strict=True)}
        recorded = self._recorder.samples_file if self._recorder is not None else None
        return [
            Trace(
                _without_recording(c),
                c.id in counted - self.judge.replaced,
                self.tallies.get(c.id, {}),
                kept_chunks(recorded, c, kept.get(c.id, [])),
            )
            for c in self.channels
        ] + self.judge.stand_ins


def _without_recording(channel: Channel) -> Channel:
    """A channel as a result holds it: that of a replay without what it plays."""
    return replace(channel, sensor={"then": channel.sensor["then"]} if "then" in channel.sensor else {})
