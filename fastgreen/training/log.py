"""Log of a training: accuracy and energy at each checkpoint, and at the end one row of the published run table.

The monitor measures the energy. A thread of the log reads the gauges (memory, temperature, use of the GPU) and the
energy so far about once a second, so that each joule gets the price of its hour.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from numbers import Real
from typing import Any

import numpy as np
import pyarrow as pa

import fastgreen
from fastgreen.guards.arguments import number
from fastgreen.guards.bell import Bell
from fastgreen.guards.printable import encodable
from fastgreen.sensors.catalog import counted_ids
from fastgreen.training.gauges import Gauges, name_thread
from fastgreen.units import J_PER_KWH, J_PER_WH, NS_PER_S

__all__ = ["Series", "TrainingLog"]

_COLUMNS = {
    "elapsed_s": "s",
    "epoch": "",
    "accuracy": "1",
    "seen": "",
    "energy_j": "J",
    "cost": "",
    "carbon_g": "g",
}
_QUALITIES = {"precision": "precision", "recall": "recall", "auc": "AUC", "f1": "f1-score"}


class Series:
    """Quantity per kWh (price, carbon intensity) that is constant or changes at given times.

    Parameters
    ----------
    value : float or iterable of (time, float)
        A number counts from its time until the next one; the first number counts before its time as well. Times are
        seconds since the start of the training, seconds since 1970 (numbers above 1e8), or `datetime` objects.
    name : str
        Name of the argument in errors.

    Raises
    ------
    ValueError
        If there is no pair, times go back, or a number is not finite.

    Examples
    --------
    >>> Series([(0, 0.30), (3600, 0.10)]).at([0, 3599, 3600, 9999]).tolist()
    [0.3, 0.3, 0.1, 0.1]
    """

    def __init__(self, value: float | Iterable[tuple[float, float]], name: str = "value") -> None:
        pairs = _pairs(value, name)
        if not pairs:
            raise ValueError(f"{name} must have at least one pair")
        self.moments = np.array([t for t, _ in pairs])
        self.values = np.array([v for _, v in pairs])
        if np.any(np.isnan(self.moments)):
            raise ValueError(f"{name} must have numbers as moments, not NaN")
        if np.any(np.diff(self.moments) < 0):
            back = self.moments[1:][np.diff(self.moments) < 0][0]
            raise ValueError(f"{name} must have rising moments, not go back to {back}")
        if not np.all(np.isfinite(self.values)):
            raise ValueError(f"{name} must be finite, not {self.values[~np.isfinite(self.values)][0]}")
        self.since_1970 = bool(self.moments[-1] > 1e8)

    def at(self, moments: Sequence[float] | np.ndarray) -> np.ndarray:
        """Value at each of (n,) times, as (n,) float64."""
        index = np.searchsorted(self.moments, moments, side="right") - 1
        return self.values[np.maximum(index, 0)]

    def over(self, elapsed_s: np.ndarray, energy_j: np.ndarray, started_s: float) -> np.ndarray:
        """Cumulative value x kWh at each of (n,) points, with constant power between two points.

        Parameters
        ----------
        elapsed_s : (n,) ndarray
            Seconds since the start, rising.
        energy_j : (n,) ndarray
            Cumulative energy in J.
        started_s : float
            Start of the training, seconds since 1970.
        """
        moments = elapsed_s + (started_s if self.since_1970 else 0.0)
        turns = self.moments[(self.moments > moments[0]) & (self.moments < moments[-1])]
        grid = np.union1d(moments, turns)
        joules = np.interp(grid, moments, energy_j)
        paid = np.concatenate([[0.0], np.cumsum(np.diff(joules) * self.at(grid[:-1]))]) / J_PER_KWH
        return np.interp(moments, grid, paid)


def _pairs(value: Any, name: str) -> list[tuple[float, float]]:
    if isinstance(value, Real):
        return [(-math.inf, float(value))]
    try:
        return [(t.timestamp() if isinstance(t, datetime) else float(t), float(v)) for t, v in value]
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a number or pairs (moment, number), not {value!r}") from None


class TrainingLog:
    """Log of a training under a running monitor.

    Parameters
    ----------
    monitor : fastgreen.Monitor
        A running monitor; its total over the root channels is the energy. The log does not keep it alive.
    price_per_kwh : float or iterable of (time, float), optional
        Price of the energy, see :class:`Series`. The cost has the currency of the price.
    carbon_g_per_kwh : float or iterable of (time, float), optional
        Carbon intensity of the electricity in g CO2e per kWh.
    period_s : float
        Seconds between two readings of the gauges, above 0.
    gauges : Gauges, optional
        Reader of memory, temperature and GPU use; by default :class:`~fastgreen.training.gauges.Gauges`.
    energy_j : callable, optional
        Returns the joules so far; by default the monitor's total.
    started_ns : int, optional
        CLOCK_MONOTONIC in ns at the start of the energy: the start of the monitor. By default time and energy start
        now.

    Examples
    --------
    >>> log = TrainingLog(monitor, price_per_kwh=0.3)             # doctest: +SKIP
    >>> for epoch in range(10):                                    # doctest: +SKIP
    ...     train(model)
    ...     log.checkpoint(accuracy=evaluate(model), seen=60000)
    >>> log.time_to_closest_apc(consumption_delta=0.01).time      # doctest: +SKIP
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
        self._energy_now = energy_j or (lambda: root_energy_j(held()))
        now_ns = time.monotonic_ns()
        self._started_ns = now_ns if started_ns is None else started_ns
        self._started_s = time.time() - (now_ns - self._started_ns) / NS_PER_S
        self._first_j = self._energy_now() if started_ns is None else 0.0
        self._looks: list[tuple[float, float]] = [(0.0, 0.0)]
        self._points: list[dict[str, Any]] = []
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

    def _look(self) -> tuple[float, float]:
        with self._lock:
            elapsed = (time.monotonic_ns() - self._started_ns) / NS_PER_S
            # A live total may be one update behind the previous one; energy so far never falls.
            energy = max(self._looks[-1][1], self._energy_now() - self._first_j)
            self._looks.append((elapsed, energy))
        return elapsed, energy

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
        elapsed, energy = self._look()
        before = self._points[-1]["seen"] if self._points else 0
        point = {
            "elapsed_s": elapsed,
            "epoch": len(self._points) + 1 if epoch is None else int(number("epoch", epoch)),
            "accuracy": accuracy,
            "seen": before + int(number("seen", seen) if seen is not None else 0),
            "energy_j": energy,
        }
        self._points.append({**point, **{encodable(name): number(name, value) for name, value in values.items()}})

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
        return self._looks[-1][0]

    @property
    def energy_j(self) -> float:
        """Joules from the start to the last reading."""
        return self._looks[-1][1]

    def _spent(self, series: Series | None, at_s: np.ndarray) -> np.ndarray | None:
        if series is None:
            return None
        with self._lock:
            elapsed, energy = np.array(self._looks).T
        return np.interp(at_s, elapsed, series.over(elapsed, energy, self._started_s))

    def table(self) -> pa.Table:
        """Table of the checkpoints: elapsed_s, epoch, accuracy, seen, energy_j, cost, carbon_g, and other values."""
        extra = list(dict.fromkeys(name for point in self._points for name in point if name not in _COLUMNS))
        at_s = np.array([point["elapsed_s"] for point in self._points], float)
        spent = {"cost": self._spent(self.price, at_s), "carbon_g": self._spent(self.carbon, at_s)}
        columns, fields = [], []
        for name in [*_COLUMNS, *extra]:
            kind = pa.int64() if name in ("epoch", "seen") else pa.float64()
            values = spent[name] if name in spent else [point.get(name) for point in self._points]
            columns.append(pa.array(values if values is not None else [None] * at_s.size, kind))
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
        end = np.array([self.duration_s])
        carbon = self._spent(self.carbon, end)
        cost = self._spent(self.price, end)
        named = {name.replace("_", " "): value for name, value in identity.items()}
        return {
            **named,
            "training duration (h)": self.duration_s / 3600.0,
            **self.gauges.columns(self.duration_s),
            "mean power (W)": self.energy_j / self.duration_s if self.duration_s else None,
            "energy (MJ)": self.energy_j * 1e-6,
            "emissions (gCO2e)": float(carbon[0]) if carbon is not None else None,
            "cost": float(cost[0]) if cost is not None else None,
            "accuracy": last.get("accuracy"),
            **{column: last.get(name) for name, column in _QUALITIES.items()},
            "trained epochs": last.get("epoch"),
            "total seen images": last.get("seen"),
        }


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


def root_energy_j(monitor: Any) -> float:
    """Total joules so far of a running monitor, over its counted channels; RuntimeError if it is not running."""
    if monitor is None or not monitor.running:
        raise RuntimeError("monitor must be running for a training log, not stopped")
    counted = counted_ids(monitor.channels)
    return math.fsum(joules for name, joules in monitor.energy_j().items() if name in counted)
