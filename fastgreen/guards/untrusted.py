"""Files of strangers: opened without waiting, read up to a limit, and never through a link out of their folder.

A file that came from elsewhere may be a pipe, on which a reader waits for ever; a device, which never ends; larger than
the memory; or a link to a file that the reader may see and the stranger may not. This is the one place that opens such
a file.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastgreen.errors import TraceError

__all__ = ["SMALL", "check_inside", "check_outputs", "name_of_regular", "open_regular", "read_object", "read_small"]

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
SMALL = 4 << 20  # bytes of a file of settings or results; the largest of ours is a thousandth of it


def check_inside(path: Path, folder: Path) -> str:
    """The real path of a file or folder that came as part of `folder`. TraceError where a link leads out of it."""
    real, root = os.path.realpath(path), os.path.realpath(folder)
    if os.path.commonpath([real, root]) != root:
        raise TraceError(f"{path} leads out of {folder}: links out of a folder are not followed")
    return real


def _open_below(root: str, parts: tuple[str, ...]) -> int:
    """A file below a folder, by names that are no links: a link that takes the place of one meanwhile is an OSError."""
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts[:-1]:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            os.close(folder)
            folder = inner
        return os.open(parts[-1] if parts else ".", _READ | os.O_NOFOLLOW, dir_fd=folder)
    finally:
        os.close(folder)


def open_regular(path: Path, folder: Path | None = None) -> int:
    """A descriptor of a regular file, for reading; the caller closes it.

    Parameters
    ----------
    path : Path
    folder : Path, optional
        What the file came in; links lead to other files in it at most. Without it links are followed: the reader of the
        file named it.

    Raises
    ------
    TraceError
        If it is something else than a regular file, or a link leads out of the folder.
    OSError
        If it is not there, or may not be read.
    """
    if folder is None:
        handle = os.open(path, _READ)
    else:
        real, root = check_inside(path, folder), os.path.realpath(folder)
        try:
            handle = _open_below(root, Path(real).relative_to(root).parts)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise TraceError(f"{path} is not a regular file")
    return handle


@contextlib.contextmanager
def name_of_regular(path: Path, folder: Path | None = None) -> Iterator[str]:
    """A name of a regular file that is open, for a library that opens names: another file cannot take its place.

    See `open_regular`. The library follows no link, and waits for no pipe.
    """
    handle = open_regular(path, folder)
    try:
        name = f"/proc/self/fd/{handle}"
        yield name if os.path.exists(name) else str(path)
    finally:
        os.close(handle)


def read_small(path: Path, folder: Path | None = None, most: int = SMALL) -> bytes:
    """All of a file of at most so many bytes. TraceError also where it is larger; see `open_regular`."""
    with os.fdopen(open_regular(path, folder), "rb") as stream:
        data = stream.read(most + 1)
    if len(data) > most:
        raise TraceError(f"{path} is larger than {most} bytes")
    return data


def read_object(path: Path, folder: Path | None = None) -> dict[str, Any]:
    """The object that a small JSON file holds. TraceError where it holds no object; see `open_regular`."""
    try:
        value = json.loads(read_small(path, folder))
    except (UnicodeDecodeError, RecursionError, json.JSONDecodeError, ValueError) as error:
        if isinstance(error, TraceError):
            raise
        raise TraceError(f"{path} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise TraceError(f"{path} holds no JSON object")
    return value


def check_outputs(target: Path, names: list[str], source: Path) -> None:
    """TraceError where writing into a folder beside a stranger's files would write elsewhere.

    Parameters
    ----------
    target : Path
        The folder that is written to. It may not exist yet.
    names : list of str
        Files that are written there.
    source : Path
        The stranger's folder. A target inside of it must not be a link out of it.
    """
    if target.absolute().is_relative_to(source.absolute()):
        check_inside(target, source)
    for name in names:
        try:
            there = os.lstat(target / name)
        except OSError:
            continue
        if not stat.S_ISREG(there.st_mode) or there.st_nlink > 1:
            raise TraceError(f"{target / name} is a link or no file, and is not written to: remove it")
