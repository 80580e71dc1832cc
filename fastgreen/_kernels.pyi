from typing import Any

import numpy as np

FOUND: dict[str, type]
apc: np.ufunc
apec: np.ufunc
weighted_consumption: np.ufunc
closest_apc: np.ufunc

def usable_paths() -> tuple[str, ...]: ...
def make_ufuncs(path: str | None = None) -> dict[str, np.ufunc]: ...

class Grid:
    dtype: np.dtype[Any]
    def __init__(
        self, beta: Any, alpha: Any, accuracy: Any, cost: Any, dtype: Any = "float64", path: str | None = None
    ) -> None: ...
    def fill(self, out: np.ndarray, first: int = 0, stream: bool = False) -> None: ...

def reach(
    offset: np.ndarray,
    time: np.ndarray | None,
    cost: np.ndarray,
    accuracy: np.ndarray,
    cost_delta: float,
    accuracy_delta: float,
    alpha: float,
    beta: float,
    target: float,
    quantize: bool,
    first: int,
    found: dict[str, np.ndarray],
    path: str | None = None,
) -> int: ...
def first_outside(x: np.ndarray, low: float, high: float, path: str | None = None) -> int: ...
