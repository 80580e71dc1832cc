# SPDX-License-Identifier: Apache-2.0
"""The fake NVML speaks NVIDIA's binary interface: layouts, and every function that the common meters call."""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pynvml
import pytest

from tests.fakes.build import CFLAGS, HERE, cache_folder, compiler, nvml_library
from tests.fakes.nvml import FakeNvml, Gpu
from tests.fakes.programs import run_pynvml

pytestmark = pytest.mark.skipif(compiler() is None, reason="the fake NVML is built from C, and there is no compiler")

# our struct -> its members and pynvml's ctypes twin (None where pynvml has none)
LAYOUTS: dict[str, tuple[list[str], type[ctypes.Structure | ctypes.Union] | None]] = {
    "nvmlValue_t": (["dVal", "siVal", "uiVal", "ulVal", "ullVal", "sllVal", "usVal"], pynvml.c_nvmlValue_t),
    "nvmlFieldValue_t": (
        ["fieldId", "scopeId", "timestamp", "latencyUsec", "valueType", "nvmlReturn", "value"],
        pynvml.c_nvmlFieldValue_t,
    ),
    "nvmlSample_t": (["timeStamp", "sampleValue"], pynvml.c_nvmlSample_t),
    "nvmlPciInfo_t": (
        ["busIdLegacy", "domain", "bus", "device", "pciDeviceId", "pciSubSystemId", "busId"],
        pynvml.nvmlPciInfo_t,
    ),
    "nvmlPciInfo_v2_t": (
        ["busId", "domain", "bus", "device", "pciDeviceId", "pciSubSystemId"],
        pynvml.nvmlPciInfo_v2_t,
    ),
    "nvmlUtilization_t": (["gpu", "memory"], pynvml.c_nvmlUtilization_t),
    "nvmlMemory_t": (["total", "free", "used"], pynvml.c_nvmlMemory_t),
    "nvmlMemory_v2_t": (["version", "total", "reserved", "free", "used"], pynvml.c_nvmlMemory_v2_t),
    "nvmlProcessInfo_v1_t": (["pid", "usedGpuMemory"], None),
    "nvmlProcessInfo_t": (
        ["pid", "usedGpuMemory", "gpuInstanceId", "computeInstanceId"],
        pynvml.c_nvmlProcessInfo_t,
    ),
    "nvmlProcessUtilizationSample_t": (
        ["pid", "timeStamp", "smUtil", "memUtil", "encUtil", "decUtil"],
        pynvml.c_nvmlProcessUtilizationSample_t,
    ),
    "nvmlTemperature_t": (["version", "sensorType", "temperature"], None),
}
NOT_IN_NVIDIAS_HEADER = {"nvmlPciInfo_v2_t"}  # the old layout, of which only pynvml still knows


def layout_of(header: Path, skip: set[str], folder: Path) -> dict[str, int]:
    """Sizes and offsets as the C compiler sees them through a header."""
    lines = []
    for struct, (members, _) in LAYOUTS.items():
        if struct not in skip:
            lines.append(f'printf("{struct} %zu\\n", sizeof({struct}));')
            lines += [f'printf("{struct}.{m} %zu\\n", offsetof({struct}, {m}));' for m in members]
    source = folder / "layout.c"
    source.write_text(
        f'#include <stddef.h>\n#include <stdio.h>\n#include "{header}"\nint main(void) {{{"".join(lines)}}}'
    )
    command = compiler()
    assert command is not None
    subprocess.run([*command, *CFLAGS, str(source), "-o", str(folder / "layout")], check=True)
    said = subprocess.run([str(folder / "layout")], capture_output=True, text=True, check=True).stdout
    return {name: int(number) for name, number in (line.split() for line in said.splitlines())}


@pytest.fixture(scope="session")
def nvidias_header() -> Path:
    """nvml.h of the package nvidia-nvml-dev-cu12, fetched once into the cache folder."""
    folder = cache_folder() / "nvml-header"
    if not list(folder.rglob("nvml.h")):
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "-d",
            str(folder),
            "nvidia-nvml-dev-cu12",
        ]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=60)
        except (subprocess.SubprocessError, OSError) as error:
            pytest.skip(f"nvidia-nvml-dev-cu12 cannot be fetched: {error}")
        for wheel in folder.glob("*.whl"):
            zipfile.ZipFile(wheel).extractall(folder)
    return next(folder.rglob("nvml.h"))


def test_structs_are_laid_out_as_in_nvidias_header(nvidias_header: Path, tmp_path: Path):
    ours = layout_of(HERE / "nvml" / "nvml_types.h", NOT_IN_NVIDIAS_HEADER, tmp_path)
    theirs = layout_of(nvidias_header, NOT_IN_NVIDIAS_HEADER, tmp_path)
    assert ours == theirs
    assert len(ours) > 40


