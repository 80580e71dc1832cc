# SPDX-License-Identifier: Apache-2.0
"""pyJoules: start, stop and the trace of an EnergyMeter over all its devices; a read is EnergyMeter.record()."""

from pyJoules.device import DeviceFactory
from pyJoules.energy_meter import EnergyMeter

NO_SAMPLER = "reads only at a window's edges"


def windows(run):
    meter = EnergyMeter(DeviceFactory.create_devices())

    def loop(count):
        for _ in range(count):
            meter.start(tag="empty")
            meter.stop()
            meter.get_trace()

    run(loop)


def measured(function):
    meter = EnergyMeter(DeviceFactory.create_devices())
    meter.start(tag="work")
    function()
    meter.stop()
    energy = meter.get_trace()[0].energy
    return {"cpu": energy["package_0"] * 1e-6, "gpu": energy["nvidia_gpu_0"] * 1e-3}


def overlapping(function, count):
    meters = [EnergyMeter(DeviceFactory.create_devices()) for _ in range(count)]
    for meter in meters:
        meter.start(tag="work")
    function()
    for meter in meters:
        meter.stop()
    return [meter.get_trace()[0].energy["package_0"] * 1e-6 for meter in meters]


def reader():
    meter = EnergyMeter(DeviceFactory.create_devices())
    meter.start()
    return meter.record
