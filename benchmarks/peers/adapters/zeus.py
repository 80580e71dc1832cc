# SPDX-License-Identifier: Apache-2.0
"""Zeus: windows of ZeusMonitor, which reads counters at both edges; PowerMonitor is its background sampler.

`sync_execution=False`, since there is no framework here to wait for.
"""

from zeus.monitor import PowerMonitor, ZeusMonitor


def windows(run):
    monitor = ZeusMonitor()

    def loop(count):
        for _ in range(count):
            monitor.begin_window("empty", sync_execution=False)
            monitor.end_window("empty", sync_execution=False)

    run(loop)


def measured(function):
    monitor = ZeusMonitor()
    monitor.begin_window("warm-up", sync_execution=False)
    monitor.end_window("warm-up", sync_execution=False)
    monitor.begin_window("work", sync_execution=False)
    function()
    measurement = monitor.end_window("work", sync_execution=False)
    return {"cpu": measurement.cpu_energy[0], "gpu": measurement.gpu_energy[0]}


def overlapping(function, count):
    monitor = ZeusMonitor()
    for number in range(count):
        monitor.begin_window(str(number), sync_execution=False)
    function()
    return [monitor.end_window(str(number), sync_execution=False).cpu_energy[0] for number in range(count)]


def sampling(period_s, run):
    monitor = PowerMonitor(update_period=period_s)
    run()
    monitor.stop()
