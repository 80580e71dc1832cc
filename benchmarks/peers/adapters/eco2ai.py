# SPDX-License-Identifier: Apache-2.0
"""Eco2AI: start and stop of a tracker; the CPU's energy is its load times its nominal power, the GPU's is read.

A fixed country, so that it looks up nothing; the total is the one number its public interface returns.
"""

import pandas
from eco2ai import Tracker

NO_COUNTER = "does not read the CPU's counter: its load times its nominal power"
FASTEST_S = 0.01  # asked for more, its scheduler is busy with the runs that it skips, and it takes fewer
OPTIONS = {"alpha_2_code": "DE", "ignore_warnings": True, "file_name": "eco2ai.csv"}
J_PER_KWH = 3.6e6


def windows(run):
    tracker = Tracker(**OPTIONS)

    def loop(count):
        for _ in range(count):
            tracker.start()
            tracker.stop()

    run(loop)


def measured(function):
    tracker = Tracker(**OPTIONS)
    tracker.start()
    function()
    tracker.stop()
    row = pandas.read_csv("eco2ai.csv").iloc[-1]
    return {"total": float(row["power_consumption(kWh)"]) * J_PER_KWH}


def sampling(period_s, run):
    tracker = Tracker(measure_period=period_s, **OPTIONS)
    tracker.start()
    run()
    tracker.stop()
