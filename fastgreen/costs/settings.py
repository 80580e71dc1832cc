# SPDX-License-Identifier: Apache-2.0
"""Price, carbon intensity and the other settings of a report: from options, the environment, and TOML files.

An option comes before the environment, the environment before ``[report]`` of ``fastgreen.toml``, and that before
``[tool.fastgreen.report]`` of ``pyproject.toml``. The files are looked for in the current folder and the folders above.
"""

from __future__ import annotations

import difflib
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from fastgreen.costs.hourly import read_hourly
from fastgreen.costs.rate import CARBON, PRICE, Quantity, Rate
from fastgreen.errors import FastgreenWarning, TraceError
from fastgreen.guards.untrusted import read_toml
from fastgreen.units import J_PER_KWH

__all__ = ["SETTINGS", "Costs", "costs_from", "found_settings"]

# Setting -> variable of the environment
SETTINGS = {
    "price": "FASTGREEN_PRICE",
    "carbon": "FASTGREEN_CARBON",
    "pue": "FASTGREEN_PUE",
    "embodied": "FASTGREEN_EMBODIED",
    "lifespan": "FASTGREEN_LIFESPAN",
    "machine_share": "FASTGREEN_MACHINE_SHARE",
}
_LIFESPAN_YEARS = 4.0
_HOURS_PER_YEAR = 8760.0
_MOST_PUE = 10.0  # the worst rooms have 3; a larger number is a mistake
_PRICE = re.compile(r"(?P<value>[-+]?[\d.]\S*|nan|inf)\s*(?P<currency>[^\d\s/]{1,8})?(?:\s*/\s*kWh)?", re.IGNORECASE)


@dataclass(frozen=True)
class Costs:
    """Rates to convert joules to money and carbon.

    Attributes
    ----------
    price, carbon : Rate or None
        Per kWh; None if not given.
    pue : float
        Power usage effectiveness of the building: its energy over that of the machines, 1 or more.
    embodied_g : float
        Emissions of making the machine, g CO2e.
    lifespan_years : float
        Time over which these are spread.
    machine_share : float
        Part of the machine that the program reserves, above 0 to 1.
    chosen : frozenset of str
        Names of the settings that the caller gave, not a file or the environment.
    """

    price: Rate | None = None
    carbon: Rate | None = None
    pue: float = 1.0
    embodied_g: float = 0.0
    lifespan_years: float = _LIFESPAN_YEARS
    machine_share: float = 1.0
    chosen: frozenset[str] = field(default_factory=frozenset)

    def __bool__(self) -> bool:
        return self.price is not None or self.carbon is not None or self.embodied_g > 0

    @property
    def currency(self) -> str:
        """Name of the currency; empty if it is not known."""
        return self.price.currency if self.price is not None else ""

    def embodied_of(self, duration_s: float) -> float:
        """Share of the embodied emissions for a time, g CO2e (ISO/IEC 21031: TE * TS * RS)."""
        return self.embodied_g * duration_s / 3600 / (self.lifespan_years * _HOURS_PER_YEAR) * self.machine_share

    def of(self, energy_j: float, at_s: float) -> tuple[float | None, float | None]:
        """Money and g CO2e of an energy that was spent at a moment, seconds since 1970; None without a rate.

        TraceError if a file has no value for the moment.
        """
        kwh = energy_j / J_PER_KWH * self.pue
        price, carbon = (None if r is None else kwh * r.at(at_s) for r in (self.price, self.carbon))
        return price, carbon


def costs_from(
    given: Mapping[str, Any] | None = None, folder: Path | None = None, environment: Mapping[str, str] | None = None
) -> Costs:
    """Rates from given values, the environment and the settings of a folder.

    Parameters
    ----------
    given : mapping, optional
        Values by name: price, carbon, pue, embodied, lifespan, machine_share. None is not given. A price and a carbon
        intensity are numbers, ``"0.30 EUR"``, or a CSV file: ``"grid.csv"``, ``"grid.csv::COLUMN"``.
    folder : Path, optional
        Where the search for TOML files begins; the current folder by default.
    environment : mapping, optional
        Instead of `os.environ`.

    Returns
    -------
    Costs

    Raises
    ------
    ValueError
        If a value is not possible; the message names its origin.
    TraceError, OSError
        If a file cannot be read.
    """
    found = {name: (value, Path(), name) for name, value in (given or {}).items() if value is not None}
    chosen = frozenset(found)
    for name, entry in found_settings(folder, environment).items():
        found.setdefault(name, entry)
    out: dict[str, Any] = {}
    for name, (value, base, origin) in found.items():
        try:
            out[_ATTRIBUTES[name]] = _read(name, value, base)
        except TraceError:
            raise
        except ValueError as error:
            raise ValueError(str(error) if origin == name else f"{origin}: {error}") from None
    return Costs(**out, chosen=chosen)