def test_structs_are_laid_out_as_pynvmls(tmp_path: Path):
    ours = layout_of(HERE / "nvml" / "nvml_types.h", set(), tmp_path)
    for struct, (members, twin) in LAYOUTS.items():
        if twin is not None:
            assert ours[struct] == ctypes.sizeof(twin), struct
            assert {m: ours[f"{struct}.{m}"] for m in members} == {m: getattr(twin, m).offset for m in members}, struct


def test_every_exported_function_has_the_prototype_of_nvidias_header(nvidias_header: Path):
    """Names exist there, and our definitions (macros apart) take as many arguments."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "", nvidias_header.read_text(), flags=re.S)
    theirs = {
        name: arguments.count(",") + (arguments.strip() not in ("", "void"))
        for name, arguments in re.findall(r"DECLDIR\s+(?:char\s*\*\s*)?(nvml\w+)\s*\(([^)]*)\)", text)
    }
    command = ["nm", "-D", "--defined-only", str(nvml_library())]
    symbols = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    exported = {line.split()[-1] for line in symbols.splitlines()}
    assert len(exported) > 70
    assert not {name for name in exported if name not in theirs}
    sources = "".join(path.read_text() for path in (HERE / "nvml").glob("*.c"))
    for name, arguments in re.findall(r"^(?:nvmlReturn_t|const char \*) ?(nvml\w+)\(([^)]*)\)", sources, flags=re.M):
        assert arguments.count(",") + (arguments != "void") == theirs.get(name, -1), name


IDENTITY = """
import os
n.nvmlInit()
h = n.nvmlDeviceGetHandleByIndex(1)
uuid = n.nvmlDeviceGetUUID(h)
pci = n.nvmlDeviceGetPciInfo(h)
say.update(
    versions=[n.nvmlSystemGetDriverVersion(), n.nvmlSystemGetCudaDriverVersion(), n.nvmlSystemGetNVMLVersion()],
    name=n.nvmlDeviceGetName(h), uuid=uuid, serial=n.nvmlDeviceGetSerial(h),
    numbers=[n.nvmlDeviceGetIndex(h), n.nvmlDeviceGetMinorNumber(h), n.nvmlDeviceGetArchitecture(h)],
    same=[n.nvmlDeviceGetIndex(n.nvmlDeviceGetHandleByUUID(uuid)),
          n.nvmlDeviceGetIndex(n.nvmlDeviceGetHandleByPciBusId(pci.busId)),
          n.nvmlDeviceGetIndex(n.nvmlDeviceGetHandleByPciBusId(pci.busIdLegacy))],
    pci=[pci.busId, pci.busIdLegacy, pci.domain, pci.bus, pci.device],
    limits=[n.nvmlDeviceGetEnforcedPowerLimit(h), n.nvmlDeviceGetPowerManagementLimit(h),
            n.nvmlDeviceGetPowerManagementDefaultLimit(h), n.nvmlDeviceGetPowerManagementLimitConstraints(h),
            n.nvmlDeviceGetPowerManagementMode(h)],
    rates=[n.nvmlDeviceGetUtilizationRates(h).gpu, n.nvmlDeviceGetUtilizationRates(h).memory],
    memory=[n.nvmlDeviceGetMemoryInfo(h).used, n.nvmlDeviceGetMemoryInfo(h, version=n.nvmlMemory_v2).total],
    heat=[n.nvmlDeviceGetTemperature(h, 0), n.nvmlDeviceGetTemperatureV(h, 0), n.nvmlDeviceGetFanSpeed(h)],
    clocks=[n.nvmlDeviceGetClockInfo(h, i) for i in range(4)] + [n.nvmlDeviceGetMaxClockInfo(h, 0)],
    supported=[n.nvmlDeviceGetSupportedMemoryClocks(h), n.nvmlDeviceGetSupportedGraphicsClocks(h, 2619)],
    compute=[*n.nvmlDeviceGetCudaComputeCapability(h), n.nvmlDeviceGetBrand(h), n.nvmlDeviceGetPerformanceState(h),
             n.nvmlDeviceGetPersistenceMode(h), n.nvmlDeviceGetComputeMode(h), n.nvmlDeviceGetDisplayMode(h)],
    processes=[[p.pid, p.usedGpuMemory] for p in n.nvmlDeviceGetComputeRunningProcesses(h)],
    pid=os.getpid(),
    graphics=n.nvmlDeviceGetGraphicsRunningProcesses(h),
    shares=[[p.pid, p.smUtil] for p in n.nvmlDeviceGetProcessUtilization(h, 0)],
)
"""


def test_pynvml_reads_who_a_device_is(tmp_path: Path):
    gpu = Gpu(
        name="NVIDIA Something",
        uuid="GPU-11111111-2222-3333-4444-555555555555",
        bus="00000000:C1:00.0",
        limits_mw=(350_000, 200_000, 700_000),
        processes=((4321, 5 << 30), (0, 1 << 20)),
        architecture="ampere",
    )
    seen = run_pynvml(FakeNvml(tmp_path, [Gpu(), gpu]), IDENTITY)
    own = seen.pop("pid")
    assert seen == {
        "versions": ["570.86.15", 12080, "12.570.86.15"],
        "name": gpu.name,
        "uuid": gpu.uuid,
        "serial": "1001",
        "numbers": [1, 1, 7],
        "same": [1, 1, 1],
        "pci": ["00000000:C1:00.0", "0000:C1:00.0", 0, 0xC1, 0],
        "limits": [350_000, 350_000, 700_000, [200_000, 700_000], 1],
        "rates": [50, 20],
        "memory": [1 << 30, 80 << 30],
        "heat": [45, 45, 30],
        "clocks": [1410, 1410, 1593, 1200, 1980],
        "supported": [[2619], [1980]],
        "compute": [9, 0, 14, 0, 1, 0, 0],
        "processes": [[4321, 5 << 30], [own, 1 << 20]],
        "graphics": [],
        "shares": [[4321, 25], [own, 25]],
    }


def test_mig_devices_belong_to_their_board(tmp_path: Path):
    uuids = ("MIG-aaaaaaaa-0000-0000-0000-000000000000", "MIG-bbbbbbbb-0000-0000-0000-000000000000")
    fake = FakeNvml(tmp_path, [Gpu(mig=True, mig_uuids=uuids), Gpu(mig=False), Gpu()])
    seen = run_pynvml(
        fake,
        """
