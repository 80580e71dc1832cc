"""Opening counters as root: below one folder, through no link, on the file system that the kernel fills.

The class folder of powercap holds links to devices, so a path is resolved once, when the helper starts. From then on
each component is opened by itself, relative to the descriptor of the one before, and a link in its place is an error.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass

from fastgreen._core import on_sysfs
from fastgreen.errors import FastgreenError

__all__ = ["Tree"]


@dataclass(frozen=True)
class Tree:
    """A folder below which files are opened.

    Parameters
    ----------
    root : str
        The folder; the links of this path itself are followed.
    check : callable
        Called with the descriptor of each folder and file on the way; False refuses it.
    """

    root: str = "/sys"
    check: Callable[[int], bool] = on_sysfs

    def locate(self, path: str) -> tuple[str, ...]:
        """The components of `path` below the root, all links resolved.

        Raises
        ------
        OSError
            Where there is no such file.
        FastgreenError
            Where the path leads out of the root.
        """
        root, real = os.path.realpath(self.root), os.path.realpath(path, strict=True)
        if os.path.commonpath([root, real]) != root or real == root:
            raise FastgreenError(f"{path} leads to {real}, which is not below {root}")
        return tuple(os.path.relpath(real, root).split(os.sep))

    def open(self, parts: tuple[str, ...]) -> int:
        """A read-only descriptor of the regular file at `parts`. OSError for anything else in its place."""
        *folders, name = parts
        here = os.open(os.path.realpath(self.root), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._believe(here)
            for folder in folders:
                below = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
                os.close(here)
                here = below
                self._believe(here)
            # Looked at first: to open a device or a fifo can be an act.
            if not stat.S_ISREG(os.stat(name, dir_fd=here, follow_symlinks=False).st_mode):
                raise OSError(errno.EINVAL, "not a regular file")
            number = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=here)
        finally:
            os.close(here)
        try:
            if not stat.S_ISREG(os.fstat(number).st_mode):
                raise OSError(errno.EINVAL, "not a regular file")
            self._believe(number)
        except OSError:
            os.close(number)
            raise
        return number

    def _believe(self, number: int) -> None:
        if not self.check(number):
            raise OSError(errno.EXDEV, "not on the file system of the counters")
