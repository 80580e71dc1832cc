# SPDX-License-Identifier: Apache-2.0
"""The fake libamd_smi and the engine speak AMD's binary interface: compared with AMD's own Python bindings.

The bindings are read, not imported: they load the library, and there is none here.
"""

from __future__ import annotations

import ast
import ctypes
import importlib.util
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.fakes.build import CFLAGS, HERE, amdsmi_library, cache_folder, compiler
from tests.oracles.places import ROOT

pytestmark = pytest.mark.skipif(compiler() is None, reason="the fake AMD SMI is built from C, and there is no compiler")

# our structure -> AMD's, and its members
LAYOUTS = {
    "version_26": ("struct_amdsmi_version_t", ["major", "minor", "release", "build"]),
    "version_25": ("struct_amdsmi_version_t", ["year", "major", "minor", "release", "build"]),
    "power_cap_t": (
        "struct_amdsmi_power_cap_info_t",
        ["power_cap", "default_power_cap", "dpm_cap", "min_power_cap", "max_power_cap", "reserved"],
    ),
    "asic_26": (
        "struct_amdsmi_asic_info_t",
        ["market_name", "vendor_id", "vendor_name", "subvendor_id", "device_id", "rev_id", "asic_serial", "oam_id"],
    ),
}
HANDLE, U32, U64 = ctypes.POINTER(None), ctypes.POINTER(ctypes.c_uint32), ctypes.POINTER(ctypes.c_uint64)
HANDLES, TEXT = ctypes.POINTER(HANDLE), ctypes.POINTER(ctypes.c_char)
# The functions that the engine calls; None for a pointer to a structure or an enumeration.
ARGUMENTS: dict[str, list[Any]] = {
    "amdsmi_init": [ctypes.c_uint64],
    "amdsmi_get_socket_handles": [U32, HANDLES],
    "amdsmi_get_processor_handles": [HANDLE, U32, HANDLES],
    "amdsmi_get_energy_count": [HANDLE, U64, ctypes.POINTER(ctypes.c_float), U64],
    "amdsmi_get_lib_version": [None],
    "amdsmi_get_processor_type": [HANDLE, None],
    "amdsmi_get_gpu_device_bdf": [HANDLE, None],
    "amdsmi_get_gpu_device_uuid": [HANDLE, U32, TEXT],
    "amdsmi_get_gpu_asic_info": [HANDLE, None],
    "amdsmi_get_power_cap_info": [HANDLE, ctypes.c_uint32, None],
    "amdsmi_status_code_to_string": [None, ctypes.POINTER(TEXT)],
}


class Recorder:
    """Stands where the library would be; each function keeps what the bindings say about it."""

    def __init__(self) -> None:
        self.functions: dict[str, SimpleNamespace] = {}

    def __getattr__(self, name: str) -> SimpleNamespace:
        return self.functions.setdefault(name, SimpleNamespace(argtypes=None, restype=None))


