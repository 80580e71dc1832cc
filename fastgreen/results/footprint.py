# SPDX-License-Identifier: Apache-2.0
"""Money, carbon, SCI, APC and APEC of a finished run, of its windows and of its spans, with bounds."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fastgreen.costs.rate import Rate
from fastgreen.costs.settings import SETTINGS, Costs, costs_from
from fastgreen.errors import TraceError
from fastgreen.metrics.domains import ACCURACY, ALPHA, AMOUNT, check
from fastgreen.metrics.neighbours import sci
from fastgreen.metrics.scores import apc, apec
from fastgreen.results.bounded import Bounded, Windows
from fastgreen.results.console import money, plain_table, with_bounds
from fastgreen.results.trace import together
from fastgreen.units import J_PER_KWH, J_PER_WH, NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa
    from rich.table import Table

    from fastgreen.results.trace import Trace

    class Measured(Protocol):
        """A run: a `Result`."""

        traces: list[Trace]
        metadata: dict[str, Any]
        start_ns: int
        end_ns: int

        @property
        def known(self) -> bool: ...
        @property
        def bounds(self) -> str: ...
        @property
        def energy_j(self) -> float: ...
        @property
        def energy_low_j(self) -> float: ...
        @property
        def energy_high_j(self) -> float: ...
        @property
        def duration_s(self) -> float: ...
        @property
        def ledger_names(self) -> list[str]: ...
        @property
        def ledgers(self) -> pa.Table: ...
        def stretches(self) -> dict[str, list[Windows]]: ...
        def summary(self) -> pa.Table: ...
        def spans(self, name: str) -> pa.Table: ...
        def energy_between(self, begin_ns: Any, end_ns: Any) -> Bounded: ...


__all__ = ["Footprint", "FootprintRow", "footprint", "footprint_of"]

RUN = "whole run"


@dataclass(frozen=True)
class FootprintRow:
    """Amounts of one: the run, one window, one span, or one of an amount as a token.

    Each number is (value, low, high), or None if its rate is not given.

    Attributes
    ----------
    name : str
    count : float
        Number of windows, spans or tokens.
    energy_j : tuple
        J of the machine, without the building.
    cost, carbon_g, sci_g : tuple or None
        Currency, g CO2e, and g CO2e with the embodied emissions (ISO/IEC 21031).
    apc, apec : tuple or None
        If an accuracy was given. The consumption is in Wh, the cost in the currency.
    """

    name: str
    count: float
    energy_j: tuple[float, float, float]
    cost: tuple[float, float, float] | None = None
    carbon_g: tuple[float, float, float] | None = None
    sci_g: tuple[float, float, float] | None = None
    apc: tuple[float, float, float] | None = None
    apec: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Footprint:
    """Money and carbon of a run.

    Attributes
    ----------
    rows : list of FootprintRow
        The whole run, then a row per window name, ledger, phase and amount.
    costs : Costs
        The rates.
    quality : str
        `Result.bounds`.
    accuracy : float or None
    """

    rows: list[FootprintRow]
    costs: Costs
    quality: str = "certain"
    accuracy: float | None = None
    alpha: float = 0.1
    beta: float = 1.0
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Sentences about the whole run."""
        if not self.rows:
            return list(self.notes)
        run, parts = self.rows[0], []
        if run.cost is not None:
            parts.append("cost {} ({})".format(*_money(run.cost, self.costs.currency, self.quality)))
        if run.carbon_g is not None:
            parts.append("carbon {} CO2e ({})".format(*with_bounds(*run.carbon_g, "g", quality=self.quality)))
        if run.sci_g is not None and self.costs.embodied_g:
            parts.append("with the machine itself {} ({})".format(*with_bounds(*run.sci_g, "g", quality=self.quality)))
        rates = []
        if self.costs.price is not None:
            rates.append(self.costs.price.words(f"{self.costs.currency}/kWh" if self.costs.currency else "per kWh"))
        if self.costs.carbon is not None:
            rates.append(self.costs.carbon.words("g/kWh"))
        if self.costs.pue != 1:
            rates.append(f"PUE {self.costs.pue:g}")
        out = [", ".join(parts) + (f"; at {', '.join(rates)}" if rates else "")] if parts else []
        for name, score in (("APC", run.apc), ("APEC", run.apec)):
            if score is not None:
                value, low, high = score
                out.append(
                    f"{name} {value:.4g} ({low:.4g} .. {high:.4g}) at accuracy {self.accuracy:g}, "
                    f"alpha {self.alpha:g}, beta {self.beta:g}"
                )
        return out + self.notes

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows of a table of the windows and spans, for people."""
        titles = {"cost": "cost", "carbon_g": "CO2e", "sci_g": "SCI", "apc": "APC", "apec": "APEC"}
        names = [name for name in titles if any(getattr(row, name) is not None for row in self.rows[1:])]
        heads = ["of", "count", *(head for name in names for head in (titles[name], "between"))]
        rows = [
            [row.name, f"{row.count:g}", *(cell for name in names for cell in self._cells(row, name))]
            for row in self.rows[1:]
        ]
        return heads, rows

    def numbers(self) -> list[list[float | None]]:
        """The numbers behind `cells`, to sort by; None for a name."""
        kinds = ("cost", "carbon_g", "sci_g", "apc", "apec")
        names = [name for name in kinds if any(getattr(row, name) is not None for row in self.rows[1:])]
        none = (None, None)
        return [
            [None, row.count, *(x for name in names for x in (getattr(row, name) or none)[:2])] for row in self.rows[1:]
        ]

    def to_table(self) -> Table | None:
        """A table of the windows and spans for a console; None if there are no windows or spans."""
        heads, rows = self.cells()
        if not rows:
            return None
        table = plain_table("money and carbon of one", *heads)
        table.spare = ("count",)
        for row in rows:
            table.add_row(*row)
        return table

    def _cells(self, row: FootprintRow, name: str) -> tuple[str, str]:
        value: tuple[float, float, float] | None = getattr(row, name)
        if value is None:
            return "-", "-"
        if name == "cost":
            return _money(value, self.costs.currency, self.quality)
        if name in ("carbon_g", "sci_g"):
            return with_bounds(*value, "g", quality=self.quality)
        return f"{value[0]:.4g}", f"{value[1]:.4g} .. {value[2]:.4g}"

    def to_dict(self) -> dict[str, Any]:
        """As plain Python, for JSON."""
        costs = self.costs
        rates: dict[str, Any] = {
            "price": costs.price.to_dict() if costs.price is not None else None,
            "carbon": costs.carbon.to_dict() if costs.carbon is not None else None,
            "pue": costs.pue,
            "embodied_g": costs.embodied_g,
            "lifespan_years": costs.lifespan_years,
            "machine_share": costs.machine_share,
        }
        scores = {"accuracy": self.accuracy, "alpha": self.alpha, "beta": self.beta}
        rows = []
        for row in self.rows:
            plain = {"name": row.name, "count": row.count}
            for key, value in asdict(row).items():
                if key in plain:
                    continue
                stem, _, unit = key.rpartition("_") if key[-2:] in ("_j", "_g") else (key, "", "")
                for part, number in zip(("", "_low", "_high"), value or (None, None, None), strict=True):
                    plain[f"{stem}{part}_{unit}" if unit else f"{stem}{part}"] = number
            rows.append(plain)
        return {
            "rates": rates,
            "currency": costs.currency,
            "bounds": self.quality,
            **scores,
            "rows": rows,
            "notes": self.notes,
        }


def _money(value: tuple[float, float, float], currency: str, quality: str) -> tuple[str, str]:
    """Money and its bounds as text."""
    shown = [money(x, currency if n != 1 else "") for n, x in enumerate(value)]
    return shown[0], "sampled, not bounded" if quality == "sampled" else f"{shown[1]} .. {shown[2]}"


# ---- from a run ----


def footprint(
    result: Measured, costs: Costs, *, accuracy: float | None = None, alpha: float = 0.1, beta: float = 1.0
) -> Footprint:
    """Money and carbon of a run, of its windows and of its spans.

    Parameters
    ----------
    result : Result
    costs : Costs
        See `fastgreen.costs.settings.costs_from`.
    accuracy : float, optional
        Of the model that ran, 0..1: the rows then have APC, and APEC where a price is given.
    alpha, beta : float
        Parameters of APC and APEC.

    Returns
    -------
    Footprint
        A file of rates gives each hour its own rate. Bounds are those of the energy, carried through.

    Raises
    ------
    TraceError
        If a file of rates does not cover the run.
    ValueError
        If the accuracy, alpha or beta is not possible.
    """
    for name, value, domain in (("accuracy", accuracy, ACCURACY), ("alpha", alpha, ALPHA), ("beta", beta, AMOUNT)):
        if value is not None and (np.ndim(value) or math.isnan(check(name, value, domain))):
            raise ValueError(f"{name} must be a number, not {value!r}")
    if not result.known:
        return Footprint([], costs, notes=["cost and carbon are unknown, because the energy is unknown"])
    maker = _Maker(result, costs, accuracy, alpha, beta)
    return Footprint(maker.rows(), costs, result.bounds, accuracy, alpha, beta)


def footprint_of(
    result: Measured, settings: Mapping[str, Any], accuracy: float | None = None, alpha: float = 0.1, beta: float = 1.0
) -> Footprint:
    """The footprint with settings by name: see `Result.footprint`.

    Parameters
    ----------
    result : Result
    settings : mapping
        ``price`` (per kWh), ``carbon`` (g CO2e per kWh), ``pue``, ``embodied`` (g), ``lifespan`` (years),
        ``machine_share`` (0..1). A price or a carbon intensity is a number, text such as ``"0.30 EUR"``, or a CSV file
        with a row per hour.
    accuracy, alpha, beta
        As of `footprint`.

    Returns
    -------
    Footprint

    Raises
    ------
    TypeError
        For a setting of another name.
    ValueError
        If a value is not possible, or there is neither a price, a carbon intensity nor an accuracy.
    TraceError
        If a file of rates cannot be understood or does not cover the run.
    """
    unknown = [name for name in settings if name not in SETTINGS]
    if unknown:
        raise TypeError(f"footprint() takes {', '.join(SETTINGS)}, not {unknown[0]!r}")
    costs = costs_from(settings)
    if not costs and accuracy is None:
        raise ValueError("price, carbon or accuracy must be given")
    return footprint(result, costs, accuracy=accuracy, alpha=alpha, beta=beta)


@dataclass
class _Maker:
    result: Measured
    costs: Costs
    accuracy: float | None
    alpha: float
    beta: float

    def rows(self) -> list[FootprintRow]:
        result = self.result
        total = Bounded(result.energy_j, result.energy_low_j, result.energy_high_j)
        amounts = [self._of_run(rate, total) for rate in (self.costs.price, self.costs.carbon)]
        rows = [self._row(RUN, 1.0, total, amounts, result.duration_s)]
        named = result.stretches()
        for row in result.summary().to_pylist():
            energy = Bounded(row["energy_j"], row["energy_low_j"], row["energy_high_j"])
            amounts = [
                self._of_windows(rate, energy, named[row["name"]]) for rate in (self.costs.price, self.costs.carbon)
            ]
            rows.append(self._row(row["name"], row["count"], energy, amounts, row["total_duration_s"]))
        return rows + (self._of_ledgers() if result.ledger_names else [])

    def _row(
        self, name: str, count: float, energy: Bounded, amounts: list[Bounded | None], machine_s: float
    ) -> FootprintRow:
        """The row of one, from sums; `machine_s` is the time that the machine was reserved."""
        one = [None if x is None else _one(x, count) for x in (energy, *amounts)]
        joules, cost, carbon = one
        assert joules is not None
        embodied = self.costs.embodied_of(machine_s) / count
        scores: list[tuple[float, float, float] | None] = [None, None]
        if self.accuracy is not None:
            scores[0] = self._score(apc, joules, J_PER_WH)
            scores[1] = None if cost is None else self._score(apec, cost, 1.0)
        whole = None
        if carbon is not None:  # (E * I + M) / R of ISO/IEC 21031, for R = 1
            whole = tuple(float(sci(1.0, max(x, 0.0), embodied)) for x in carbon)
        return FootprintRow(name, count, joules, cost, carbon, whole, *scores)  # type: ignore[arg-type]

    def _score(self, metric: Any, values: tuple[float, float, float], unit: float) -> tuple[float, float, float]:
        """A score falls with the consumption, so its lower end is that of the larger one."""
        value, high, low = (float(metric(max(x, 0.0) / unit, self.accuracy, self.alpha, self.beta)) for x in values)
        return value, low, high

    # ---- rates that change ----

    @property
    def _offset_s(self) -> float:
        """Seconds since 1970 at the zero of the monotonic clock."""
        try:
            return (self.result.metadata["realtime_ns"] - self.result.metadata["monotonic_ns"]) / NS_PER_S
        except (KeyError, TypeError):
            raise TraceError("the run does not show its date, so a file of rates by the hour cannot be used") from None

    def _instants_ns(self, moments_s: np.ndarray) -> np.ndarray:
        return np.rint((moments_s - self._offset_s) * NS_PER_S).astype(np.int64)

    def _steps(self, rate: Rate) -> tuple[np.ndarray, np.ndarray]:
        """Inner edges (ns of the monotonic clock) and values of the run's hours."""
        result = self.result
        begin_s, end_s = (x / NS_PER_S + self._offset_s for x in (result.start_ns, result.end_ns))
        edges_s, values = rate.steps(begin_s, end_s)
        return np.clip(self._instants_ns(edges_s), result.start_ns, result.end_ns), values

    def _of_run(self, rate: Rate | None, total: Bounded) -> Bounded | None:
        if rate is None:
            return None
        if rate.is_constant:
            return self._times(total, float(rate.values[0]))
        edges_ns, values = self._steps(rate)
        if len(values) == 1:
            return self._times(total, float(values[0]))
        starts = np.full(len(edges_ns), self.result.start_ns)
        upto = self.result.energy_between(starts, edges_ns)
        # sum of v[k] * (E[k] - E[k - 1]), ordered by E: up to an edge, energy counts with the fall of the rate.
        weights = np.append(values[:-1] - values[1:], values[-1])
        energies = [np.append(column, x) for column, x in zip(_columns(upto), _columns(total), strict=True)]
        return self._bounded(weights, *energies)

    def _of_windows(self, rate: Rate | None, energy: Bounded, handles: list[Windows]) -> Bounded | None:
        if rate is None:
            return None
        if rate.is_constant:
            return self._times(energy, float(rate.values[0]))
        edges_ns, values = self._steps(rate)
        if len(values) == 1:
            return self._times(energy, float(values[0]))
        counted = [t for t in self.result.traces if t.counted and t.has_data]
        cuts = [self.result.start_ns, *edges_ns.tolist(), self.result.end_ns]
        parts, weights = [], []
        for begin_ns, end_ns, value in zip(cuts, cuts[1:], values, strict=False):
            pieces = [piece for w in handles if len(piece := _within(w, begin_ns, end_ns))]
            parts += [sum(together(counted, piece), Bounded(0.0, 0.0, 0.0)) for piece in pieces]
            weights += [float(value)] * len(pieces)
        if not parts:
            return Bounded(0.0, 0.0, 0.0)
        columns = [np.array([float(x) for x in column]) for column in zip(*map(_columns, parts), strict=True)]
        found = self._bounded(np.array(weights), *columns)
        # The estimate of the name follows the load; its mean rate is that of the parts.
        known = float(columns[0].sum())
        mean = float(np.dot(columns[0], weights)) / known if known > 0 else float(np.mean(weights))
        middle = float(self._times(energy, mean).energy_j)
        return Bounded(min(max(middle, found.low_j), found.high_j), found.low_j, found.high_j)

    def _of_ledgers(self) -> list[FootprintRow]:
        """Spans share the embodied emissions as they share the energy."""
        rows, means = [], {name: self._mean_rates(name) for name in self.result.ledger_names}
        for row in self.result.ledgers.to_pylist():
            if not row["total"] > 0:
                continue
            energy = Bounded(row["energy_j"], row["energy_low_j"], row["energy_high_j"])
            amounts = [None if rates is None else self._ranged(energy, *rates) for rates in means[row["ledger"]]]
            part = row["energy_j"] / self.result.energy_j if self.result.energy_j > 0 else 0.0
            head = " ".join(filter(None, (row["ledger"], row["phase"])))
            name = head if row["amount"] is None else f"{head}, per {row['amount']}"
            rows.append(self._row(name, row["total"], energy, amounts, self.result.duration_s * min(part, 1.0)))
        return rows

    def _mean_rates(self, ledger: str) -> list[tuple[float, float, float] | None]:
        """Mean, lowest and highest price and carbon intensity of a ledger's spans, weighted by their energies."""
        out: list[tuple[float, float, float] | None] = []
        spans = None
        for rate in (self.costs.price, self.costs.carbon):
            if rate is None:
                out.append(None)
                continue
            if rate.is_constant:
                out.append((float(rate.values[0]),) * 3)
                continue
            _, values = self._steps(rate)
            spans = self.result.spans(ledger) if spans is None else spans
            begin_s = spans["start_ns"].to_numpy() / NS_PER_S + self._offset_s
            end_s = begin_s + np.nan_to_num(spans["duration_s"].to_numpy(zero_copy_only=False))
            means = rate.mean(begin_s, end_s)
            joules = np.nan_to_num(spans["energy_j"].to_numpy(zero_copy_only=False))
            mean = float(np.dot(means, joules) / joules.sum()) if joules.sum() > 0 else float(values.mean())
            low, high = float(values.min()), float(values.max())
            out.append((min(max(mean, low), high), low, high))
        return out

    def _ranged(self, energy: Bounded, mean: float, low: float, high: float) -> Bounded:
        ends = [float(e) * rate for e in (energy.low_j, energy.high_j) for rate in (low, high)]
        scale = self.costs.pue / J_PER_KWH
        return Bounded(float(energy.energy_j) * mean * scale, min(ends) * scale, max(ends) * scale)

    def _times(self, energy: Bounded, value: float) -> Bounded:
        return self._ranged(energy, value, value, value)

    def _bounded(self, weights: np.ndarray, middle: np.ndarray, low: np.ndarray, high: np.ndarray) -> Bounded:
        """Bounds of a weighted sum: a negative weight takes the other end."""
        scale = self.costs.pue / J_PER_KWH
        ends = np.sort([weights * low, weights * high], axis=0).sum(axis=1) * scale
        value = float(np.dot(weights, middle)) * scale
        return Bounded(min(max(value, float(ends[0])), float(ends[1])), float(ends[0]), float(ends[1]))


def _one(amount: Bounded, count: float) -> tuple[float, float, float]:
    value, low, high = (float(x) / count for x in _columns(amount))
    return value, low, high


def _columns(amount: Bounded) -> tuple[Any, Any, Any]:
    return amount.energy_j, amount.low_j, amount.high_j


def _within(windows: Windows, begin_ns: int, end_ns: int) -> Windows:
    """The parts of the stretches that are within a time."""
    begin, end = np.maximum(windows.begin_ns, begin_ns), np.minimum(windows.end_ns, end_ns)
    keep = end > begin
    return Windows(windows.name, windows.handle, begin[keep], end[keep])
