"""Builds the extension modules; everything else is in pyproject.toml.

FASTGREEN_CFLAGS adds compiler flags (a sanitizer, -O0 -g), FASTGREEN_ANNOTATE=1 writes Cython's HTML report.
"""

import os
import platform
import shlex
import sys
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup

if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
    sys.exit(
        f"fastgreen runs on Linux on x86-64 and aarch64, because it reads powercap, hwmon and NVML; "
        f"this is {sys.platform} on {platform.machine()}."
    )

# -ffp-contract=off: the metrics promise the very bits of NumPy, and a fused multiply-add rounds once less.
CFLAGS = ["-std=gnu11", "-O3", "-ffp-contract=off", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-unused-parameter"]
CFLAGS += shlex.split(os.environ.get("FASTGREEN_CFLAGS", ""))


def sources(*patterns):
    return sorted(str(path) for pattern in patterns for path in Path("csrc").glob(pattern))


# The parts of the C library behind each door. _resolver and _kernels are portable; _core is the engine.
ARITHMETIC = sources("fg_account.c", "fg_jump.c", "fg_resolver*.c")
METRIC = sources("fg_metric*.c")
ENGINE = [path for path in sources("fg_*.c") if path not in METRIC and "fg_resolver" not in path]
DOORS = {"_kernels": METRIC, "_resolver": ARITHMETIC, "_core": ENGINE, "_window": sources("fg_clock.c")}
HEADERS = sorted(str(p) for p in Path("csrc").glob("*.h"))


def extension(name, sources):
    return Extension(
        f"fastgreen.{name}",
        [f"fastgreen/{name}.pyx", *sources],
        include_dirs=["csrc", numpy.get_include()],
        depends=HEADERS,
        extra_compile_args=CFLAGS,
        extra_link_args=["-pthread", "-ldl", "-lm"],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_23_API_VERSION")],
    )


setup(
    ext_modules=cythonize(
        [extension(name, parts) for name, parts in DOORS.items()],
        language_level=3,
        annotate=os.environ.get("FASTGREEN_ANNOTATE") == "1",
        compiler_directives={"binding": False, "embedsignature": True, "freethreading_compatible": False},
    )
)
