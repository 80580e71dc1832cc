# SPDX-License-Identifier: Apache-2.0
"""Builds the C fakes once per content: the result lies in a cache folder under the hash of sources and flags."""

from __future__ import annotations

import functools
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
CFLAGS = ["-std=gnu11", "-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror"]


def compiler() -> list[str] | None:
    """The C compiler's command line, or None where there is none (a test then skips and says so)."""
    command = shlex.split(os.environ.get("CC", "cc"))
    return command if shutil.which(command[0]) else None


def cache_folder() -> Path:
    folder = Path(os.environ.get("FAKES_CACHE", Path(tempfile.gettempdir()) / f"fastgreen-fakes-{os.getuid()}"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@functools.cache
def build(
    name: str, sources: tuple[Path, ...], depends: tuple[Path, ...], flags: tuple[str, ...], text: str = ""
) -> Path:
    """The path of the built `name`; `text` is written beside it as `symbols.map` (a linker's version script)."""
    command = compiler()
    if command is None:
        raise FileNotFoundError("no C compiler: set CC or install one")
    digest = hashlib.sha256(repr((name, command, CFLAGS, flags, text)).encode())
    for path in (*sources, *depends):
        digest.update(path.read_bytes())
    folder = cache_folder() / digest.hexdigest()[:20]
    if (folder / name).exists():
        return folder / name
    made = Path(tempfile.mkdtemp(dir=cache_folder()))
    made.chmod(0o755)
    (made / "symbols.map").write_text(text)
    arguments = [*command, *CFLAGS, *map(str, sources), *flags, "-o", name, "-lm", "-pthread", "-ldl"]
    done = subprocess.run(arguments, cwd=made, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{shlex.join(arguments)}\n{done.stderr}")
    try:
        made.rename(folder)
    except OSError:  # another process was first
        shutil.rmtree(made)
    return folder / name


def nvml_library(omit: tuple[str, ...] = ()) -> Path:
    """A libnvidia-ml.so.1 without the functions named in `omit`."""
    folder = HERE / "nvml"
    hidden = "".join(f" {name};" for name in sorted(omit))
    return build(
        "libnvidia-ml.so.1",
        tuple(sorted(folder.glob("*.c"))),
        (*sorted(folder.glob("*.h")), HERE / "wave.h"),
        ("-fPIC", "-shared", "-Wl,-soname,libnvidia-ml.so.1", "-Wl,--version-script=symbols.map"),
        f"{{ global: nvml*; local:{hidden} *; }};\n",
    )


def amdsmi_library(omit: tuple[str, ...] = ()) -> Path:
    """A libamd_smi.so without the functions named in `omit`."""
    folder = HERE / "amdsmi"
    hidden = "".join(f" {name};" for name in sorted(omit))
    return build(
        "libamd_smi.so",
        (folder / "fake_amdsmi.c",),
        (folder / "amdsmi_types.h", HERE / "wave.h"),
        ("-fPIC", "-shared", "-Wl,-soname,libamd_smi.so", "-Wl,--version-script=symbols.map"),
        f"{{ global: amdsmi*; local:{hidden} *; }};\n",
    )


def powercap_mover() -> Path:
    """The program that moves the counters of a powercap tree."""
    return build("powercap_mover", (HERE / "powercap_mover.c",), (HERE / "wave.h",), ())


def true_sleep() -> Path:
    """A library to load before libfaketime."""
    return build("true_sleep.so", (HERE / "true_sleep.c",), (), ("-fPIC", "-shared"))
