# SPDX-License-Identifier: Apache-2.0
"""pyRAPL: begin and end of a Measurement; there is no sampler, a read is Sensor.energy()."""

import pyRAPL

NO_SAMPLER = "reads only at a window's edges"


def windows(run):
    pyRAPL.setup()
    meter = pyRAPL.Measurement("empty")

    def loop(count):
        for _ in range(count):
            meter.begin()
            meter.end()

    run(loop)


def measured(function):
    pyRAPL.setup()
    meter = pyRAPL.Measurement("work")
    meter.begin()
    function()
    meter.end()
    package = meter.result.pkg  # None where a difference is negative
    return {"cpu": package[0] * 1e-6 if package else None}


def overlapping(function, count):
    pyRAPL.setup()
    meters = [pyRAPL.Measurement(str(number)) for number in range(count)]
    for meter in meters:
        meter.begin()
    function()
    for meter in meters:
        meter.end()
    return [meter.result.pkg[0] * 1e-6 for meter in meters]


def reader():
    return pyRAPL.Sensor().energy
