# SPDX-License-Identifier: Apache-2.0
"""perun: an application under @perun is sampled by a second process; @monitor regions inside it are its windows.

The energy of a region is worked out after the run; that of an application is the difference of the counters, handed
to a registered callback.
"""

import logging

from perun import monitor, perun, register_callback
from perun.data_model.data import MetricType

FASTEST_S = 0.1  # a shorter period is refused, and becomes one of 1 s
DEFERRED = True  # regions are worked out after the application has ended
NO_OVERLAP = "not tried: a region is a decorated function"


@monitor("empty")
def empty():
    pass


def windows(run):
    def loop(count):
        for _ in range(count):
            empty()

    perun(data_out="perun_results")(lambda: run(loop))()


def measured(function):
    seen = []

    def application():
        register_callback(collect)
        function()

    def collect(node):
        seen.append(node)

    perun(data_out="perun_results")(application)()
    host = next(iter(next(iter(seen[0].nodes.values())).nodes.values()))
    energy = {
        kind.lower(): group.metrics[MetricType.ENERGY].value
        for kind, group in host.nodes.items()
        if MetricType.ENERGY in group.metrics
    }
    logging.getLogger(__name__).info("energy by device group: %s", energy)
    return energy


def sampling(period_s, run):
    perun(data_out="perun_results", sampling_period=period_s)(run)()
