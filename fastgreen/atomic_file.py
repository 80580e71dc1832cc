"""Atomic writing of files: a file appears complete or not at all.

Files that grow while they are written (the samples of a run, the rows of a collection) only start here, complete.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fastgreen.guards.system_names import OURS

__all__ = ["new_file", "write_bytes", "write_text"]

_UNNAMED = getattr(os, "O_TMPFILE", 0)  # Linux


def write_text(path: str | os.PathLike[str], text: str, overwrite: bool = True, durable: bool = False) -> None:
    """Write text as UTF-8 with its line ends, as `new_file` does; a device or a pipe is written to directly."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"), overwrite, durable)


def write_bytes(path: str | os.PathLike[str], data: bytes, overwrite: bool = True, durable: bool = False) -> None:
    """Write bytes, as `new_file` does; a device or a pipe is written to directly."""
    with new_file(path, overwrite, durable=durable, devices=True) as place, open(place, "wb") as stream:
        stream.write(data)


@contextmanager
def new_file(
    path: str | os.PathLike[str], overwrite: bool, *, durable: bool = False, devices: bool = False
) -> Iterator[str]:
    """Yield the name of a file to write; it becomes `path` if the block ends without an exception.

    Until then the file has no name in its folder, so that a killed process leaves nothing behind. If the file system
    has no such files, it is a hidden file in the same folder; only a killed process leaves that one behind. A replaced
    file keeps its permissions, and a link stays a link.

    Parameters
    ----------
    path : path
        The final file.
    overwrite : bool
        Whether to replace an existing file.
    durable : bool
        Wait until the file is on the disk, so that it survives a power failure.
    devices : bool
        Yield `path` itself if it is a device or a pipe, which cannot be replaced.

    Raises
    ------
    FileExistsError
        If `path` exists and `overwrite` is off.
    OSError
        If `path` is not a regular file, or its folder cannot be written to.
    """
    if devices and _is_device(path):
        yield os.fspath(path)
        return
    path = Path(os.path.realpath(path) if overwrite and os.path.islink(path) else path)
    _check_target(path, overwrite)
    handle = _open_nameless(path)
    if handle is None:
        with _hidden_neighbour(path, overwrite, durable) as name:
            yield name
        return
    try:
        nameless = f"/proc/self/fd/{handle}"
        yield nameless
        _finish(handle, path, durable)
        if overwrite:
            hidden = _hidden_name(path)
            _name(handle, nameless, hidden)
            os.replace(hidden, path)
        else:
            _name(handle, nameless, path)
    finally:
        os.close(handle)


def _is_device(path: str | os.PathLike[str]) -> bool:
    """Whether the path is written into and not replaced: a device, a pipe, or an open file's /dev/fd path."""
    if str(path).startswith(("/dev/std", "/dev/fd/", "/proc/")):
        return os.path.exists(path)
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def _open_nameless(path: Path) -> int | None:
    """Open a file without a name in the folder of `path`; None if the file system has no such files."""
    if not _UNNAMED or not os.path.isdir("/proc/self/fd"):
        return None
    try:
        return os.open(path.parent, _UNNAMED | os.O_RDWR | OURS, 0o666)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            return None
        raise


def _finish(handle: int, path: Path, durable: bool) -> None:
    with suppress(FileNotFoundError, PermissionError, AttributeError):  # Windows has no such modes
        os.fchmod(handle, stat.S_IMODE(path.stat().st_mode))
    if durable:
        os.fsync(handle)


def _name(handle: int, nameless: str, path: Path) -> None:
    # Python follows the link in /proc only if a directory descriptor is given; an absolute name ignores the descriptor.
    os.link(nameless, path, src_dir_fd=handle, follow_symlinks=True)


def _check_target(path: Path, overwrite: bool) -> None:
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    if path.exists() and not overwrite:
        raise FileExistsError(errno.EEXIST, "exists already; to replace it, allow overwriting", str(path))
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such folder", str(path))


def _hidden_name(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")


@contextmanager
def _hidden_neighbour(path: Path, overwrite: bool, durable: bool = False) -> Iterator[str]:
    hidden = _hidden_name(path)
    try:
        handle = os.open(hidden, os.O_CREAT | os.O_EXCL | os.O_RDWR | OURS, 0o666)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    try:
        try:
            yield str(hidden)
            _finish(handle, path, durable)
        finally:
            os.close(handle)  # Windows renames no open file
        if overwrite:
            os.replace(hidden, path)
        else:
            os.link(hidden, path)  # as rename, but never over a file that appeared since the check
    finally:
        with suppress(FileNotFoundError):
            hidden.unlink()
