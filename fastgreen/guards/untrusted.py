"""Untrusted files: opened without waiting, read up to a limit, and never through a link out of their folder.

A file of a stranger may be a pipe (reading waits for ever), a device (it never ends), larger than the memory, or a link
to a file that the reader can see and the stranger cannot. Only this file of the package opens untrusted files.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard

from fastgreen.errors import TraceError
from fastgreen.guards.system_names import BELOW, DIRECTORY, NOFOLLOW, NOWAIT, OURS

__all__ = [
    "SMALL",
    "check_inside",
    "check_outputs",
    "name_of_regular",
    "open_regular",
    "read_object",
    "read_small",
    "read_toml",
]

_READ = os.O_RDONLY | NOWAIT | OURS
_MOST_PARTS = 300  # of a key of TOML
SMALL = 4 << 20  # bytes of a file of settings or results; fastgreen's own are a thousand times smaller


def check_inside(path: Path, folder: Path) -> str:
    """Real path of a file or folder inside `folder`. TraceError if a link leads out of `folder`."""
    real, root = os.path.realpath(path), os.path.realpath(folder)
    if os.path.commonpath([real, root]) != root:
        raise TraceError(f"{path} leads out of {folder}: links out of a folder are not followed")
    return real


def _open_below(root: str, parts: tuple[str, ...]) -> int:
    """A file below a folder, by names that are no links: a link that takes the place of one meanwhile is an OSError."""
    if not BELOW:
        return os.open(os.path.join(root, *parts), _READ | NOFOLLOW)
    folder = os.open(root, os.O_RDONLY | DIRECTORY | OURS)
    try:
        for part in parts[:-1]:
            inner = os.open(part, os.O_RDONLY | DIRECTORY | NOFOLLOW | OURS, dir_fd=folder)
            os.close(folder)
            folder = inner
        return os.open(parts[-1] if parts else ".", _READ | NOFOLLOW, dir_fd=folder)
    finally:
        os.close(folder)


def open_regular(path: Path, folder: Path | None = None) -> int:
    """Open a regular file for reading.

    Parameters
    ----------
    path : Path
        The file.
    folder : Path, optional
        The untrusted folder of the file; links must stay inside it. Without it, all links are followed, since the user
        named the file.

    Returns
    -------
    int
        File descriptor; the caller closes it.

    Raises
    ------
    TraceError
        If it is not a regular file, or a link leads out of the folder.
    OSError
        If it does not exist or cannot be read.
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
    """Read a file of at most `most` bytes. TraceError if it is larger; other errors as in `open_regular`."""
    with os.fdopen(open_regular(path, folder), "rb") as stream:
        data = stream.read(most + 1)
    if len(data) > most:
        raise TraceError(f"{path} is larger than {most} bytes")
    return data


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value of JSON is a finite number. JSON has integers that are too large for a float."""
    most = sys.float_info.max
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -most <= value <= most


def read_object(path: Path, folder: Path | None = None) -> dict[str, Any]:
    """Read a JSON object from a small file. TraceError if it is not one; other errors as in `open_regular`."""
    try:
        value = json.loads(read_small(path, folder))
    except (UnicodeDecodeError, RecursionError, json.JSONDecodeError, ValueError) as error:
        if isinstance(error, TraceError):
            raise
        raise TraceError(f"{path} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise TraceError(f"{path} is not a JSON object")
    return value


def read_toml(path: Path, most: int = SMALL) -> dict[str, Any]:
    """Read a TOML file of at most `most` bytes. TraceError if it is not one; other errors as in `open_regular`."""
    import tomllib

    text = read_small(path, most=most)
    try:
        # The time of tomllib grows with the square of the parts of a key.
        if any(line.count(b".") > _MOST_PARTS for line in text.splitlines()):
            raise ValueError(f"a line with more than {_MOST_PARTS} dots")
        return tomllib.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise TraceError(f"{path}: not a TOML file ({error})") from error


def check_outputs(target: Path, names: list[str], source: Path) -> None:
    """Check that files written beside a stranger's files do not go through a link.

    Parameters
    ----------
    target : Path
        Folder of the new files. It may not exist yet.
    names : list of str
        Names of the new files.
    source : Path
        The stranger's folder. A target inside it must not be a link out of it.

    Raises
    ------
    TraceError
        If the target leads out of `source`, or a file is a link or not a regular file.
    """
    if target.absolute().is_relative_to(source.absolute()):
        check_inside(target, source)
    for name in names:
        try:
            there = os.lstat(target / name)
        except OSError:
            continue
        if not stat.S_ISREG(there.st_mode) or there.st_nlink > 1:
            raise TraceError(f"{target / name} is not written to, as it is a link or not a file; remove it")
