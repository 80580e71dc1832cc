# SPDX-License-Identifier: Apache-2.0
"""A sweep in blocks: as a lazy Dask array, or in stretches that follow each other in row-major order."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastgreen.metrics.score_grid import ScoreGrid
from fastgreen.metrics.search_grid import SearchGrid

__all__ = ["stretches", "to_dask"]


def stretches(shape: tuple[int, ...], most: int) -> Iterator[tuple[int, tuple[slice, ...]]]:
    """Cut a grid into parts of at most `most` points, where an axis allows it, that follow each other.

    Yields
    ------
    first : int
        Position of the part's first point, in row-major order. Its points are adjacent.
    part : tuple of slice
        Its stretch of each axis: single points of the slow axes, a stretch of one axis, the faster axes whole.
    """
    axis, inner = len(shape) - 1, 1
    while axis > 0 and inner * shape[axis] <= most:
        inner *= shape[axis]
        axis -= 1
    step = max(1, most // inner)
    whole = tuple(slice(0, length) for length in shape[axis + 1 :])
    for row, places in enumerate(itertools.product(*map(range, shape[:axis]))):
        single = tuple(slice(place, place + 1) for place in places)
        for begin in range(0, shape[axis], step):
            yield (row * shape[axis] + begin) * inner, (*single, slice(begin, min(begin + step, shape[axis])), *whole)


def to_dask(plan: ScoreGrid | SearchGrid, chunks: Any, dtype: np.dtype) -> Any:
    """See `Sweep.dask`."""
    try:
        import dask.array as da
    except ImportError as error:
        raise ImportError("a lazy array needs Dask: pip install 'fastgreen[distributed]'", name="dask") from error
    sizes = da.core.normalize_chunks(chunks, shape=plan.shape, dtype=dtype)
    edges = [list(itertools.accumulate(lengths, initial=0)) for lengths in sizes]
    return da.map_blocks(
        _block,
        chunks=sizes,
        dtype=dtype,
        meta=np.empty((0,) * len(sizes), dtype),
        plan=plan,
        edges=edges,
        kind=dtype,
    )


def _block(
    plan: ScoreGrid | SearchGrid, edges: list[list[int]], kind: np.dtype, block_id: tuple[int, ...]
) -> np.ndarray:
    """Values of one block of a Dask array."""
    part = tuple(slice(cuts[n], cuts[n + 1]) for cuts, n in zip(edges, block_id, strict=True))
    own = plan.part(part)
    out = np.empty(math.prod(own.shape), kind)
    own.fill(out, 0, False)
    return out.reshape(own.shape)
