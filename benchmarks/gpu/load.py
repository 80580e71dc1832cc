"""Load for a GPU, by PyTorch or CuPy, and a rhythm in which it is switched on and off."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# (on, off) in s, repeated. Not a multiple of updates of 10 to 100 ms, or every update would see the same part; and of
# unequal lengths, because a mean over a whole period of a regular wave shows nothing.
PATTERN = ((0.37, 0.26), (0.19, 0.43), (0.83, 0.31), (0.29, 0.97), (0.53, 0.17))


class Load(NamedTuple):
    """`burst` works for a few ms and waits for the end; `launch` starts a tiny kernel; `wait` waits for the GPU."""

    name: str
    burst: Callable[[], object]
    launch: Callable[[], object]
    wait: Callable[[], object]


def find_load(index: int = 0) -> Load | None:
    """Matrix products by PyTorch, else by CuPy, on CUDA device `index`; None if neither finds a GPU.

    Each part was called before: what a library loads at its first call is no load.
    """
    load = _torch_load(index) or _cupy_load(index)
    if load is not None:
        for _ in range(20):
            load.burst()
            load.launch()
        load.wait()
    return load


def _torch_load(index: int) -> Load | None:
    try:
        import torch
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    device = torch.device("cuda", index)
    a, small = torch.randn(4096, 4096, device=device), torch.zeros(1, device=device)
    wait = lambda: torch.cuda.synchronize(device)  # noqa: E731

    def burst() -> None:
        for _ in range(4):
            a @ a
        wait()

    return Load(f"PyTorch {torch.__version__}", burst, lambda: small.add_(1), wait)


def _cupy_load(index: int) -> Load | None:
    try:
        import cupy
    except ImportError:
        return None
    if not cupy.cuda.is_available():
        return None
    device = cupy.cuda.Device(index)
    device.use()
    a, small = cupy.random.rand(4096, 4096, dtype=cupy.float32), cupy.zeros(1, cupy.float32)

    def burst() -> None:
        with device:  # which CuPy remembers for each thread
            for _ in range(4):
                a @ a
            device.synchronize()

    return Load(f"CuPy {cupy.__version__}", burst, lambda: cupy.add(small, 1, out=small), device.synchronize)


class OnOff:
    """Runs bursts on and off in the rhythm of PATTERN; `edges` are the times, in s of CLOCK_MONOTONIC."""

    def __init__(self, burst: Callable[[], object]) -> None:
        self._burst = burst
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._try)
        self._edges: list[tuple[float, float]] = []
        self._error: RuntimeError | None = None

    def _try(self) -> None:
        try:
            self._run()
        except RuntimeError as error:  # PyTorch's and CuPy's are
            self._error = error

    def _run(self) -> None:
        for on_s, off_s in itertools.cycle(PATTERN):
            begin = time.monotonic()
            while time.monotonic() < begin + on_s:
                self._burst()
            self._edges.append((begin, time.monotonic()))
            if self._over.wait(off_s):
                return

    @property
    def edges(self) -> np.ndarray:
        return np.array(self._edges)

    def __enter__(self) -> OnOff:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        self._thread.join()
        if self._error is not None and not any(exc_info):
            raise self._error
