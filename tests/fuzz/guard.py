# SPDX-License-Identifier: Apache-2.0
"""What holds for every input: it ends in time, raises only what is documented, and writes only to a scratch folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

from fastgreen.errors import FastgreenError
from tests.fuzz.instrument import PACKAGE

MEMORY = Path("/dev/shm")  # a file system without a disk, where there is one
HERE = Path(tempfile.mkdtemp(prefix="fastgreen-fuzz-", dir=MEMORY if os.access(MEMORY, os.W_OK) else None)).resolve()
CANARY = HERE / "canary"  # links of hostile folders lead here, and nothing may change it
LONGEST_S = 5.0

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
# Audit events (docs.python.org, "Audit events table") with the places of their paths; without a place, never allowed.
_PATHS = {
    "os.mkdir": (0,), "os.rename": (0, 1), "os.remove": (0,), "os.rmdir": (0,), "os.link": (1,), "os.symlink": (1,),
    "os.truncate": (0,), "os.chmod": (0,), "os.chown": (0,), "os.utime": (0,),
}  # fmt: skip
_NEVER = frozenset({"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect"})


class Broken(BaseException):
    """A promise is broken. No handler of the package catches it."""


class Take:
    """Pieces of the input, in order; zeros when it has ended."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def number(self, below: int) -> int:
        piece = self.data[self.at : self.at + 4]
        self.at += 4
        return int.from_bytes(piece, "little") % below

    def bytes(self, most: int) -> bytes:
        length = self.number(most + 1)
        piece = self.data[self.at : self.at + length]
        self.at += length
        return piece

    def rest(self) -> bytes:
        piece, self.at = self.data[self.at :], len(self.data)
        return piece

    def left(self) -> bool:
        return self.at < len(self.data)


class Watch:
    """Watches what the process opens for writing while it is on."""

    def __init__(self) -> None:
        self.on, self.found = False, list[str]()
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return None
        if event == "open":
            path, _, flags = arguments
            places = [path] if isinstance(flags, int) and flags & _WRITING else []
        elif event in _PATHS:
            places = [arguments[place] for place in _PATHS[event]]
        elif event in _NEVER:
            return self._broken(f"{event} {arguments}")
        else:
            return None
        for path in places:
            if isinstance(path, (str, bytes, os.PathLike)) and not self._allowed(os.fsdecode(path)):
                self._broken(f"{event} {path!r}")
        return None

    def _allowed(self, path: str) -> bool:
        self.on = False
        try:
            real = Path(os.path.realpath(os.path.dirname(path) or ".")) / os.path.basename(path)
            if path.startswith("/proc/self/fd/"):
                real = Path(os.path.realpath(path))
        finally:
            self.on = True
        return path == os.devnull or (real.is_relative_to(HERE) and not real.is_relative_to(CANARY))

    def _broken(self, text: str) -> None:
        self.found.append(text)
        raise Broken(f"writes outside its folder: {text}")


_WATCH = Watch()


def prepare() -> None:
    """Make the folders, and send what the package keeps for a user there."""
    for name in ("canary", "tmp", "cwd", "cache"):
        (HERE / name).mkdir(exist_ok=True)
    (CANARY / "canary.csv").write_text("kept,1\n")
    tempfile.tempdir = os.environ["MPLCONFIGDIR"] = str(HERE / "tmp")
    os.chdir(HERE / "cwd")
    sys.dont_write_bytecode = True


def _canary() -> list[tuple[str, int, int]]:
    return [(e.name, e.stat().st_size, e.stat().st_mtime_ns) for e in sorted(os.scandir(CANARY), key=lambda e: e.name)]


def _waited_ns() -> int:
    """How long this thread was ready to run and another one had the core: no time of ours."""
    try:
        with open("/proc/thread-self/schedstat") as stream:
            return int(stream.read().split()[1])
    except (OSError, IndexError):
        return 0


def _is_ours(error: BaseException) -> bool:
    """Whether the package itself raised it: an error of the package, or one whose last frame is in the package."""
    if isinstance(error, (FastgreenError, click.ClickException)):
        return True
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and Path(frames[-1].filename).is_relative_to(PACKAGE)


@contextlib.contextmanager
def guarded(allowed: tuple[type[BaseException], ...]) -> Iterator[None]:
    """Around one input. Broken for what was written elsewhere or took too long; other errors as they came."""
    before, begun, waited = _canary(), time.monotonic_ns(), _waited_ns()
    _WATCH.on, _WATCH.found = True, []
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    except allowed as error:
        if not _is_ours(error):
            raise
    finally:
        _WATCH.on = False
    if _WATCH.found or _canary() != before:
        raise Broken(f"writes outside its folder: {_WATCH.found or 'the canary'}")
    took_s = (time.monotonic_ns() - begun - (_waited_ns() - waited)) / 1e9
    if took_s > LONGEST_S:
        raise Broken(f"takes {took_s:.1f} s")


@contextlib.contextmanager
def building() -> Iterator[None]:
    """Around what a target itself writes in the middle of an input."""
    was, _WATCH.on = _WATCH.on, False
    try:
        yield
    finally:
        _WATCH.on = was


def fresh(name: str) -> Path:
    """An empty folder of that name in the scratch folder."""
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder
