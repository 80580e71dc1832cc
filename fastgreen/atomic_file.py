"""A file that appears whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["new_file"]


@contextmanager
def new_file(path: Path, overwrite: bool) -> Iterator[str]:
    """Yield the name of a file to write; it becomes `path` when the block ends without an exception.

    It has no name of its own until then, so that a killed process leaves nothing behind; where the file system knows no
    nameless files, it is a hidden neighbour, which only a kill leaves behind.

    Raises
    ------
    FileExistsError
        If `path` exists and `overwrite` is off.
    OSError
        If `path` is something else than a file, or its folder cannot be written to.
    """
    _check_target(path, overwrite)
    try:
        handle = os.open(path.parent, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise
        with _hidden_neighbour(path, overwrite) as name:
            yield name
        return
    try:
        nameless = f"/proc/self/fd/{handle}"
        yield nameless
        if overwrite:
            hidden = _hidden_name(path)
            _name(handle, nameless, hidden)
            os.replace(hidden, path)
        else:
            _name(handle, nameless, path)
    finally:
        os.close(handle)


def _name(handle: int, nameless: str, path: Path) -> None:
    # Only with a directory descriptor does Python follow the link in /proc; for an absolute name it is not looked at.
    os.link(nameless, path, src_dir_fd=handle, follow_symlinks=True)


def _check_target(path: Path, overwrite: bool) -> None:
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    if path.exists() and not overwrite:
        raise FileExistsError(errno.EEXIST, "exists already, and overwriting was not asked for", str(path))
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such folder", str(path.parent))


def _hidden_name(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")


@contextmanager
def _hidden_neighbour(path: Path, overwrite: bool) -> Iterator[str]:
    hidden = _hidden_name(path)
    try:
        os.close(os.open(hidden, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    try:
        yield str(hidden)
        if overwrite:
            os.replace(hidden, path)
        else:
            os.link(hidden, path)  # as rename, but never over a file that came in the meantime
    finally:
        with suppress(FileNotFoundError):
            hidden.unlink()
