"""Counters that do not change: whether there was load at the time, and the channel that replaces them.

A package or a board always draws something, so a counter that shows no growth for a second and longer, while the CPUs
worked or the board's own power says otherwise, does not count. On an idle machine it may be at rest.
"""

from __future__ import annotations

import os

from fastgreen import _core, _resolver
from fastgreen._light_dataclass import replace
from fastgreen.sensors.channel_kinds import kind_of
from fastgreen.units import NS_PER_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from fastgreen.measuring.recorder import Recorder
    from fastgreen.results.trace import Trace
    from fastgreen.sensors.channel import Channel

    Stretch = tuple[int, int]

__all__ = ["BUSY_CPUS", "DRAWN_W", "CounterJudge", "LoadWitness", "is_of_the_cpu"]

_PAUSE_NS = NS_PER_S // 2  # between two looks at /proc/stat, which takes a millisecond where there are many CPUs
_MOST_LOOKS = 20_000  # then every second one is dropped: CPU time is cumulative
BUSY_CPUS = 0.05  # fewer are an idle machine's own
DRAWN_W = 1.0  # of a board whose own power says so


class LoadWitness:
    """CPU time from /proc/stat, a few times a second, beside the counters.

    Parameters
    ----------
    channels : sequence of Channel
        Every channel of the machine; the one of ``procstat``, if there is one, says where to look.
    """

    def __init__(self, channels: Sequence[Channel]) -> None:
        self.channel = next((c for c in channels if c.source == "procstat"), None)
        self._looks: list[tuple[int, int, int]] = []  # when (ns), busy and all CPU time (ns)

    def look(self, last: bool = False) -> None:
        """Note the CPU time so far, where the last look was long ago, or this is the `last` one."""
        now_ns = _core.now_ns()
        if self.channel is None or (self._looks and not last and now_ns - self._looks[-1][0] < _PAUSE_NS):
            return
        from fastgreen.sensors import procstat

        times = procstat.cpu_times_ns(self.channel.sensor["path"])
        if times is not None:
            self._looks.append((now_ns, *times))
        if len(self._looks) > _MOST_LOOKS:
            del self._looks[1::2]

    @property
    def stood_still(self) -> bool:
        """Whether /proc/stat showed no time pass at all, as in some sandboxes."""
        from fastgreen.results.settled_samples import LEAST_STILL_NS

        looks = self._looks
        return len(looks) > 1 and looks[-1][0] - looks[0][0] >= LEAST_STILL_NS and looks[0][2] == looks[-1][2]

    def busy_cpus(self, begin_ns: int, end_ns: int) -> float | None:
        """CPUs that were busy on average from begin_ns to end_ns; None where that is not known."""
        import numpy as np

        if len(self._looks) < 2 or self.stood_still or end_ns <= begin_ns:
            return None
        at_ns, busy_ns, _ = np.array(self._looks, np.int64).T
        before, after = np.interp([begin_ns, end_ns], at_ns, busy_ns)
        return float((after - before) / (end_ns - begin_ns))

    def samples(self) -> np.ndarray:
        """What the ``procstat`` channel would have read at each look."""
        import numpy as np

        assert self.channel is not None
        out = np.zeros(len(self._looks), _resolver.SAMPLE)
        at_ns, busy_ns, _ = np.array(self._looks, np.int64).T
        out["at_ns"] = at_ns
        sensor = self.channel.sensor
        # mW * ns = pJ, as csrc/fg_source_procstat.c
        out["raw"] = (sensor["idle_mw"] * (at_ns - at_ns[0]) + sensor["slope_mw"] * (busy_ns - busy_ns[0])) // 1_000_000
        return out


def is_of_the_cpu(channel: Channel) -> bool:
    """Whether it counts the energy of busy CPUs; an idle graphics part beside them may rest."""
    return kind_of(channel.id) == "cpu" and channel.name not in ("uncore", "gpu")


def _own_power(trace: Trace, traces: Sequence[Trace], stretch: Stretch) -> str | None:
    """A power beside the counter that shows load in a stretch, for a sentence; None where there is none."""
    import numpy as np

    begin_ns, end_ns = stretch
    for power in traces:
        if power.channel.kind == "power" and power.channel.parent == trace.channel.id and power.has_data:
            joules = float(power.windows(np.array([begin_ns]), np.array([end_ns]))[0].energy_j)
            watts = joules * NS_PER_S / (end_ns - begin_ns)
            if watts >= DRAWN_W:
                return f"{power.channel.id} showed {watts:.3g} W"
    return None


def _cpu_load(trace: Trace, witness: LoadWitness, stretch: Stretch) -> str | None:
    """What /proc/stat shows of the load in a stretch, for a sentence; None where that is no load."""
    if not is_of_the_cpu(trace.channel):
        return None
    busy = witness.busy_cpus(*stretch)
    if busy is None:
        whole = trace.tally["updates"] == 0 and trace.channel.root
        return "the load of the CPUs is not known" if whole else None
    return f"{busy:.2f} CPUs were busy" if busy >= BUSY_CPUS else None


def _recorded_load(trace: Trace, traces: Sequence[Trace], stretch: Stretch) -> str | None:
    """What a replayed run shows of the load in a stretch: its estimate from CPU time, or what was found then."""
    import numpy as np

    begin_ns, end_ns = stretch
    if is_of_the_cpu(trace.channel):
        for estimate in (t for t in traces if t.channel.estimated and kind_of(t.channel.id) == "cpu" and t.has_data):
            joules = float(estimate.windows(np.array([begin_ns]), np.array([end_ns]))[0].energy_j)
            watts, idle_w = joules * NS_PER_S / (end_ns - begin_ns), estimate.channel.floor_w or 0.0
            if watts - idle_w >= BUSY_CPUS * max(estimate.ceiling_w - idle_w, 0.0) / (os.cpu_count() or 1):
                return f"{estimate.channel.id} showed {watts:.3g} W, {watts - idle_w:.3g} W more than at idle"
    then = trace.channel.sensor["then"]
    moved_ns = trace.tally["first_at_ns"] - then["first_ns"]
    for begin, end in then["still_ns"]:
        if end + moved_ns > begin_ns and begin + moved_ns < end_ns:
            return then["still_why"] or "there was load"
    return None


