# SPDX-License-Identifier: Apache-2.0
"""Where a counter can have wrapped more often than shows: no sample was taken for too long."""

from __future__ import annotations

from fastgreen import _resolver
from fastgreen.results.bounded import Pause

TYPE_CHECKING = False
if TYPE_CHECKING:
    import numpy as np

__all__ = ["blind_pauses"]


def blind_pauses(samples: np.ndarray, modulus: int, ceiling_per_ns: float, unit_j: float) -> list[Pause]:
    """The stretches between two samples in which wraps may have gone unseen, with the most energy that they hide.

    Parameters
    ----------
    samples : array of dtype SAMPLE
        In time order, of a counter that wraps at `modulus`.
    ceiling_per_ns : float
        The most that the channel draws, in units of the counter per ns.
    unit_j : float
        J of a unit.
    """
    import numpy as np

    grown = np.diff(samples["raw"]) + samples["wraps"][1:].astype(np.int64) * modulus
    most = np.diff(samples["at_ns"]) * ceiling_per_ns
    wraps = np.where(samples["flags"][1:] & _resolver.RESET, 0, (most - grown) // modulus)
    at_ns = samples["at_ns"]
    return [
        Pause(int(at_ns[i]), int(at_ns[i + 1]), float(wraps[i]) * modulus * unit_j)
        for i in np.flatnonzero(wraps > 0).tolist()
    ]
