"""Fixtures: every seam leads to a fake or to nothing, so that tests say the same on a machine with real sensors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.fakes.amdsmi import FakeAmdSmi
from tests.fakes.hwmon import Chip, HwmonTree
from tests.fakes.nvml import FakeNvml
from tests.fakes.powercap import PowercapTree, Zone
from tests.fakes.proc import ProcRoot
from tests.oracles.places import ROOT

WITHOUT_PANDAS = ROOT / "tests" / "fakes" / "without_pandas"


def _forbid_network(event: str, arguments: tuple) -> None:
    if event != "socket.connect":
        return
    address = arguments[1]
    if isinstance(address, tuple) and not str(address[0]).startswith(("127.", "::1", "localhost")):
        raise RuntimeError(f"a test reached for the network: {address}")


sys.addaudithook(_forbid_network)
# The same examples every time; `pytest --hypothesis-profile=default` searches for new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")
# A shell that starts us in the background leaves SIGINT ignored, which Python and every child would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def only_fakes(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No sensor but the estimate, on a machine of two idle CPUs; the folder that holds this machine."""
    machine = tmp_path_factory.mktemp("machine")
    ProcRoot(machine / "proc")
    for name in ("powercap", "hwmon"):
        (machine / name).mkdir()
    monkeypatch.setenv("FASTGREEN_POWERCAP_ROOT", str(machine / "powercap"))
    monkeypatch.setenv("FASTGREEN_HWMON_ROOT", str(machine / "hwmon"))
    monkeypatch.setenv("FASTGREEN_PROC_ROOT", str(machine / "proc"))
    monkeypatch.setenv("FASTGREEN_NVML_LIBRARY", str(machine / "libnvidia-ml.so.1"))
    monkeypatch.setenv("FASTGREEN_AMDSMI_LIBRARY", str(machine / "libamd_smi.so"))
    monkeypatch.setenv("FASTGREEN_EVENT_SOURCE_ROOT", str(machine / "event_source"))
    monkeypatch.setenv("FASTGREEN_CPU_ROOT", str(machine / "cpu"))
    monkeypatch.setenv("FASTGREEN_POWER_SUPPLY_ROOT", str(machine / "power_supply"))
    monkeypatch.setenv("FASTGREEN_KFD_ROOT", str(machine / "kfd"))
    monkeypatch.setenv("FASTGREEN_GRANT_SOCKET", str(machine / "grant.sock"))
    monkeypatch.setenv("FASTGREEN_CACHE_DIR", str(machine / "cache"))
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    return machine


@pytest.fixture
def powercap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., PowercapTree]]:
    """Makes the machine's powercap tree; a moving one is stopped at the end of the test."""
    made: list[PowercapTree] = []

    def make(*zones: Zone, move: bool = False, **options: object) -> PowercapTree:
        tree = PowercapTree(tmp_path / f"powercap{len(made)}", zones or (Zone(),), **options)
        monkeypatch.setenv("FASTGREEN_POWERCAP_ROOT", str(tree.root))
        made.append(tree)
        return tree.start() if move else tree

    yield make
    for tree in made:
        tree.stop()


@pytest.fixture
def nvml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeNvml]:
    """Makes the machine's NVIDIA driver library."""
    made: list[FakeNvml] = []

    def make(*devices: object, **options: object) -> FakeNvml:
        fake = FakeNvml(tmp_path / f"nvml{len(made)}", **({"devices": devices} if devices else {}), **options)
        monkeypatch.setenv("FASTGREEN_NVML_LIBRARY", str(fake.library))
        made.append(fake)
        return fake

    return make


@pytest.fixture
def amdsmi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeAmdSmi]:
    """Makes the machine's AMD library."""
    made: list[FakeAmdSmi] = []

    def make(*boards: object, **options: object) -> FakeAmdSmi:
        fake = FakeAmdSmi(tmp_path / f"amdsmi{len(made)}", **({"boards": boards} if boards else {}), **options)
        monkeypatch.setenv("FASTGREEN_AMDSMI_LIBRARY", str(fake.library))
        made.append(fake)
        return fake

    return make


@pytest.fixture
def hwmon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., HwmonTree]:
    """Makes the machine's hwmon tree."""

    def make(*chips: Chip) -> HwmonTree:
        tree = HwmonTree(tmp_path / "hwmon", chips)
        monkeypatch.setenv("FASTGREEN_HWMON_ROOT", str(tree.root))
        return tree

    return make


@pytest.fixture
def proc(only_fakes: Path) -> ProcRoot:
    """The machine's /proc, to be driven by hand."""
    return ProcRoot(only_fakes / "proc")


Python = Callable[..., subprocess.CompletedProcess]


@pytest.fixture
def python() -> Python:
    """Runs code in a fresh interpreter with this environment: python(code, *arguments, **options of subprocess.run).

    Without ``pandas=True`` it is an environment without pandas.
    """

    def run(code: str, *arguments: object, pandas: bool = False, **options: object) -> subprocess.CompletedProcess:
        options = {"capture_output": True, "text": True, "timeout": 240, **options}
        path = str(ROOT) if pandas else f"{WITHOUT_PANDAS}{os.pathsep}{ROOT}"
        env = {**os.environ, "PYTHONPATH": path, **options.pop("env", {})}
        command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
        return subprocess.run(command, env=env, **options)

    return run


@pytest.fixture
def soon() -> Callable[..., None]:
    """Waits for a condition: soon(lambda: ...); fails when it has not come true after a minute."""

    def wait(condition: Callable[[], object], seconds: float = 60.0) -> None:
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, "it did not come true in time"
            time.sleep(0.005)

    return wait
