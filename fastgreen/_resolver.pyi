from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

_Samples: TypeAlias = NDArray[np.void]  # of dtype SAMPLE
_Instants: TypeAlias = NDArray[np.int64]
_Energies: TypeAlias = NDArray[np.float64]

SAMPLE: np.dtype[np.void]
GAP: int
RESET: int
RETURN: int
BETWEEN: int
FULL: int
END: int
CUT: int
OTHER: int

def samples(waiting: bytearray | _Samples) -> _Samples: ...
def resolve_instants(
    traits: dict[str, Any], ceiling_per_ns: float, chunks: Iterable[_Samples], at_ns: ArrayLike, restarts: bool = False
) -> tuple[_Energies, _Energies, _Energies, _Energies]: ...

class Account:
    def __init__(self, traits: dict[str, Any]) -> None: ...
    def feed(self, samples: _Samples) -> None: ...
    def tally(self) -> dict[str, Any]: ...

class Answers:
    low: _Energies
    estimate: _Energies
    high: _Energies
    unknown: _Energies
    rounding: _Energies
    def __new__(cls, count: int, restarts: bool, edges: bool = False) -> Answers: ...

class Part:
    @property
    def wrong(self) -> int: ...
    def __new__(
        cls,
        traits: dict[str, Any],
        ceiling_per_ns: float,
        begin: _Instants,
        end: _Instants,
        out: Answers,
        first: int,
        until: int,
    ) -> Part: ...
    def feed(self, chunk: _Samples) -> None: ...
    def finish(self) -> None: ...

def check_samples(samples: _Samples) -> None: ...
def refuse(begin: _Instants, end: _Instants, at: int) -> None: ...

class Edges:
    begins: Answers
    ends: Answers
    @property
    def done(self) -> bool: ...
    def __new__(
        cls,
        traits: dict[str, Any],
        ceiling_per_ns: float,
        begin: _Instants | None = None,
        end: _Instants | None = None,
        restarts: bool = False,
        base: Edges | None = None,
    ) -> Edges: ...
    def feed(self, chunk: _Samples) -> None: ...
    def finish(self) -> None: ...

class Sum:
    ceiling_per_ns: float
    @property
    def bounds(self) -> tuple[float, float]: ...
    def __new__(cls, ceiling_per_ns: float) -> Sum: ...
    def add(
        self, begins: tuple[_Instants, _Energies, _Energies], ends: tuple[_Instants, _Energies, _Energies]
    ) -> None: ...

class Batches:
    @property
    def passed(self) -> int: ...
    @property
    def at(self) -> int: ...
    def __init__(self, data: Any, at: int, name: dict[str, Any], batch: dict[str, Any], names: list[bytes]) -> None: ...
    def next(self, most_rows: int, most_batches: int) -> tuple[int, _Samples, list[int]]: ...
