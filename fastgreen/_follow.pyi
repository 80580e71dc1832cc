from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

_Samples: TypeAlias = NDArray[np.void]  # of dtype _resolver.SAMPLE
_Instants: TypeAlias = NDArray[np.int64]
_Energies: TypeAlias = NDArray[np.float64]
_Changes: TypeAlias = NDArray[np.int64]  # (changes, 4)
_Cells: TypeAlias = NDArray[np.float32]  # (changes or 1, CELLS)

CHANGE_COLUMNS: tuple[str, ...]
CELLS: int
MOST_STATES: int
MOST_COLUMNS: int

class Changes:
    count: int
    def __init__(self, traits: dict[str, Any], most: int | None = None) -> None: ...
    def feed(self, chunk: _Samples) -> None: ...
    def answer(self) -> _Changes: ...

class Timeline:
    edges_ns: _Instants
    states: NDArray[np.int32]
    def __init__(self, edges_ns: ArrayLike, states: ArrayLike, state_count: int) -> None: ...
    def divided(self, first: ArrayLike, ends_ns: ArrayLike, states: ArrayLike, state_count: int) -> Timeline: ...

class Followed:
    changes: _Changes
    cells: _Cells | None
    def __init__(self, changes: _Changes, cells: _Cells | None = None) -> None: ...
    def chain(
        self, shortest_ns: float, longest_ns: float, missed: float, floor: float, smooth: bool = True
    ) -> tuple[_Cells, float, int, int]: ...
    def times(self, timeline: Timeline) -> _Energies: ...
    def curve(
        self,
        timeline: Timeline,
        amount: ArrayLike,
        weight: ArrayLike,
        power: ArrayLike,
        block: ArrayLike,
        at_ns: ArrayLike,
    ) -> _Energies: ...

class Rows:
    def __init__(self, changes: _Changes, times: _Energies) -> None: ...
    def sums(
        self, first: int, until: int, own: float, least_ns2: float, shared: float
    ) -> tuple[_Energies, _Energies, _Energies, float, int]: ...
    def left(self, first: int, until: int, power: ArrayLike) -> dict[str, float]: ...

def powers(matrices: ArrayLike, vectors: ArrayLike) -> _Energies: ...
def load_states(
    at_ns: ArrayLike, names: ArrayLike, marks: ArrayLike, apart_ns: int
) -> tuple[_Instants, NDArray[np.int32], _Energies, _Instants, _Instants]: ...
def between(edges_ns: ArrayLike, values: ArrayLike, begin_ns: ArrayLike, end_ns: ArrayLike) -> _Energies: ...
