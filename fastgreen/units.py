"""Units: conversion of sensors' integers to SI floats, metadata of fields, counts in words."""

from __future__ import annotations

__all__ = [
    "J_PER_KWH",
    "J_PER_WH",
    "NS_PER_MS",
    "NS_PER_S",
    "UNITS",
    "counted",
    "joules_per_unit",
    "two_digits",
    "unit_metadata",
    "watts_to_units_per_ns",
]

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
J_PER_WH = 3600.0
J_PER_KWH = 3.6e6

# Unit of the raw integer -> its size in J or W
UNITS = {"uJ": 1e-6, "mJ": 1e-3, "J": 1.0, "pW": 1e-12, "nW": 1e-9, "uW": 1e-6, "mW": 1e-3, "W": 1.0}
UNITS |= {f"J/2^{n}": 2.0**-n for n in range(1, 64)}  # Linux's perf event sources count in these fractions


def joules_per_unit(unit: str) -> float:
    """Joules in one unit of the engine's sums: the unit of a counter, or raw * ns for a power."""
    return UNITS[unit] if "J" in unit else UNITS[unit] / NS_PER_S


def watts_to_units_per_ns(watts: float, unit: str) -> float:
    """Convert W to the unit of the engine's ceiling: counter units per ns, or the raw unit of a power."""
    return watts / UNITS[unit] / NS_PER_S if "J" in unit else watts / UNITS[unit]


def counted(number: int, noun: str) -> str:
    """Text of a number with its noun: "1 layer", "2 layers"."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def two_digits(number: float) -> str:
    """Two significant digits without an exponent: "280", "6.4".

    Examples
    --------
    >>> two_digits(283.1), two_digits(6.36)
    ('280', '6.4')
    """
    return f"{float(f'{number:.2g}'):g}"


def unit_metadata(unit: str) -> dict[str, str]:
    """Arrow field metadata with a unit."""
    return {"unit": unit}
