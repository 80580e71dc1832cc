# SPDX-License-Identifier: Apache-2.0
"""Faults and what must come out of each: `ROWS` is the table, tests/test_faults.py runs it, docs/faults.md shows it."""

from .model import Act, Expect, Fault, Proof, Scene
from .rows import ROWS

__all__ = ["ROWS", "Act", "Expect", "Fault", "Proof", "Scene"]
