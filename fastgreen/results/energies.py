"""The energies of a run: of each channel and of all counted channels together, with bounds."""

from __future__ import annotations

from functools import cached_property

from fastgreen.results.trace import Bounded, Totals, Trace
from fastgreen.sensors.channel import least_certain
from fastgreen.units import J_PER_WH, NS_PER_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from fastgreen.results.bounded import Windows
    from fastgreen.results.following import Following

__all__ = ["Energies"]


class Energies:
    """Energies of the channels of a run; the part of a `Result` that its tables and its text are made from."""

    def __init__(self, traces: list[Trace], metadata: dict[str, Any], start_ns: int, end_ns: int) -> None:
        self.traces = traces
        self.metadata = metadata
        read = [t for t in traces if t.has_data]
        self.start_ns = min((t.tally["first_at_ns"] for t in read), default=start_ns)
        self.end_ns = max((t.tally["end_at_ns"] for t in read), default=end_ns)

    @property
    def known(self) -> bool:
        """Whether any counted channel was read and moved; if not, every energy is 0 because there is no reading."""
        return any(t.counted and t.has_data and not t.dead for t in self.traces)

    @cached_property
    def totals(self) -> dict[str, Bounded]:
        """Energy of each channel with its bounds, by id; NaN for one that was never read."""
        return dict(zip([t.channel.id for t in self.traces], Totals(self.traces).answers(), strict=True))

    @cached_property
    def _total(self) -> Bounded:
        counted = [self.totals[t.channel.id] for t in self.traces if t.counted and t.has_data]
        return sum(counted, Bounded(0.0, 0.0, 0.0))

    @cached_property
    def following(self) -> Following:
        """The estimates that follow the load, of windows and ledgers; one curve per channel."""
        from fastgreen.results.following import Following

        return Following(self.traces, *self._followed_work())

    def _followed_work(self) -> tuple[list[Windows], NDArray[np.int64] | None]:
        """What a load can follow in this run, as windows, and all instants at which a span begins or ends, if any."""
        return [], None

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
        return self.energy_j / J_PER_WH

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
    def bounds(self) -> str:
        """Quality of the bounds: ``certain`` (of counters), ``modelled`` (of an estimate), or ``sampled``.

        ``sampled``: a counted channel is a power sensor. It shows nothing of the time in which it does not look, so the
        low and the high energy are those of its readings, and the true energy can lie outside.
        """
        return least_certain(t.channel for t in self.traces if t.counted and t.has_data)

    def energy_between(self, begin_ns: ArrayLike, end_ns: ArrayLike) -> Bounded:
        """Energy of all counted channels between instants, with bounds.

        Parameters
        ----------
        begin_ns, end_ns : array_like of int, of one shape (n,)
            Instants in ns of CLOCK_MONOTONIC; each column is sorted, and no stretch ends before it begins.

        Returns
        -------
        Bounded
            ``energy_j``, ``low_j`` and ``high_j``, arrays of shape (n,), in J; NaN where no channel gave a reading.

        Raises
        ------
        ValueError
            If a column is not sorted, or a stretch ends before it begins.
        """
        import numpy as np

        begin_ns, end_ns = np.asarray(begin_ns, np.int64), np.asarray(end_ns, np.int64)
        if not self.known:
            unknown = np.full(len(begin_ns), np.nan)
            return Bounded(unknown, unknown, unknown)
        counted = [t for t in self.traces if t.counted and t.has_data]
        return sum((t.windows(begin_ns, end_ns) for t in counted), Bounded.zeros(len(begin_ns)))

    def trace(self, channel: str) -> Trace:
        """The trace of one channel. ChannelNotFound for one that the run does not have."""
        from fastgreen.errors import ChannelNotFound

        for trace in self.traces:
            if trace.channel.id == channel:
                return trace
        raise ChannelNotFound(f"the run has no channel {channel!r}; it has {[t.channel.id for t in self.traces]}")