_ATTRIBUTES = {name: name for name in ("price", "carbon", "pue", "machine_share")}
_ATTRIBUTES |= {"embodied": "embodied_g", "lifespan": "lifespan_years"}


def _read(name: str, value: Any, base: Path) -> Any:
    if name == "price":
        return _rate(value, PRICE, base)
    if name == "carbon":
        return _rate(value, CARBON, base)
    if name == "machine_share" and isinstance(value, str) and "/" in value:
        try:
            value = float(Fraction(value))
        except (ValueError, ZeroDivisionError):
            raise ValueError(f"machine_share must be a part as 0.125 or 1/8, not {value!r}") from None
    number = _number(name, value)
    low, high, rule = {
        "pue": (1.0, _MOST_PUE, f"must lie in 1..{_MOST_PUE:g}"),
        "embodied": (0.0, 1e12, "must be grams of CO2e, 0 or more"),
        "lifespan": (1 / 365, 1000.0, "must be years, a day to 1000 years"),
        "machine_share": (1e-9, 1.0, "must be above 0 and at most 1"),
    }[name]
    if not low <= number <= high:
        raise ValueError(f"{name} {rule}, not {number:g}")
    return number


def _number(name: str, value: Any) -> float:
    try:
        if isinstance(value, bool):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} must be a number, not {str(value)[:60]!r}") from None


def _rate(value: Any, quantity: Quantity, base: Path) -> Rate:
    if isinstance(value, Rate):
        return value
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str):
        return Rate.constant(quantity.check(_number(quantity.name, value)))
    match = _PRICE.fullmatch(value.strip())
    number, currency = (match["value"], match["currency"] or "") if match else (value, "")
    try:
        amount = float(number)
    except ValueError:
        return _file(value, quantity, base)
    if currency and quantity is CARBON:
        if currency.casefold() not in ("g", "gco2", "gco2e"):
            raise ValueError(f"carbon must be g/kWh or a CSV file, not {value!r}")
        currency = ""
    return Rate.constant(quantity.check(amount), currency)


def _file(value: str, quantity: Quantity, base: Path) -> Rate:
    name, _, column = value.partition("::")
    path = base / Path(name).expanduser()
    if not path.exists():
        raise ValueError(f"{quantity.name} must be a number {quantity.unit} or a CSV file that exists, not {value!r}")
    return read_hourly(path, quantity, column or None)


# ---- where settings come from ----


def found_settings(
    folder: Path | None = None, environment: Mapping[str, str] | None = None
) -> dict[str, tuple[Any, Path, str]]:
    """Settings of the environment and of TOML files: value, folder of relative paths, and origin in words."""
    environment = os.environ if environment is None else environment
    out: dict[str, tuple[Any, Path, str]] = {}
    for name, variable in SETTINGS.items():
        if environment.get(variable, "").strip():
            out[name] = environment[variable], Path(), variable
    for name, entry in _from_files(Path.cwd() if folder is None else folder).items():
        out.setdefault(name, entry)
    return out


def _from_files(folder: Path) -> dict[str, tuple[Any, Path, str]]:
    """The table of the nearest file that has one; fastgreen.toml before pyproject.toml."""
    folder = folder.absolute()
    for place in (folder, *folder.parents):
        for file, keys in (("fastgreen.toml", ("report",)), ("pyproject.toml", ("tool", "fastgreen", "report"))):
            path = place / file
            if not path.is_file():
                continue
            table: Any = _content(path)
            for key in keys:
                table = table.get(key) if isinstance(table, dict) else None
            if table is None:
                continue
            where = f"{path}, [{'.'.join(keys)}]"
            if not isinstance(table, dict):
                raise ValueError(f"{where} must be a table")
            for name in table:
                if name not in SETTINGS:
                    near = difflib.get_close_matches(name, SETTINGS, n=1)
                    hint = f" Did you mean {near[0]!r}?" if near else ""
                    raise ValueError(f"{where}: {name!r} must be one of {', '.join(SETTINGS)}.{hint}")
            return {name: (value, place, f"{where}") for name, value in table.items()}
    return {}


def _content(path: Path) -> dict[str, Any]:
    try:
        return read_toml(path)
    except (TraceError, OSError) as error:
        if path.name == "fastgreen.toml":
            raise
        # A project that is broken elsewhere can still be measured.
        warnings.warn(f"no settings from {path}: {error}", FastgreenWarning, stacklevel=2)
        return {}
