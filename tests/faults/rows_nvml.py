# SPDX-License-Identifier: Apache-2.0
"""Faults of NVIDIA's driver and its library."""

from __future__ import annotations

import fastgreen as fg
from fastgreen.errors import ChannelNotFound, ChannelPermission, ChannelReadError
from tests.fakes.nvml import Gpu, Rule, Sensor
from tests.fakes.powercap import Zone

from .acts import (
    ENERGY,
    begin,
    call,
    driver_reloaded,
    end,
    environment,
    errors,
    measure,
    nvml,
    nvml_blocks,
    nvml_says,
    powercap,
    reads,
    wait,
)
from .expects import bounds_hold, counted, ended, gap, goes_on, no_burst, note, nothing_lost, raises, value
from .model import Fault, Proof, Scene

NAMES = {
    1: "UNINITIALIZED",
    3: "NOT_SUPPORTED",
    4: "NO_PERMISSION",
    6: "NOT_FOUND",
    9: "DRIVER_NOT_LOADED",
    12: "LIBRARY_NOT_FOUND",
    13: "FUNCTION_NOT_FOUND",
    15: "GPU_IS_LOST",
    16: "RESET_REQUIRED",
    18: "LIB_RM_VERSION_MISMATCH",
    27: "NOT_READY",
    999: "UNKNOWN",
}
LOST, UNSUPPORTED = (15, 16), (3, 13)


def code_row(code: int, times: str) -> Fault:
    """A code while the channel is read. Code 1 is answered by a new nvmlInit and a second try at once."""
    act = (nvml(), measure(nvml_says(code, times), channels="nvml:0", hz=200))
    name = f"NVML answers {code} {NAMES[code]} {times}"
    if code in LOST:
        return Fault(
            name,
            "NVML",
            act,
            (ended("nvml:0", f"NVML {code}"), counted("read_errors", 1, 1), bounds_hold()),
            "a reading answers 15 GPU_IS_LOST or 16 RESET_REQUIRED, once or for good",
        )
    if code in UNSUPPORTED and times != "once":
        return Fault(
            name,
            "NVML",
            act,
            (ended("nvml:0", f"NVML {code}"), counted("read_errors", 3, 3), bounds_hold()),
            "a reading answers 3 NOT_SUPPORTED or 13 FUNCTION_NOT_FOUND three times in a row",
        )
    if times == "always":
        return Fault(
            name,
            "NVML",
            act,
            (counted("read_errors", 3), note(f"nvml:0.*NVML {code}"), bounds_hold()),
            "every further reading answers another code (1, 4, 6, 9, 12, 18, 27, 999)",
        )
    wanted = {"once": 0, "three times": 1}[times] if code == 1 else {"once": 1, "three times": 3}[times]
    gaps = (gap(),) if wanted else ()
    return Fault(
        name,
        "NVML",
        act,
        (counted("read_errors", wanted, wanted), *gaps, bounds_hold(), nothing_lost()),
        "a reading answers 1 UNINITIALIZED once or three times (initialised again)"
        if code == 1
        else "a reading answers another code once or three times (3 and 13: once)",
    )


def at_start(code: int) -> Fault:
    return Fault(
        f"nvmlInit answers {code} {NAMES[code]}",
        "NVML",
        (nvml(rules=[Rule("nvmlInit*", code)]), call("", lambda s: _status("nvml"))),
        (value("the source reports the code", lambda s: f"NVML {code}" in s.value.reason and s.value.found == 0),),
        "nvmlInit answers any of these codes",
    )


def unread(code: int) -> Fault:
    """No reading of any kind is to be had from the start."""
    rules = [Rule(ENERGY, code), Rule("nvmlDeviceGetPowerUsage", code), Rule("field:*", code)]
    return Fault(
        f"every reading answers {code} {NAMES[code]} from the start",
        "NVML",
        (nvml(rules=rules), call("", lambda s: fg.Monitor("nvml:0"))),
        (raises(ChannelPermission if code == 4 else ChannelReadError, f"NVML {code}\\)"),),
        "every reading of a board answers one of these codes from the start",
    )


def _status(source: str):
    from fastgreen.sensors.catalog import discover

    return next(state for state in discover()[1] if state.source == source)


def _channels(scene: Scene) -> dict[str, fg.Channel]:
    return {c.id: c for c in fg.channels()}


