"""One line of a log is lost, doubled, moved or cut: the energy is within what that line can mean, or a note reports it.

FASTGREEN_MUTATIONS sets the number of mutations of each reader.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from fastgreen.errors import TraceError
from fastgreen.recordings.readers import (
    read_aipowermeter,
    read_amd_smi,
    read_carbontracker,
    read_codecarbon,
    read_dmon,
    read_home_assistant,
    read_influxdb,
    read_nvidia_smi,
    read_omegawatt,
    read_perf_stat,
    read_perun,
    read_ptdaemon,
    read_table,
    read_tegrastats,
    read_turbostat,
    read_zeus,
)

MUTATIONS = int(os.environ.get("FASTGREEN_MUTATIONS", "60"))
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
SIZE = 12
MOST_W = 200.0


def moment(i, form):
    return (NOON + timedelta(seconds=i)).strftime(form)


def smi(watts):
    return ["timestamp, index, power.draw [W]"] + [
        f"{moment(i, '%Y/%m/%d %H:%M:%S.%f')[:-3]}, {gpu}, {w:.2f} W" for i, w in enumerate(watts) for gpu in (0, 1)
    ]


def smi_without_index(watts):
    return ["timestamp, power.draw [W]"] + [
        f"{moment(i, '%Y/%m/%d %H:%M:%S.%f')[:-3]}, {w:.2f} W" for i, w in enumerate(watts) for _ in (0, 1)
    ]


def dmon(watts):
    return ["#Date Time gpu pwr", "#YYYYMMDD HH:MM:SS Idx W"] + [
        f" {moment(i, '%Y%m%d %H:%M:%S')}    0    {w:.0f}" for i, w in enumerate(watts)
    ]


def omegawatt(watts):
    return ["#timestamp,#frame_is_ok,#activepow1,#U"] + [
        f"{NOON.timestamp() + i:.3f},True,{w:.2f},230" for i, w in enumerate(watts)
    ]


def aipowermeter(watts):
    return [
        json.dumps({"date": moment(i, "%Y-%m-%d %H:%M:%S.%f"), "metrics": {"cpu": {"intel_power": w}}})
        for i, w in enumerate(watts)
    ]


def codecarbon(watts):
    return ["timestamp,run_id,duration,cpu_energy,gpu_energy,ram_energy,energy_consumed,country_name"] + [
        f"{moment(2 * i, '%Y-%m-%dT%H:%M:%S')},run-{i},1,{w / 3.6e6},0,0,{w / 3.6e6},Germany"
        for i, w in enumerate(watts)
    ]


def table(watts):
    return ["when;watts;end"] + [
        f"{moment(i, '%Y-%m-%d %H:%M:%S.%f')};{w:.2f};x".replace(".", ",") for i, w in enumerate(watts)
    ]


def tegrastats(watts):
    return [
        f"{moment(i, '%m-%d-%Y %H:%M:%S')} RAM 23/77MB CPU [1%@729,off] VDD_IN {1000 * w:.0f}mW/9mW VDD_SOC 900mW/900mW"
        for i, w in enumerate(watts)
    ]


def perf(watts):
    return [f"{i + 1}.000500000,{w:.2f},Joules,power/energy-pkg/,1000000000,100.00,," for i, w in enumerate(watts)]


def turbostat(watts):
    lines = ["Core\tCPU\tBusy%\tPkgWatt\tTime_Of_Day_Seconds"]
    for i, w in enumerate(watts):
        stamp = f"{NOON.timestamp() + i:.6f}"
        lines += [f"-\t-\t9.00\t{w:.2f}\t{stamp}", f"0\t0\t9.00\t{w:.2f}\t{stamp}"]
    return lines


def amd_smi(watts):
    return ["timestamp,gpu,socket_power"] + [
        f"{moment(i, '%Y-%m-%dT%H:%M:%S.%f')},{gpu},{w:.0f}" for i, w in enumerate(watts) for gpu in (0, 1)
    ]


def influxdb(watts):
    return ["#datatype,string,long,dateTime:RFC3339,double,string", ",result,table,_time,_value,_field"] + [
        f",,0,{moment(i, '%Y-%m-%dT%H:%M:%SZ')},{w:.2f},power" for i, w in enumerate(watts)
    ]


def home_assistant(watts):
    return ["entity_id,state,last_changed"] + [
        f"sensor.plug_power,{w:.2f},{moment(i, '%Y-%m-%dT%H:%M:%S.000Z')}" for i, w in enumerate(watts)
    ]


def zeus(watts):
    return ["start_time,window_name,elapsed_time,gpu0_energy"] + [
        f"{NOON.timestamp() + i},step,1.0,{w:.2f}" for i, w in enumerate(watts)
    ]


def carbontracker(watts):
    texts = "Epoch {0}:", "Duration: 0:00:01.00", "Average power usage (W) for gpu: [{1:.2f}]"
    return [f"{moment(i, '%Y-%m-%d %H:%M:%S')} - {text.format(i, w)}" for i, w in enumerate(watts, 1) for text in texts]


def ptdaemon(watts):
    return [
        f"Time,{moment(i, '%m-%d-%Y %H:%M:%S.%f')[:-3]},Watts,{w:.6f},Volts,230.000000,Amps,0.200000,PF,0.500000,Mark,m"
        for i, w in enumerate(watts)
    ]


def perun(watts):
    return [",run id,hostname,device_group,sensor,unit,magnitude,timestep,value"] + [
        f"{2 * i + gpu},0,node,gpu,CUDA:{gpu}_POWER,W,0.001,{i + i / 8e6},{1000 * w:.0f}"
        for i, w in enumerate(watts)
        for gpu in (0, 1)
    ]


def read_any(file):
    return read_table(file, time="when", power="watts")


def lost(lines, i, j, rng):
    return [*lines[:i], *lines[i + 1 :]]


def doubled(lines, i, j, rng):
    return [*lines[: i + 1], *lines[i:]]


def moved(lines, i, j, rng):
    rest = lost(lines, i, j, rng)
    return [*rest[:j], lines[i], *rest[j:]]


def cut(lines, i, j, rng):
    return [*lines[:i], lines[i][: rng.integers(0, len(lines[i]))], *lines[i + 1 :]]


def glued(lines, i, j, rng):
    return [*lines[:i], "".join(lines[i : i + 2]), *lines[i + 2 :]]


CHANGES = (lost, doubled, moved, cut, glued)
FORMATS = [
    (smi, read_nvidia_smi),
    (smi_without_index, read_nvidia_smi),
    (dmon, read_dmon),
    (omegawatt, read_omegawatt),
    (aipowermeter, read_aipowermeter),
    (codecarbon, read_codecarbon),
    (table, read_any),
    (tegrastats, read_tegrastats),
    (perf, read_perf_stat),
    (turbostat, read_turbostat),
    (amd_smi, read_amd_smi),
    (influxdb, read_influxdb),
    (home_assistant, read_home_assistant),
    (zeus, read_zeus),
    (carbontracker, read_carbontracker),
    (ptdaemon, read_ptdaemon),
    (perun, read_perun),
]


@pytest.mark.parametrize(("write", "reader"), FORMATS)
def test_one_changed_line_is_within_its_meaning_or_noted(tmp_path, write, reader):
    rng = np.random.default_rng(17)
    file = tmp_path / "log"
    for number in range(MUTATIONS):
        lines = write(np.round(rng.uniform(50, MOST_W, SIZE)))
        file.write_text("\n".join(lines) + "\n")
        whole = reader(file).total_j
        assert whole > 0
        change = CHANGES[number % len(CHANGES)]
        i, j = rng.integers(0, len(lines), 2)
        changed = change(lines, i, j, rng)
        file.write_text("\n".join(changed) + "\n")
        try:
            recording = reader(file)
        except TraceError:
            continue
        # A line is a moment: it changes the power of the two steps beside it, or ends the log one step earlier.
        within = abs(recording.total_j - whole) <= 2 * MOST_W
        assert within or recording.notes, (change.__name__, i, j, whole, recording.total_j, changed)
        assert all(joules >= 0 for joules in recording.energy_j().values())
