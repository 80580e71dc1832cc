"""Builds the compiled modules. Everything else is in pyproject.toml.

FASTGREEN_CFLAGS adds compiler flags, for example a sanitizer. FASTGREEN_ANNOTATE=1 writes the HTML report of Cython.
FASTGREEN_ENGINE=0 leaves out the engine that measures, as on every system but Linux on x86-64 and aarch64: the rest is
portable C. FASTGREEN_ENGINE=1 demands the engine.
"""

import os
import platform
import shlex
import sys
from glob import glob

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup

CAN_MEASURE = sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64")
ENGINE = os.environ.get("FASTGREEN_ENGINE") or ("1" if CAN_MEASURE else "0")
if ENGINE not in ("0", "1"):
    sys.exit(f"FASTGREEN_ENGINE must be 0 or 1, not {ENGINE!r}.")
if ENGINE == "1" and not CAN_MEASURE:
    sys.exit(f"The engine needs Linux on x86-64 or aarch64, not {sys.platform} on {platform.machine()}.")

# -ffp-contract=off: the metrics promise the bits of NumPy, and a fused multiply-add rounds once less.
FLAGS = ["-std=gnu11", "-O3", "-ffp-contract=off", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-unused-parameter"]
FLAGS += shlex.split(os.environ.get("FASTGREEN_CFLAGS", ""))

# Compiled module -> its part of the C library. The engine is the rest: without metrics, resolver, follower and shares.
METRIC = sorted(glob("csrc/fg_metric*.c"))
RESOLVER = sorted([*glob("csrc/fg_resolver*.c"), *glob("csrc/fg_follow*.c"), "csrc/fg_batches.c"])
SHARE = sorted(glob("csrc/fg_share*.c"))
MODULES = {
    "_kernels": METRIC,
    "_resolver": ["csrc/fg_account.c", "csrc/fg_jump.c", *RESOLVER],
    "_shares": ["csrc/fg_error.c", *SHARE, *sorted(glob("csrc/fg_resolver*.c"))],
}
# These need Linux.
ENGINE_MODULES = {
    "_core": sorted({*glob("csrc/fg_*.c")} - {*METRIC, *RESOLVER, *SHARE} | {*glob("csrc/fg_resolver*.c")}),
    "_window": ["csrc/fg_clock.c"],
    "_ledger": ["csrc/fg_clock.c"],
    "_steps": ["csrc/fg_clock.c"],
}
if ENGINE == "1":
    MODULES |= ENGINE_MODULES
LIBRARIES = {"linux": ["-pthread", "-ldl", "-lm"], "win32": []}.get(sys.platform, ["-lm"])

extensions = [
    Extension(
        f"fastgreen.{name}",
        [f"fastgreen/{name}.pyx", *sources],
        include_dirs=["csrc", numpy.get_include()],
        depends=glob("csrc/*.h"),
        extra_compile_args=FLAGS,
        extra_link_args=LIBRARIES,
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_23_API_VERSION")],
    )
    for name, sources in MODULES.items()
]

# What Cython writes fits one NumPy, so one clone serves several Pythons only if each has a folder of its own.
GENERATED = f"build/cython/{sys.implementation.cache_tag}-numpy-{numpy.__version__}"

setup(
    ext_modules=cythonize(
        extensions,
        build_dir=GENERATED,
        language_level=3,
        annotate=os.environ.get("FASTGREEN_ANNOTATE") == "1",
        compiler_directives={"binding": False, "embedsignature": True, "freethreading_compatible": True},
    )
)
