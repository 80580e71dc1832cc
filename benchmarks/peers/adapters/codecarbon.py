# SPDX-License-Identifier: Apache-2.0
"""CodeCarbon: tasks of a tracker are its windows; a started tracker measures every `measure_power_secs`.

The offline tracker with a fixed country and no output file: nothing leaves the machine and nothing is written.
"""

from codecarbon import OfflineEmissionsTracker

OPTIONS = {"country_iso_code": "DEU", "save_to_file": False, "log_level": "error", "allow_multiple_runs": True}
J_PER_KWH = 3.6e6
NO_OVERLAP = "measures one task at a time"
NO_PAGE = "writes no page: a server shows its files"


def windows(run):
    tracker = OfflineEmissionsTracker(**OPTIONS)

    def loop(count):
        for _ in range(count):
            tracker.start_task()
            tracker.stop_task()

    run(loop)
    tracker.stop()


def measured(function):
    tracker = OfflineEmissionsTracker(**OPTIONS)
    tracker.start_task("warm-up")
    tracker.stop_task("warm-up")
    tracker.start_task("work")
    function()
    data = tracker.stop_task("work")
    tracker.stop()
    return {"cpu": data.cpu_energy * J_PER_KWH, "gpu": data.gpu_energy * J_PER_KWH}


def sampling(period_s, run):
    tracker = OfflineEmissionsTracker(measure_power_secs=period_s, **OPTIONS)
    tracker.start()
    run()
    tracker.stop()
