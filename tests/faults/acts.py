# SPDX-License-Identifier: Apache-2.0
"""The acts that rows are made of: setting up fakes, measuring, and doing harm meanwhile."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from typing import Any

import fastgreen as fg
from tests.fakes.hwmon import Chip
from tests.fakes.nvml import Gpu, Rule
from tests.fakes.permissions import without_dac_override
from tests.fakes.powercap import Zone

from .model import Act, Scene, TooLate, act, soon

ENERGY = "nvmlDeviceGetTotalEnergyConsumption"


@act()
def powercap(scene: Scene, *zones: Zone, move: bool = True) -> None:
    """A powercap tree; it moves by itself unless told otherwise, zones of 0 W only when `counter` says so."""
    scene.tree = scene.make_powercap(*zones, move=move)


@act()
def nvml(scene: Scene, *boards: Gpu, **options: Any) -> None:
    scene.nvml = scene.make_nvml(*(boards or (Gpu(),)), **options)


@act()
def hwmon(scene: Scene, *chips: Chip) -> None:
    scene.hwmon = scene.make_hwmon(*chips)


@act("{name}={value}")
def environment(scene: Scene, name: str, value: str) -> None:
    scene.setenv(name, value)


def measure(*acts: Act, **options: Any) -> Act:
    """A monitor (with these options) round the acts."""

    def run(scene: Scene) -> None:
        arguments = {k: (v(scene) if callable(v) and k == "record" else v) for k, v in options.items()}
        scene.monitor = fg.Monitor(**arguments)
        with scene.monitor:
            reads(3).run(scene)
            for step in acts:
                step.run(scene)
        scene.result = scene.monitor.result

    return Act("; ".join(a.words for a in acts if a.words), run)


@act()
def reads(scene: Scene, count: int, channel: str | None = None) -> None:
    """Wait for so many further readings, or for the channel's end."""
    channel = channel or scene.first()
    before = scene.live(channel)["samples"]
    soon(lambda: scene.live(channel)["samples"] >= before + count or scene.live(channel)["ended"])


@act()
def errors(scene: Scene, count: int, channel: str | None = None) -> None:
    """Wait until so many readings have failed, or the channel has ended."""
    channel = channel or scene.first()
    soon(lambda: scene.live(channel)["read_errors"] >= count or scene.live(channel)["ended"])


@act()
def wait(scene: Scene, seconds: float) -> None:
    time.sleep(seconds)


@act()
def begin(scene: Scene, name: str) -> None:
    scene.monitor.window(name).begin()


@act()
def end(scene: Scene, name: str) -> None:
    next(w for w in scene.monitor.window_handles.windows if w.name == name and w.is_open).end()


@act()
def counter(scene: Scene, value_uj: int, zone: str = "package-0") -> None:
    """Set a zone's counter, in one piece as the tree moves, and have it read."""
    scene.tree.set_uj(zone, value_uj)
    reads(3, f"rapl:{zone}").run(scene)


@act()
def broken(scene: Scene, fault: str, zone: str = "package-0", file: str = "energy_uj") -> None:
    scene.tree.break_file(zone, fault, file)


@act("for a while the counter file is {fault}")
def spoilt_for_a_while(scene: Scene, fault: str, after_uj: int) -> None:
    """Spoil the file of a tree at rest, wait for failures, then show `after_uj`."""
    scene.tree.spoil("package-0", fault)
    errors(5).run(scene)
    scene.tree.set_uj("package-0", after_uj)
    reads(3).run(scene)


@act("the zone is taken out of the tree")
def zone_removed(scene: Scene, zone: str = "package-0") -> None:
    scene.tree.remove_zone(zone)


@act()
def power_uw(scene: Scene, value: int) -> None:
    scene.hwmon.set(0, "power1_input", value)


def ahead(scene: Scene, rule: Callable[[int], Rule], device: int = 0, function: str = ENERGY) -> int:
    """Write a rule for a call to come; returns its number. Where the calls were faster than we, the row begins anew."""
    first = scene.nvml.calls(device).get(function, 0) + scene.lead
    scene.nvml.write(rules=[rule(first)])
    if scene.nvml.calls(device).get(function, 0) >= first:
        raise TooLate
    return first


@act("NVML answers {code}, {times}")
def nvml_says(scene: Scene, code: int, times: str, device: int = 0, function: str = ENERGY) -> None:
    """The next call, the next three, or all further calls answer a code; then wait until that is seen."""
    length = {"once": 0, "three times": 2, "always": None}[times]
    first = ahead(scene, lambda n: Rule(function, code, n, None if length is None else n + length, device), device)
    target = first + 8
    channel = f"nvml:{device}"
    soon(lambda: scene.nvml.calls(device).get(function, 0) >= target or scene.live(channel)["ended"])
    if times != "always":
        reads(3, channel).run(scene)


@act("a call to NVML takes {seconds} s")
def nvml_blocks(scene: Scene, seconds: float) -> None:
    at = ahead(scene, lambda n: Rule(ENERGY, 0, n, n, 0, round(seconds * 1e6)))
    soon(lambda: scene.nvml.calls(0)[ENERGY] > at + 3)


@act("the driver is loaded anew")
def driver_reloaded(scene: Scene) -> None:
    scene.nvml.reload_driver()
    reads(30, "nvml:0").run(scene)


@act("the interpreter's lock is held in C for {seconds} s")
def gil_held(scene: Scene, seconds: float) -> None:
    usleep = ctypes.PyDLL(None).usleep
    begun_ns = time.monotonic_ns()
    usleep(ctypes.c_uint(round(seconds * 1e6)))
    scene.value = (begun_ns, time.monotonic_ns())


@act("{threads} threads enter windows in pure Python all the while")
def busy_threads(scene: Scene, threads: int, seconds: float) -> None:
    until = time.monotonic() + seconds
    counts = [0] * threads

    def work(number: int) -> None:
        window = scene.monitor.window("busy")
        while time.monotonic() < until:
            with window:
                sum(range(50))
            counts[number] += 1

    workers = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    scene.value = sum(counts)


def call(words: str, function: Callable[[Scene], Any]) -> Act:
    """Anything else; what it returns is the scene's value."""

    def run(scene: Scene) -> None:
        scene.value = function(scene)

    return Act(words, run)


@act()
def as_a_user(scene: Scene, *acts: Act) -> None:
    """The acts by someone whom file modes bind, even where the tests run as root."""
    with without_dac_override() if os.geteuid() == 0 else contextlib.nullcontext():
        for step in acts:
            step.run(scene)


@act()
def program(scene: Scene, code: str, *arguments: str) -> None:
    """Runs a program in a fresh interpreter; "run" in its arguments stands for the scene's recording."""
    given = [str(scene.folder / "run") if a == "run" else a for a in arguments]
    scene.program = scene.python(code, *given)


@act()
def recorded(scene: Scene) -> None:
    """Load what the program recorded."""
    scene.result = fg.load(scene.folder / "run")


@act("the process is stopped (SIGSTOP) for {seconds} s and goes on")
def process_stopped(scene: Scene, code: str, seconds: float) -> None:
    command = [sys.executable, "-c", textwrap.dedent(code), str(scene.folder / "run")]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, text=True, **pipes) as child:
        assert child.stdout.readline() == "ready\n", child.stderr.read()
        child.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        child.send_signal(signal.SIGCONT)
        out, err = child.communicate("\n", timeout=240)
    scene.program = subprocess.CompletedProcess(command, child.returncode, out, err)
    recorded().run(scene)
