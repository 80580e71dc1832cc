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

CAN_MEASURE = sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64")
ENGINE = os.environ.get("FASTGREEN_ENGINE") or ("1" if CAN_MEASURE else "0")
if ENGINE not in ("0", "1"):
    sys.exit(f"FASTGREEN_ENGINE must be 0 or 1, not {ENGINE!r}.")
if ENGINE == "1" and not CAN_MEASURE:
    sys.exit(f"The engine needs Linux on x86-64 or aarch64, not {sys.platform} on {platform.machine()}.")

# Below, because setuptools itself fails where the platform is not the interpreter's own.
import numpy  # noqa: E402
from Cython.Build import cythonize  # noqa: E402
from setuptools import Extension, setup  # noqa: E402
from setuptools.command.build_ext import build_ext  # noqa: E402

# -ffp-contract=off: the metrics promise the bits of NumPy, and a fused multiply-add rounds once less.
FLAGS = ["-std=gnu11", "-ffp-contract=off", "-fvisibility=hidden", "-ffunction-sections", "-fdata-sections"]
FLAGS += ["-Wall", "-Wextra", "-Wno-unused-parameter"]
# The time goes into the C library and into a window's edges. What Cython writes around them would be twice as large
# with -O3, and no faster where it is called.
LIBRARY, DOORS, HOT_DOORS = ["-O3"], ["-Os", "-DCYTHON_CLINE_IN_TRACEBACK=0"], ["-O2", "-DCYTHON_CLINE_IN_TRACEBACK=0"]
HOT = ("_window.c", "_ledger.c")
ADDED = shlex.split(os.environ.get("FASTGREEN_CFLAGS", ""))


class BuildExt(build_ext):
    """Compiles the C library for speed, and most of what Cython wrote for size."""

    def build_extensions(self):
        compile_one = self.compiler._compile

        def compile_with_its_flags(target, source, extension, before, after, options):
            generated = source.startswith(GENERATED)
            level = HOT_DOORS if source.endswith(HOT) else DOORS if generated else LIBRARY
            compile_one(target, source, extension, before, [*after, *level, *ADDED], options)

        if self.compiler.compiler_type == "unix":
            self.compiler._compile = compile_with_its_flags
        super().build_extensions()


# Compiled module -> its part of the C library. The engine is the rest: without metrics, resolver, follower and shares.
METRIC = sorted(glob("csrc/fg_metric*.c"))
RESOLVER = sorted([*glob("csrc/fg_resolver*.c"), "csrc/fg_batches.c"])
FOLLOW = sorted(glob("csrc/fg_follow*.c"))
SHARE = sorted(glob("csrc/fg_share*.c"))
MODULES = {
    "_kernels": METRIC,
    "_resolver": ["csrc/fg_account.c", "csrc/fg_jump.c", *RESOLVER],
    "_follow": FOLLOW,
    "_shares": ["csrc/fg_error.c", *SHARE, *sorted(glob("csrc/fg_resolver*.c"))],
}
# These need Linux.
ENGINE_MODULES = {
    "_core": sorted({*glob("csrc/fg_*.c")} - {*METRIC, *RESOLVER, *FOLLOW, *SHARE} | {*glob("csrc/fg_resolver*.c")}),
    "_window": ["csrc/fg_clock.c"],
    "_ledger": ["csrc/fg_clock.c"],
    "_steps": ["csrc/fg_clock.c"],
}
if ENGINE == "1":
    MODULES |= ENGINE_MODULES
LIBRARIES = {"linux": ["-pthread", "-ldl", "-lm", "-Wl,--gc-sections"], "win32": []}.get(sys.platform, ["-lm"])

extensions = [
    Extension(
        f"fastgreen.{name}",
        [f"fastgreen/{name}.pyx", *sources],
        include_dirs=["csrc", numpy.get_include()],
        depends=[*glob("csrc/*.h"), "setup.py"],
        extra_compile_args=FLAGS,
        extra_link_args=LIBRARIES,
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_23_API_VERSION")],
    )
    for name, sources in MODULES.items()
]

# What Cython writes fits one NumPy, so one clone serves several Pythons only if each has a folder of its own.
GENERATED = f"build/cython/{sys.implementation.cache_tag}-numpy-{numpy.__version__}"

setup(
    cmdclass={"build_ext": BuildExt},
    ext_modules=cythonize(
        extensions,
        build_dir=GENERATED,
        language_level=3,
        annotate=os.environ.get("FASTGREEN_ANNOTATE") == "1",
        compiler_directives={"binding": False, "embedsignature": True, "freethreading_compatible": True},
    ),
)