@pytest.fixture(scope="module")
def bindings() -> dict[str, Any]:
    """The names of amdsmi_wrapper.py, read statement by statement; `library` holds the functions."""
    spec = importlib.util.find_spec("amdsmi")
    if spec is None or spec.origin is None:
        pytest.skip("AMD's Python bindings (pip install amdsmi) are not installed")
    source = (Path(spec.origin).parent / "amdsmi_wrapper.py").read_text(encoding="utf-8")
    names: dict[str, Any] = {"__file__": str(spec.origin), "__name__": "bindings"}
    library = Recorder()
    for statement in ast.parse(source).body:
        loads = re.search(r"find_smi_library|CDLL|ROCM_PATH", ast.unparse(statement))
        if loads and not isinstance(statement, ast.ClassDef):
            names["_libraries"] = {"libamd_smi.so": library}
            continue
        exec(compile(ast.Module([statement], []), "bindings", "exec"), names)
        names["_libraries"] = {"libamd_smi.so": library}
    return names | {"library": library.functions}


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """Sizes and offsets as the C compiler sees them; and the bits of an address."""
    lines = []
    for struct, (_, members) in LAYOUTS.items():
        lines.append(f'printf("{struct} %zu\\n", sizeof({struct}));')
        lines += [f'printf("{struct}.{m} %zu\\n", offsetof({struct}, {m}));' for m in members]
    lines.append("bdf_t bdf = {.fields = {.function_number = 5, .device_number = 3, .bus_number = 7}};")
    lines.append('bdf.fields.domain_number = 9; printf("bdf %llu\\n", (unsigned long long)bdf.as_uint);')
    folder = tmp_path_factory.mktemp("layout", numbered=True)
    includes = "".join(f"#include {name}\n" for name in ("<stdio.h>", "<stddef.h>", '"amdsmi_types.h"'))
    (folder / "layout.c").write_text(f"{includes}int main(void) {{ {' '.join(lines)} return 0; }}\n")
    command = [*(compiler() or []), *CFLAGS, "-I", str(HERE / "amdsmi"), "layout.c", "-o", "layout"]
    subprocess.run(command, cwd=folder, check=True)
    out = subprocess.run([folder / "layout"], capture_output=True, text=True, check=True).stdout
    return {name: int(value) for name, value in (line.split() for line in out.splitlines())}


@pytest.mark.parametrize("struct", LAYOUTS)
def test_structures_lie_as_in_amds_bindings(bindings, ours, struct):
    name, members = LAYOUTS[struct]
    theirs = bindings[name]
    if ("year" in members) != hasattr(theirs, "year") and struct.startswith("version"):
        pytest.skip("a structure of another generation than these bindings'")
    assert ours[struct] == ctypes.sizeof(theirs)
    assert {m: ours[f"{struct}.{m}"] for m in members} == {m: getattr(theirs, m).offset for m in members}


def test_an_address_has_the_bits_of_amds_bindings(bindings, ours):
    union = bindings["union_amdsmi_bdf_t"]()
    fields = next(getattr(union, n) for n, kind, *_ in union._fields_ if hasattr(kind, "function_number"))
    fields.function_number, fields.device_number, fields.bus_number, fields.domain_number = 5, 3, 7, 9
    assert union.as_uint == ours["bdf"] == 9 << 16 | 7 << 8 | 3 << 3 | 5


@pytest.mark.parametrize("function", ARGUMENTS)
def test_functions_take_the_arguments_of_amds_bindings(bindings, function):
    taken = bindings["library"][function].argtypes
    wanted = ARGUMENTS[function]
    assert len(taken) == len(wanted)
    for theirs, mine in zip(taken, wanted, strict=True):
        assert mine is None or (repr(theirs), ctypes.sizeof(theirs)) == (repr(mine), ctypes.sizeof(mine))


def test_the_engine_and_this_test_know_the_same_functions():
    source = (ROOT / "csrc" / "fg_amdsmi.c").read_text(encoding="utf-8")
    assert set(re.findall(r'SYMBOL\(\w+, \w+, "(\w+)"\)', source)) == set(ARGUMENTS)


def test_codes_and_flags_have_amds_values(bindings):
    header = (ROOT / "csrc" / "fg_amdsmi.h").read_text(encoding="utf-8")
    codes = {name: int(value) for name, value in re.findall(r"FG_AMDSMI_([A-Z_]+) = (-?\d+)", header)}
    assert len(codes) > 8
    for name, value in codes.items():
        if value >= 0:
            assert bindings[f"AMDSMI_STATUS_{name}"] == value, name
    assert bindings["AMDSMI_INIT_AMD_GPUS"] == 2
    assert bindings["AMDSMI_PROCESSOR_TYPE_AMD_GPU"] == 1


def test_the_fake_has_every_function_that_the_engine_calls():
    command = ["nm", "-D", "--defined-only", str(amdsmi_library())]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert {*ARGUMENTS, "amdsmi_shut_down"} == {line.split()[-1] for line in listed.splitlines() if "amdsmi" in line}
    assert cache_folder() in amdsmi_library().parents
