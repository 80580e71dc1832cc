# SPDX-License-Identifier: Apache-2.0
"""Targets for what a measurement reads: a powercap tree, facts of sensors, a saved run, a run played again."""

from __future__ import annotations

import functools
import math
import os
import shutil
from pathlib import Path

import fastgreen as fg
from fastgreen.sensors.sensor_facts import SensorFacts, remember
from tests.fakes.powercap import PowercapTree, Zone
from tests.fuzz.fields import FILES, NUMBERS, Run
from tests.fuzz.guard import HERE, Take
from tests.fuzz.saved import save_a_run
from tests.fuzz.spoil import spoilt_bytes, spoilt_json

TEXTS = ("name", "energy_uj", "max_energy_range_uj", "constraint_0_max_power_uw")


@functools.cache
def saved() -> Path:
    """The folder of a saved run that nothing changes."""
    path = HERE / "saved"
    save_a_run(path)
    return path


def _tree() -> PowercapTree:
    zones = (Zone("package-0", children=(Zone("core"), Zone("dram"))), Zone("psys"), Zone(control="intel-rapl-mmio"))
    return PowercapTree(HERE / "powercap", zones)


@functools.cache
def _tables() -> Run:
    return Run(saved())


def _mutated(take: Take) -> Path:
    """A copy of the saved run with fields changed, or with bytes set, files cut, grown or exchanged."""
    copy = HERE / "mutated"
    shutil.rmtree(copy, ignore_errors=True)
    if take.number(4):
        _tables().spoilt(take).write(copy)
        return copy
    shutil.copytree(saved(), copy)
    while take.left():
        file = copy / FILES[take.number(3)]
        content = bytearray(file.read_bytes())
        how, at = take.number(8), take.number(len(content) + 1)
        if how == 0:
            content = content[:at]
        elif how == 1:
            content = bytearray((copy / FILES[take.number(3)]).read_bytes())
        elif how == 2:
            content[at:at] = take.bytes(16)
        elif how >= 5:  # a digit of a number in the JSON of traits, reports and metadata
            digits = [i for i, byte in enumerate(content) if 48 <= byte <= 57 and content[i - 1] in b" 0123456789-."]
            if digits:
                content[digits[at % len(digits)]] = b"0123456789-.eE,"[take.number(15)]
        else:
            piece = take.bytes(8)
            content[at : at + len(piece)] = piece
        file.write_bytes(content)
    return copy


def _use(loaded: fg.Result) -> None:
    """Everything that a user may ask of a result; and the answers fit each other."""
    _ = loaded.energy_wh, loaded.duration_s, loaded.mean_power_w, loaded.notes, loaded.to_dict(), repr(loaded)
    samples = loaded.samples()
    left = set(samples["channel"].unique().to_pylist())
    tables = [loaded.channels, loaded.windows(per_channel=True)]
    if all(t.channel.id in left for t in loaded.traces if t.counted and t.has_data):
        tables += [loaded.summary(), loaded.windows()]
        assert 0 <= loaded.energy_low_j <= loaded.energy_j <= loaded.energy_high_j < math.inf, loaded
    for table in tables:
        for row in table.to_pylist():
            if row["energy_j"] is not None and row.get("id", row.get("channel")) in left | {None}:
                assert 0 <= row["energy_low_j"] <= row["energy_j"] <= row["energy_high_j"] < math.inf, row
    if len(loaded.notes) % 4 == 0:  # slow
        _ = str(loaded)


def powercap(take: Take) -> None:
    """Any texts in the files of a powercap tree: discovery lists every zone, and a monitor measures or says why not."""
    shutil.rmtree(HERE / "powercap", ignore_errors=True)
    tree = _tree()
    for placed in tree.placed:
        for name in TEXTS:
            how = take.number(3)
            if how:
                number = NUMBERS[take.number(len(NUMBERS))] if how == 2 else None
                (placed.folder / name).write_bytes(take.bytes(40) if number is None else str(number).encode())
    found = fg.channels(powercap_root=tree.root)
    rapl = [c for c in found if c.source == "rapl"]
    assert len(rapl) == len(tree.placed), rapl
    assert len({c.id for c in found}) == len(found), rapl
    assert all(c.readable or c.reason for c in found)
    try:
        with fg.Monitor(hz=1000, powercap_root=tree.root) as monitor, monitor.window("w"):
            pass
    except ValueError as error:
        if "too low for" in str(error):  # a range so short that it wraps between two readings
            return
        raise
    _use(monitor.result)
    assert 0 <= monitor.result.energy_low_j <= monitor.result.energy_j <= monitor.result.energy_high_j


def facts(take: Take) -> None:
    """Any file of remembered facts of sensors: the channels are there, with these facts or without them."""
    cache = Path(os.environ["FASTGREEN_CACHE_DIR"])
    file = cache / "sensors.json"
    file.unlink(missing_ok=True)
    tree = _tree_of_facts()
    here = fg.channels(powercap_root=tree.root)
    known = SensorFacts(0.01, 0.02, 0.001, 1e-6, 1e-5, 1e-4, 1000, 500, 0.1, 0.05, 0.5)
    for channel in here:
        remember(channel, known)
    text = file.read_text()
    file.write_bytes(spoilt_json(text, take).encode() if take.number(4) else spoilt_bytes(text.encode(), take))
    found = fg.channels(powercap_root=tree.root)
    assert [c.id for c in found] == [c.id for c in here]
    if take.number(8) == 0:
        with fg.Monitor(powercap_root=tree.root) as monitor, monitor.window("w"):
            pass
        _use(monitor.result)


@functools.cache
def _tree_of_facts() -> PowercapTree:
    return PowercapTree(HERE / "facts", (Zone("package-0", children=(Zone("dram"),)),))


def load(take: Take) -> None:
    """Any bytes in the files of a run: TraceError, or a result that answers every question."""
    _use(fg.load(_mutated(take)))


def play(take: Take) -> None:
    """Any bytes in the files of a run that is played again: TraceError, or a result."""
    with fg.Monitor(f"replay:{_mutated(take)}", speed=0) as monitor, monitor.window("w"):
        pass
    _use(monitor.result)
