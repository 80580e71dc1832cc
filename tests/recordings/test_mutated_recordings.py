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
    read_codecarbon,
    read_dmon,
    read_nvidia_smi,
    read_omegawatt,
    read_perf_stat,
    read_table,
    read_tegrastats,
    read_turbostat,
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