n.nvmlInit()
boards = [n.nvmlDeviceGetHandleByIndex(i) for i in range(3)]
def code(function, *arguments):
    try:
        return function(*arguments)
    except n.NVMLError as error:
        return -error.value
say["mode"] = [code(n.nvmlDeviceGetMigMode, b) for b in boards]
say["most"] = [n.nvmlDeviceGetMaxMigDeviceCount(b) for b in boards]
migs = [n.nvmlDeviceGetMigDeviceHandleByIndex(boards[0], i) for i in range(2)]
say["third"] = code(n.nvmlDeviceGetMigDeviceHandleByIndex, boards[0], 2)
say["uuids"] = [n.nvmlDeviceGetUUID(m) for m in migs]
say["is"] = [n.nvmlDeviceIsMigDeviceHandle(d) for d in (migs[0], boards[0])]
say["board"] = n.nvmlDeviceGetUUID(n.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(migs[1]))
say["same"] = n.nvmlDeviceGetUUID(n.nvmlDeviceGetHandleByUUID(say["uuids"][1]))
say["instance"] = [n.nvmlDeviceGetGpuInstanceId(migs[1]), code(n.nvmlDeviceGetGpuInstanceId, boards[0])]
say["power"] = [code(n.nvmlDeviceGetPowerUsage, migs[0]), n.nvmlDeviceGetPowerUsage(boards[0])]
say["own"] = n.nvmlDeviceGetUUID(boards[0])
""",
    )
    assert seen["mode"] == [[1, 1], [0, 0], -3]
    assert seen["most"] == [7, 0, 0]
    assert seen["third"] == -6
    assert seen["uuids"] == list(uuids)
    assert seen["is"] == [1, 0]
    assert seen["board"] == seen["own"]
    assert seen["same"] == uuids[1]
    assert seen["instance"] == [2, -3]
    assert seen["power"] == [-3, 100_000]


def test_samples_are_the_drivers_own_buffer(tmp_path: Path):
    seen = run_pynvml(
        FakeNvml(tmp_path, [Gpu(power=150, samples=30)]),
        """
n.nvmlInit()
h = n.nvmlDeviceGetHandleByIndex(0)
kind, samples = n.nvmlDeviceGetSamples(h, n.NVML_TOTAL_POWER_SAMPLES, 0)
say["kind"] = kind
say["stamps"] = [s.timeStamp for s in samples]
say["values"] = [s.sampleValue.uiVal for s in samples]
say["newer"] = len(n.nvmlDeviceGetSamples(h, n.NVML_TOTAL_POWER_SAMPLES, samples[19].timeStamp)[1])
try:
    n.nvmlDeviceGetSamples(h, n.NVML_TOTAL_POWER_SAMPLES, samples[-1].timeStamp + 10**8)
except n.NVMLError as error:
    say["none"] = error.value
""",
    )
    steps = [b - a for a, b in zip(seen["stamps"], seen["stamps"][1:], strict=False)]
    assert seen["kind"] == 1
    assert len(seen["stamps"]) == 30
    assert all(abs(step - 100_000) <= 1 for step in steps)
    assert set(seen["values"]) == {150_000}
    assert 10 <= seen["newer"] <= 30
    assert seen["none"] == 6
