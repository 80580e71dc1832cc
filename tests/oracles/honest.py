# SPDX-License-Identifier: Apache-2.0
"""Truth beside a result of a moving tree, whose mover a busy machine may keep waiting.

Bounds rest on T, the longest time between two updates. A mover that was kept waiting broke the T that its channel
claims, which says nothing of the bounds; but it knows what it kept, so the same samples are resolved with that T.
"""

from __future__ import annotations

from fastgreen.results.result import Result
from fastgreen.results.trace import Trace
from tests.fakes.powercap import PowercapTree


class Honest:
    """`result` with the T that the tree kept, and the check that the truth lies within its bounds.

    A number that is shown `delay_ns` after its instant holds that much less than the model of fg_resolver.h says, so an
    edge may lie that much earlier.
    """

    def __init__(self, result: Result, tree: PowercapTree) -> None:
        age_ns, self.delay_ns = tree.punctuality_ns()
        self.age_ns, self.tree = age_ns, tree
        traces = [
            Trace(t.channel, t.counted, {**t.tally, "period_ns": max(t.tally["period_ns"], age_ns)}, t.chunks)
            for t in result.traces
        ]
        self.result = Result(traces, result._windows, result.metadata, result.start_ns, result.end_ns, result.notes)

    def holds(self, zones: list[str], edges: list[tuple[int, int]], low_j: float, high_j: float) -> bool:
        """Whether the true energy of these zones between these edges, summed, lies within."""
        until = self.tree.energy_j
        least = sum(until(z, begin, max(begin, end - self.delay_ns)) for z in zones for begin, end in edges)
        most = sum(until(z, begin - self.delay_ns, end) for z in zones for begin, end in edges)
        return low_j <= most and least <= high_j