def _stretches_under_load(trace: Trace, traces: Sequence[Trace], witness: LoadWitness) -> list[tuple[Stretch, str]]:
    """Where a counter stood still though there was load, and what shows the load."""
    from fastgreen.results.settled_samples import LEAST_STILL_NS, STILL_UPDATES, still_stretches

    tally = trace.tally
    stood_ns = tally["period_lower_ns"] if tally["updates"] else tally["last_at_ns"] - tally["first_at_ns"]
    least_still_ns = round(LEAST_STILL_NS / trace.channel.sensor.get("then", {}).get("faster", 1.0))  # of a replay
    if stood_ns < least_still_ns // 2:
        return []
    period_ns = tally["period_mean_ns"] or 0
    if 2 * period_ns < 3 * tally["tick_ns"] or not period_ns:  # as often as it was read, so it may update more often
        period_ns = trace.channel.traits["period_ns"]
    least_ns = max(least_still_ns, STILL_UPDATES * round(period_ns))
    out = []
    for stretch in still_stretches(trace.settled(), least_ns):
        why = _own_power(trace, traces, stretch)
        if trace.channel.source == "replay":
            why = why or _recorded_load(trace, traces, stretch)
        else:
            why = why or _cpu_load(trace, witness, stretch)
        if why:
            out.append((stretch, why))
    return out


def _note_standstills(traces: Sequence[Trace], witness: LoadWitness) -> None:
    """Note in each tally where its counter stood still under load: ``still_ns`` and ``still_why``."""
    for trace in traces:
        tally, channel = trace.tally, trace.channel
        if channel.kind != "energy" or not trace.has_data:
            continue
        if channel.estimated:
            if channel.source == "procstat" and witness.stood_still:
                tally["still_ns"] = [[tally["first_at_ns"], tally["last_at_ns"]]]
            continue
        under_load = _stretches_under_load(trace, traces, witness)
        if under_load:
            tally["still_ns"] = [list(stretch) for stretch, _ in under_load]
            tally["still_why"] = max(under_load, key=lambda found: found[0][1] - found[0][0])[1]


def _stand_in(traces: Sequence[Trace], lost: Sequence[Channel], witness: LoadWitness) -> tuple[Trace, set[str]] | None:
    """The estimate from CPU time, where every counter of the CPU that counts never moved or was `lost` when it was to
    be opened, and the ids of those."""
    counters = [t for t in traces if t.counted and is_of_the_cpu(t.channel) and t.channel.parent is None]
    gone = [c.id for c in lost if is_of_the_cpu(c) and c.root] + [t.channel.id for t in counters if t.dead]
    if not gone or not all(t.dead for t in counters) or witness.channel is None or witness.stood_still:
        return None
    if any(t.channel.id == witness.channel.id for t in traces):
        return None
    from fastgreen.results.trace import Trace

    samples = witness.samples()
    account = _resolver.Account(witness.channel.traits)
    account.feed(samples)
    tally = account.tally()
    tally |= {"end_at_ns": tally["last_at_ns"], "end_total": tally["total"], "missed": 0, "lost": 0}
    tally |= {"read_errors": 0, "why_ended": None, "last_error": None}
    return Trace(replace(witness.channel, sensor={}), True, tally, lambda: [samples]), set(gone)


class CounterJudge:
    """Decides in the end of a run which of its counters counted.

    Attributes
    ----------
    lost : list of Channel
        Those that could not be opened.
    replaced : set of str
        Ids of the channels in whose place an estimate counts.
    stand_ins : list of Trace
        That estimate, if there is one.
    """

    def __init__(self, channels: Sequence[Channel]) -> None:
        self.witness = LoadWitness(channels)
        self.lost: list[Channel] = []
        self.replaced: set[str] = set()
        self.stand_ins: list[Trace] = []

    def lose(self, failed: list[tuple[Channel, Exception]]) -> list[str]:
        """Take note of channels that could not be opened; a sentence on each."""
        self.lost = [channel for channel, _ in failed]
        return [f"{channel.id} could not be opened, so it is left out: {error}" for channel, error in failed]

    def look(self) -> None:
        """Note the load of the CPUs; to be called a few times a second."""
        self.witness.look()

    def decide(self, traces: Sequence[Trace], recorder: Recorder | None, may_replace: bool) -> str | None:
        """Note in the reports which counters stood still under load.

        Returns
        -------
        str or None
            A sentence where an estimate counts in the place of counters; its samples are recorded too.
        """
        self.witness.look(last=True)
        _note_standstills(traces, self.witness)
        note = self.replace(traces) if may_replace else None
        if recorder is not None:
            for estimate, chunk in ((e, c) for e in self.stand_ins for c in e.chunks()):
                recorder.add_samples(estimate.channel.id, bytearray(chunk.tobytes()))
        return note

    def replace(self, traces: Sequence[Trace]) -> str | None:
        """Let the estimate count in the place of counters of the CPU that never moved; a sentence where it does."""
        found = _stand_in(traces, self.lost, self.witness)
        if found is None:
            return None
        estimate, self.replaced = found
        self.stand_ins = [estimate]
        return f"the estimate {estimate.channel.id} replaces {', '.join(sorted(self.replaced))}"
