"""A folder that is written to, whatever becomes of its name: removed, moved, or replaced by a link.

The folder and its files are held open. New files are made below the open folder, never through a link, so nothing is
written anywhere else than into the folder that was there at first.
"""

from __future__ import annotations

import os
from pathlib import Path

from fastgreen.guards.system_names import BELOW, DIRECTORY, NOFOLLOW, OURS

__all__ = ["KeptFile", "OpenFolder", "name_of"]

_NEW = os.O_CREAT | os.O_EXCL | os.O_RDWR | NOFOLLOW | OURS


def name_of(handle: int, path: Path) -> str:
    """A name by which this process opens the file of a descriptor, for libraries that take names only."""
    name = f"/proc/self/fd/{handle}"
    return name if os.path.exists(name) or not path.exists() else str(path)


class OpenFolder:
    """A folder, made where it is missing, and held open.

    Parameters
    ----------
    path : Path
        A link that leads to a folder now is followed; later ones are not.

    Raises
    ------
    OSError
        When it cannot be made or opened, with its path.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        # Windows opens no folder: there, names are looked up again each time.
        self._handle = os.open(path, os.O_RDONLY | DIRECTORY | OURS) if BELOW else -1

    def _place(self, name: str) -> tuple[str, int | None]:
        """A name and the folder to look it up in, as the functions of `os` take them."""
        return (name, self._handle) if BELOW else (str(self.path / name), None)

    def close(self) -> None:
        """Give the folder back. Idempotent."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)

    def __del__(self) -> None:
        if getattr(self, "_handle", -1) >= 0:
            self.close()

    def has(self, name: str) -> bool:
        """Whether there is anything of this name, also a link that leads nowhere."""
        try:
            place, folder = self._place(name)
            os.stat(place, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def create(self, name: str) -> int:
        """A descriptor of a new file; OSError, with its path, when there is anything of this name."""
        try:
            place, folder = self._place(name)
            return os.open(place, _NEW, 0o666, dir_fd=folder)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path / name)) from None

    def rename(self, old: str, new: str) -> None:
        """Give a file another name, in the place of the file that has it."""
        try:
            (source, folder), (target, _) = self._place(old), self._place(new)
            os.replace(source, target, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path / new)) from None

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        try:
            place, folder = self._place(name)
            os.unlink(place, dir_fd=folder)
        except FileNotFoundError:
            return

    def leads_to(self, name: str, handle: int) -> bool:
        """Whether the folder's path still leads to this folder, and the file's to the file of this descriptor."""
        place, folder = self._place(name)
        return (not BELOW or _same(str(self.path), self._handle)) and _same(place, handle, folder)


def _same(path: str, handle: int, folder: int | None = None) -> bool:
    try:
        found = os.stat(path, dir_fd=folder, follow_symlinks=folder is None)
    except OSError:
        return False
    known = os.fstat(handle)
    return (found.st_dev, found.st_ino) == (known.st_dev, known.st_ino)


class KeptFile:
    """A file whose name is lost: it is read through its descriptor, as long as anything holds this object.

    Copies share it. Pickled, it is the path that it had.
    """

    def __init__(self, handle: int, path: Path) -> None:
        self._handle, self._path = handle, path

    @property
    def path(self) -> Path:
        return Path(name_of(self._handle, self._path))

    def __del__(self) -> None:
        os.close(self._handle)

    def __copy__(self) -> KeptFile:
        return self

    def __deepcopy__(self, memo: dict) -> KeptFile:
        return self

    def __reduce__(self) -> tuple:
        return Path, (str(self._path),)
