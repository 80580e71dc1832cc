# SPDX-License-Identifier: Apache-2.0
"""Carbontracker: an epoch is its window; it reads power every `update_interval`, for which a RAPL read takes 1 s.

Its energies come from its own log by its own parser: mean power times the epoch's duration.
"""

import tempfile

from carbontracker import parser
from carbontracker.tracker import CarbonTracker

EPOCHS = 1_000_000
NO_OVERLAP = "has one epoch at a time"


def windows(run):
    tracker = CarbonTracker(epochs=EPOCHS, epochs_before_pred=0, verbose=0)

    def loop(count):
        for _ in range(count):
            tracker.epoch_start()
            tracker.epoch_end()

    run(loop)
    tracker.stop()


def measured(function):
    with tempfile.TemporaryDirectory() as folder:
        tracker = CarbonTracker(epochs=1, epochs_before_pred=0, verbose=0, log_dir=folder)
        tracker.epoch_start()
        function()
        tracker.epoch_end()
        components = parser.parse_all_logs(folder)[0]["components"]
    return {
        name: float((part["avg_power_usages (W)"] * part["epoch_durations (s)"]).sum())
        for name, part in components.items()
    }


def sampling(period_s, run):
    tracker = CarbonTracker(epochs=EPOCHS, epochs_before_pred=0, verbose=0, update_interval=period_s)
    tracker.epoch_start()
    run()
    tracker.epoch_end()
    tracker.stop()
