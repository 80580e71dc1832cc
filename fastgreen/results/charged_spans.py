"""Spans that share energy, as columns."""

from __future__ import annotations

import numpy as np

from fastgreen import _shares
from fastgreen._light_dataclass import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Spans"]


@dataclass
class Spans:
    """What is shared among: columns with an entry per piece of a span, which has one weight.

    Attributes
    ----------
    begin_ns, end_ns : arrays of int64
    weight : array of uint64
        Units of 2^-20, see `weight_units`.
    span : array of uint32, optional
        Which span each piece is of; those of a span follow each other in time, each begins where the one before ends.
        By default each is a span of its own.
    charged : array of bool, optional
        By span: False for one that only looks on, as the phases of spans that are charged do.
    """

    begin_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    weight: NDArray[np.uint64]
    span: NDArray[np.uint32] | None = None
    charged: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.begin_ns) if self.charged is None else len(self.charged)

    @property
    def edges(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Begin and end of each span."""
        if self.span is None:
            return self.begin_ns, self.end_ns
        first = np.flatnonzero(np.diff(self.span, prepend=-1))
        return self.begin_ns[first], self.end_ns[np.append(first[1:], len(self.span)) - 1]

    def events(self) -> NDArray[np.void]:
        """What happens to the spans, in the order of time; at one instant openings are first and closings last."""
        assert self.span is not None
        count = len(self.span)
        first = np.diff(self.span, prepend=-1) != 0
        out = np.zeros(count + len(self), _shares.event_dtype())
        out["at_ns"] = np.append(self.begin_ns, self.edges[1])
        out["weight"][:count] = self.weight
        out["span"] = np.append(self.span, np.arange(len(self)))
        out["kind"] = np.append(~first, np.full(len(self), 2))
        return out[np.lexsort((np.arange(len(out)), out["kind"], out["at_ns"]))]
