# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    tool: str
    case: str
    figure: str
    unit: str
    value: float | None
    low: float | None = None
    high: float | None = None
    repeats: int = 1
    note: str = ""
