# SPDX-License-Identifier: Apache-2.0
"""nvitop: the collector's tagged context is its window, whose metrics are collected at its end; GPUs only.

It gives mean power, which times the duration is the energy.
"""

from nvitop import Device, ResourceMetricCollector

NO_COUNTER = "reads no CPU energy"


def windows(run):
    collector = ResourceMetricCollector(Device.all())

    def loop(count):
        for _ in range(count):
            with collector(tag="empty"):
                collector.collect()

    run(loop)


def measured(function):
    collector = ResourceMetricCollector(Device.all())
    with collector(tag="work"):
        function()
        metrics = collector.collect()
    power_w = next(value for key, value in metrics.items() if key.endswith("power_usage (W)/mean"))
    return {"gpu": power_w * metrics["work/duration (s)"]}


def sampling(period_s, run):
    with ResourceMetricCollector(Device.all(), interval=period_s)(tag="run"):
        run()