def _one_of_eight_is_lost(scene: Scene) -> None:
    scene.nvml.write(rules=[Rule("*", 15, device=3)])
    errors(1, "nvml:3").run(scene)


def _came_back_first(scene: Scene) -> bool:
    """Start returned before the first call to the board did."""
    first = next(iter(scene.result.trace("nvml:0").chunks()))[0]
    return scene.value < first["at_ns"] + first["half_ns"]


def _ratio(scene: Scene) -> bool:
    """The counter shows 100 W where the board's instant power says 170."""
    return 1.5 < scene.row("nvml:0/power")["ratio_to_counter"] < 1.9


TRAPS = [
    Fault(
        "a GPU is lost in mid-run",
        "NVML code 15",
        (
            powercap(Zone(watts=20.0)),
            nvml(Gpu(100.0)),
            measure(wait(0.15), nvml_says(15, "always"), reads(20, "rapl:package-0"), hz=200),
        ),
        (ended("nvml:0", "NVML 15"), goes_on("rapl:package-0"), bounds_hold()),
    ),
    Fault(
        "one of 8 GPUs is lost",
        "NVML code 15",
        (
            nvml(*(Gpu(50.0 * (n + 1)) for n in range(8))),
            measure(reads(10), call("board 3 is lost", _one_of_eight_is_lost), reads(10), channels="nvml:?", hz=100),
        ),
        (ended("nvml:3", "NVML 15"), *(goes_on(f"nvml:{n}") for n in (0, 7)), bounds_hold()),
    ),
    Fault(
        "the driver is loaded again in mid-run",
        "NVML code 1",
        (
            nvml(Gpu(100.0, energy_start_mj=9e6)),
            measure(begin("w"), wait(0.2), driver_reloaded(), end("w"), channels="nvml:0", hz=100),
        ),
        (counted("restarts", 1, 1), bounds_hold(), nothing_lost()),
    ),
    Fault(
        "NVML blocks for 2 s",
        "NVML: calls serialise on driver locks",
        (
            powercap(Zone(watts=50.0)),
            nvml(Gpu(100.0)),
            measure(nvml_blocks(2.0), hz={"nvml": 100, "rapl": 200}),
        ),
        (
            counted("missed", 150, channel="nvml:0"),
            no_burst(100, "nvml:0"),
            goes_on("rapl:package-0"),
            value("RAPL is still read", lambda s: s.row("rapl:package-0")["samples"] > 100),
            bounds_hold(),
        ),
    ),
    Fault(
        "NVML blocks for 2 s at the start",
        "NVML: calls serialise on driver locks",
        (
            powercap(Zone(watts=50.0)),
            nvml(Gpu(100.0)),
            call("", lambda s: _blocked_start(s)),
        ),
        (value("start returns before NVML does", _came_back_first), goes_on("rapl:package-0")),
    ),
    Fault(
        "NVML never answers again",
        "hung drivers",
        (),
        (
            Proof(
                "in a reading: the run still ends, with the samples so far and the reason",
                "tests/c/test_hanging.c::a_read_that_never_returns_is_left_and_what_came_before_counts",
            ),
            Proof(
                "in a reading or at its end: the program ends",
                "tests/sensors/test_hostile_nvml.py::test_a_driver_that_hangs_for_good_keeps_no_program_from_its_end",
            ),
            Proof(
                "while boards are listed: the source reports it and is not asked again",
                "tests/sensors/test_hostile_nvml.py::test_a_driver_that_hangs_while_it_is_looked_at_is_said_and_not_asked_again",
            ),
        ),
    ),
    Fault(
        "NVML gives texts without an end, the same UUID twice, powers of 2^63 mW or NaN",
        "bad input",
        (),
        (
            Proof(
                "texts end inside their buffer and are printable",
                "tests/sensors/test_hostile_nvml.py::test_texts_without_an_end_or_of_bytes_are_told_within_their_room",
            ),
            Proof(
                "boards that cannot be distinguished are not measured",
                "tests/sensors/test_hostile_nvml.py::test_a_board_that_cannot_be_found_again_is_not_measured_in_the_place_of_another",
            ),
            Proof(
                "these powers never become a sample",
                "tests/sensors/test_hostile_nvml.py::test_a_power_that_no_board_draws_is_a_failed_read",
            ),
        ),
    ),
    Fault(
        "a false 0 mW",
        "NVML polled too fast",
        (
            nvml(Gpu(100.0), omit=(ENERGY,)),
            call("", lambda s: s.nvml.write(rules=[Rule("field:*", value=0.0, first=30, last=32)])),
            measure(errors(3), reads(5), channels="nvml:0", hz=100),
        ),
        (
            counted("read_errors", 3, 3),
            gap(),
            value("never a power of 0", lambda s: min(s.result.samples("nvml:0")["raw"].to_pylist()) == 100_000),
        ),
    ),
    Fault(
        "a field has its own status",
        "NVML: two levels of status",
        (nvml(rules=[Rule("field:186", 3)]), call("", _channels)),
        (
            value(
                "the average replaces the instant power",
                lambda s: s.value["nvml:0/power"].sensor["quantity"] == "average",
            ),
        ),
    ),
    Fault(
        "the GPU's scope is refused, the module's is not",
        "NVML on superchips",
        (nvml(Gpu(scopes=(0.0, 1.2, 0.0))), call("", _channels)),
        (
            value(
                "read at the module's scope, and reported",
                lambda s: "module" in s.value["nvml:0"].note and s.value["nvml:0/power"].sensor["scope"] == 1,
            ),
        ),
    ),
    Fault(
        "a board in MIG mode",
        "NVML: power and energy are those of the whole board",
        (nvml(Gpu(mig=True, mig_uuids=("MIG-a", "MIG-b"))), call("", _channels)),
        (value("one channel, with a note", lambda s: "MIG" in s.value["nvml:0"].note and len(s.value) == 3),),
    ),
    Fault(
        "counter and integrated power disagree",
        "NVML: 1.7 times in an idle report",
        (
            nvml(Gpu(100.0, instant=Sensor(gain=1.7), average=Sensor(gain=1.7), usage=Sensor(gain=1.7))),
            measure(wait(1.0), channels="nvml:*", hz=50),
        ),
        (value("their ratio is shown", _ratio), bounds_hold()),
    ),
    Fault(
        "the energy counter is missing",
        "NVML before Volta",
        (nvml(Gpu(100.0), omit=(ENERGY,)), measure(wait(0.2), channels="nvml:0", hz=100)),
        (
            value(
                "integrated power, and reported",
                lambda s: s.row(None)["method"] == "trapezoid" and "no energy counter" in s.row(None)["note"],
            ),
        ),
    ),
    Fault(
        "the library lacks a function that must exist",
        "NVML too old",
        (nvml(omit=("nvmlDeviceGetUUID",)), call("", lambda s: _status("nvml"))),
        (
            value(
                "an error that the library is too old, with the function's name",
                lambda s: "nvmlDeviceGetUUID" in s.value.reason and "too old" in s.value.reason,
            ),
        ),
    ),
    Fault(
        "there is no library",
        "NVML absent",
        (environment("FASTGREEN_NVML_LIBRARY", "/nowhere/libnvidia-ml.so.1"), call("", lambda s: fg.Monitor("nvml:0"))),
        (raises(ChannelNotFound, "nvml:0"), value("with a remedy", lambda s: "driver" in _status("nvml").remedy)),
    ),
    Fault(
        "CUDA_VISIBLE_DEVICES hides a board",
        "NVML counts along the bus",
        (
            nvml(Gpu(100.0, uuid="GPU-a"), Gpu(50.0, uuid="GPU-b")),
            environment("CUDA_VISIBLE_DEVICES", "GPU-b"),
            call("", lambda s: [c.id for c in fg.Monitor().channels if c.source == "nvml"]),
        ),
        (value("only the visible boards are measured", lambda s: s.value == ["nvml:1", "nvml:1/power"]),),
    ),
]


def _blocked_start(scene: Scene) -> int:
    import time

    monitor = fg.Monitor(["rapl:package-0", "nvml:0"], hz=200)
    at = scene.nvml.calls(0)[ENERGY] + 1
    scene.nvml.write(rules=[Rule(ENERGY, 0, at, at, 0, 2_000_000)])
    monitor.start()
    started_ns = time.monotonic_ns()
    scene.monitor = monitor
    reads(10, "rapl:package-0").run(scene)
    monitor.stop()
    scene.result = monitor.result
    return started_ns


ROWS = [
    *(code_row(code, times) for code in NAMES for times in ("once", "three times", "always")),
    *(at_start(code) for code in NAMES),
    *(unread(code) for code in NAMES),
    *TRAPS,
]
