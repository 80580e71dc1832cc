"""Log of a training: accuracy and energy at each checkpoint, and at the end one row of the published run table.

The monitor measures the energy. A thread of the log reads the gauges (memory, temperature, use of the GPU) and the
energy so far about once a second, so that each joule gets the price of its hour.

While the monitor runs, an energy is the live total, which lags behind by up to one reading. Once the monitor has ended,
every energy is resolved at the instant of its checkpoint, with bounds.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

import fastgreen
from fastgreen.guards.arguments import number
from fastgreen.guards.bell import Bell
from fastgreen.guards.printable import encodable
from fastgreen.sensors.catalog import counted_ids
from fastgreen.training.gauges import Gauges, name_thread
from fastgreen.training.prices import Series
from fastgreen.units import J_PER_WH, NS_PER_S

__all__ = ["TrainingLog"]

_COLUMNS = {
    "elapsed_s": "s",
    "epoch": "",
    "accuracy": "1",
    "seen": "",
    "energy_j": "J",
    "energy_low_j": "J",
    "energy_high_j": "J",
    "read_s": "s",
    "cost": "",
    "carbon_g": "g",
}
_QUALITIES = {"precision": "precision", "recall": "recall", "auc": "AUC", "f1": "f1-score"}


class _Look(NamedTuple):
    """The live total at one moment; `read_ns` is the instant up to which it holds."""

    at_ns: int
    energy_j: float
    read_ns: int


class TrainingLog:
    """Log of a training under a running monitor.

    Parameters
    ----------
    monitor : fastgreen.Monitor
        A running monitor; its total over the root channels is the energy. The log keeps its result alive, not the
        monitor.
    price_per_kwh : float or iterable of (time, float), optional
        Price of the energy, see :class:`Series`. The cost has the currency of the price.
    carbon_g_per_kwh : float or iterable of (time, float), optional
        Carbon intensity of the electricity in g CO2e per kWh.
    period_s : float
        Seconds between two readings of the gauges, above 0.
    gauges : Gauges, optional
        Reader of memory, temperature and GPU use; by default :class:`~fastgreen.training.gauges.Gauges`.
    energy_j : callable, optional
        Returns the joules so far, instead of the monitor's total. These joules have no bounds.
    started_ns : int, optional
        CLOCK_MONOTONIC in ns at the start of the energy: the start of the monitor. By default time and energy start
        now.

    Examples
    --------
    >>> import fastgreen as fg
    >>> with fg.Monitor() as monitor, TrainingLog(monitor, price_per_kwh=0.3) as log:
    ...     for accuracy in (0.8, 0.9):
    ...         _ = sum(range(100_000))  # one epoch
    ...         log.checkpoint(accuracy=accuracy, seen=60_000)
    >>> log.table().select(["epoch", "accuracy", "seen"]).to_pylist()[-1]
    {'epoch': 2, 'accuracy': 0.9, 'seen': 120000}
    >>> log.time_to_closest_apc(consumption_delta=0.01).index
    1
    """

    def __init__(
        self,
        monitor: Any,
        *,
        price_per_kwh: float | Iterable[tuple[float, float]] | None = None,
        carbon_g_per_kwh: float | Iterable[tuple[float, float]] | None = None,
        period_s: float = 1.0,
        gauges: Gauges | None = None,
        energy_j: Callable[[], float] | None = None,
        started_ns: int | None = None,
    ) -> None:
        if not period_s > 0:
            raise ValueError(f"period_s must be above 0, not {period_s}")
        self.price = None if price_per_kwh is None else Series(price_per_kwh, "price_per_kwh")
        self.carbon = None if carbon_g_per_kwh is None else Series(carbon_g_per_kwh, "carbon_g_per_kwh")
        self.gauges = gauges or Gauges()
        held = weakref.ref(monitor)  # the log does not keep its monitor alive
        self._total_now = (lambda: (energy_j(), time.monotonic_ns())) if energy_j else (lambda: root_total(held()))
        now_ns = time.monotonic_ns()
        self._started_ns = now_ns if started_ns is None else started_ns
        self._started_s = time.time() - (now_ns - self._started_ns) / NS_PER_S
        self._first_j = self._total_now()[0] if started_ns is None else 0.0
        self._finished = None if energy_j else getattr(monitor, "finished_result", None)
        self._looks = [_Look(self._started_ns, 0.0, self._started_ns)]
        self._points: list[dict[str, Any]] = []
        self._noted: list[int] = []  # the look of each checkpoint
        self._resolved: tuple[int, Any] | None = None
        self._lock = threading.Lock()
        self._stop = Bell()
        self._thread = threading.Thread(
            target=_watch, args=(weakref.ref(self), self.gauges, self._stop, period_s), name="fg-training", daemon=True
        )
        self._thread.start()
        weakref.finalize(self, self._stop.ring)

    def __enter__(self) -> TrainingLog:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _look(self) -> int:
        """Record the live total; returns the index of this look."""
        with self._lock:
            at_ns = time.monotonic_ns()
            energy_j, read_ns = self._total_now()
            # A live total may be one update behind the previous one; energy so far never falls.
            self._looks.append(_Look(at_ns, max(self._looks[-1].energy_j, energy_j - self._first_j), read_ns))
            return len(self._looks) - 1

    def checkpoint(
        self, accuracy: float, *, seen: int | None = None, epoch: int | None = None, **values: float
    ) -> None:
        """Log a checkpoint: the accuracy, and time and energy so far.

        Parameters
        ----------
        accuracy : float
            Fraction of right answers, 0..1.
        seen : int, optional
            Samples seen since the previous checkpoint.
        epoch : int, optional
            By default the number of the checkpoint, from 1.
        **values : float
            Other columns: loss, precision, recall, auc, f1.

        Raises
        ------
        ValueError
            If the accuracy is not in 0..1.
        RuntimeError
            If the log or its monitor is stopped.
        """
        accuracy = number("accuracy", accuracy)
        if not 0 <= accuracy <= 1:
            hint = "; is it in percent?" if 1 < accuracy <= 100 else ""
            raise ValueError(f"accuracy must lie in 0..1, not {accuracy}{hint}")
        if self._stop.rung:
            raise RuntimeError("the training log is stopped; a checkpoint after that has no energy")
        given = None if epoch is None else int(number("epoch", epoch))
        more = int(number("seen", seen) if seen is not None else 0)
        others = {encodable(name): number(name, value) for name, value in values.items()}
        look = self._look()
        with self._lock:  # so that two threads do not give one number twice
            before = self._points[-1]["seen"] if self._points else 0
            point = {"epoch": len(self._points) + 1 if given is None else given, "accuracy": accuracy}
            self._points.append({**point, "seen": before + more, **others})
            self._noted.append(look)

    def stop(self) -> None:
        """Stop the readings; the table and the row remain. A second call does nothing."""
        if not self._stop.rung:
            with contextlib.suppress(RuntimeError):  # the monitor has stopped already
                self._look()
            self._stop.ring()
            self._thread.join()

    @property
    def stopped(self) -> bool:
        """Whether the log is stopped."""
        return self._stop.rung

    @property
    def duration_s(self) -> float:
        """Seconds from the start to the last reading."""
        return (self._looks[-1].at_ns - self._started_ns) / NS_PER_S

    @property
    def energy_j(self) -> float:
        """Joules up to the last reading; NaN where the monitor has ended and no channel gave a reading."""
        return float(self._energies()["energy_j"][-1])

    @property
    def resolved(self) -> bool:
        """Whether the energies are those at the checkpoints: the monitor has ended, and its result is known."""
        return self._result() is not None

    def _result(self) -> Any:
        return None if self._finished is None else self._finished()

    def _energies(self) -> dict[str, np.ndarray]:
        """Columns with an entry per look: elapsed_s, energy_j, energy_low_j, energy_high_j (NaN if unknown), read_s."""
        with self._lock:
            looks = list(self._looks)
        at_ns, live_j, read_ns = (np.array(column) for column in zip(*looks, strict=True))
        elapsed_s = (at_ns - self._started_ns) / NS_PER_S
        result = self._result()
        if result is None:
            unknown = np.full(len(looks), np.nan)
            read_s = np.maximum(read_ns - self._started_ns, 0) / NS_PER_S
            return _columns(elapsed_s, live_j, unknown, unknown, np.minimum(read_s, elapsed_s))
        if self._resolved is None or self._resolved[0] != len(looks):
            # Like the total, a checkpoint of the whole run counts from the first reading.
            started_ns = np.full(len(looks), max(self._started_ns, result.start_ns))
            self._resolved = len(looks), result.energy_between(started_ns, np.maximum(at_ns, started_ns))
        energy = self._resolved[1]
        return _columns(elapsed_s, energy.energy_j, energy.low_j, energy.high_j, elapsed_s)

    def _spent(self, series: Series | None, looks: dict[str, np.ndarray]) -> np.ndarray | None:
        """Cost up to each look."""
        return None if series is None else series.over(looks["elapsed_s"], looks["energy_j"], self._started_s)

    def table(self) -> pa.Table:
        """Make a table with a row per checkpoint.

        Returns
        -------
        pyarrow.Table
            ``elapsed_s``, ``epoch``, ``accuracy``, ``seen``, ``energy_j`` with ``energy_low_j`` and ``energy_high_j``
            (J since the start), ``read_s``, ``cost``, ``carbon_g``, and every value that a checkpoint was given. While
            the monitor runs, an energy holds up to ``read_s`` (s since the start, the last reading before the
            checkpoint) and its bounds are null. Afterwards the energies hold at the checkpoints: ``read_s`` equals
            ``elapsed_s``.
        """
        extra = [name for point in self._points for name in point if name not in _COLUMNS]
        looks = self._energies()
        values: dict[str, Any] = {name: column[self._noted] for name, column in looks.items()}
        for name, series in (("cost", self.price), ("carbon_g", self.carbon)):
            spent = self._spent(series, looks)
            values[name] = np.full(len(self._noted), np.nan) if spent is None else spent[self._noted]
        columns, fields = [], []
        for name in dict.fromkeys([*_COLUMNS, *extra]):
            kind = pa.int64() if name in ("epoch", "seen") else pa.float64()
            column = values.get(name)
            if column is not None:
                columns.append(pa.array(column, kind, from_pandas=True))  # NaN: not known, so null
            else:
                columns.append(pa.array([point.get(name) for point in self._points], kind))
            unit = _COLUMNS.get(name)
            fields.append(pa.field(name, kind, metadata={"unit": unit} if unit else None))
        return pa.Table.from_arrays(columns, schema=pa.schema(fields))

    def time_to_closest_apc(self, **options: Any) -> Any:
        """Time to the closest APC over the checkpoints: seconds, accuracy and watt-hours so far.

        Parameters
        ----------
        **options
            Arguments of :func:`fastgreen.time_to_closest_apc`.

        Returns
        -------
        Closest

        Raises
        ------
        ValueError
            If there is no checkpoint.
        """
        table = self._checkpoints()
        wh = table.column("energy_j").to_numpy() / J_PER_WH
        return fastgreen.time_to_closest_apc(
            table.column("elapsed_s").to_numpy(), table.column("accuracy").to_numpy(), wh, **options
        )

    def time_to_closest_apec(self, **options: Any) -> Any:
        """Time to the closest APEC over the checkpoints: seconds, accuracy and cost so far.

        Parameters
        ----------
        **options
            Arguments of :func:`fastgreen.time_to_closest_apec`.

        Returns
        -------
        Closest

        Raises
        ------
        ValueError
            If the log has no price or no checkpoint.
        """
        if self.price is None:
            raise ValueError("price_per_kwh must be given to the log for time_to_closest_apec")
        table = self._checkpoints()
        cost = table.column("cost").to_numpy()
        return fastgreen.time_to_closest_apec(
            table.column("elapsed_s").to_numpy(), table.column("accuracy").to_numpy(), cost, **options
        )

    def _checkpoints(self) -> pa.Table:
        if not self._points:
            raise ValueError("the training log has no checkpoint yet")
        return self.table()

    def row(self, **identity: Any) -> dict[str, Any]:
        """Row of the published run table.

        Parameters
        ----------
        **identity
            Other columns, with ``_`` for a blank: architecture, training_environment, run, batch_size, GFLOPs,
            training_size, validation_size.

        Returns
        -------
        dict
            By name of the column; None for values that this machine cannot read.
        """
        last = self._points[-1] if self._points else {}
        looks = self._energies()
        end = {name: _known(column[-1]) for name, column in looks.items()}
        spent = {
            name: None if (column := self._spent(series, looks)) is None else _known(column[-1])
            for name, series in (("cost", self.price), ("emissions (gCO2e)", self.carbon))
        }
        joules = {"energy": end["energy_j"], "energy low": end["energy_low_j"], "energy high": end["energy_high_j"]}
        megajoules = {f"{name} (MJ)": None if value is None else value * 1e-6 for name, value in joules.items()}
        energy_j = joules["energy"]
        power_w = energy_j / self.duration_s if energy_j is not None and self.duration_s else None
        named = {name.replace("_", " "): value for name, value in identity.items()}
        return {
            **named,
            "training duration (h)": self.duration_s / 3600.0,
            **self.gauges.columns(self.duration_s),
            "mean power (W)": power_w,
            **megajoules,
            **spent,
            "accuracy": last.get("accuracy"),
            **{column: last.get(name) for name, column in _QUALITIES.items()},
            "trained epochs": last.get("epoch"),
            "total seen images": last.get("seen"),
        }


def _columns(*columns: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(("elapsed_s", "energy_j", "energy_low_j", "energy_high_j", "read_s"), columns, strict=True))


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _watch(log: weakref.ref[TrainingLog], gauges: Gauges, stop: Bell, period_s: float) -> None:
    """Read the gauges and the energy once per period, until the log is stopped or deleted."""
    name_thread("fg-training")
    gauges.open()
    try:
        while True:
            gauges.look()
            if stop.wait(period_s):
                return
            watched = log()
            if watched is None:
                return
            with contextlib.suppress(RuntimeError):  # the monitor has stopped; checkpoint() reports it
                watched._look()
            del watched
    finally:
        gauges.close()


def root_total(monitor: Any) -> tuple[float, int]:
    """Live total of the counted channels of a running monitor: (J, ns of CLOCK_MONOTONIC up to which it holds).

    Raises
    ------
    RuntimeError
        If the monitor does not run.
    """
    if monitor is None or not monitor.running:
        raise RuntimeError("monitor must be running for a training log, not stopped")
    counted = counted_ids(monitor.channels)
    readings = [reading for name, reading in monitor.readings().items() if name in counted]
    energy_j = math.fsum(reading.energy_j for reading in readings)
    return energy_j, min((reading.at_ns for reading in readings), default=time.monotonic_ns())
