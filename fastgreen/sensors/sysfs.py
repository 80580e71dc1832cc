"""Reading kernel attributes: a text, an integer, a name; and the reason if one cannot be read."""

from __future__ import annotations

import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["entries", "integer", "pci_address", "printable", "read", "remedy", "text", "unreadable"]

MOST_BYTES = 1 << 24  # /proc/cpuinfo of a thousand CPUs has a tenth; what is longer is no attribute
LONGEST_NAME = 96


def read(path: str) -> str:
    """What a file holds, without white space around it. OSError where it cannot be read or does not end."""
    # O_NONBLOCK: a fifo in the place of an attribute must not hang the caller.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    content = bytearray()
    try:
        while piece := os.read(fd, 1 << 16):
            content += piece
            if len(content) > MOST_BYTES:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), path)
    finally:
        os.close(fd)
    return content.decode("utf-8", "replace").strip()


def text(path: str) -> str | None:
    """What a file holds; None where it cannot be read."""
    try:
        return read(path)
    except OSError:
        return None


def printable(name: str) -> str:
    """A name that does nothing to a terminal or a table: one line of bounded length without control characters."""
    shown = "".join(c if c.isprintable() else "?" for c in name)
    return shown if len(shown) <= LONGEST_NAME else f"{shown[:LONGEST_NAME]}..."


def entries(folder: str) -> list[str]:
    """The names that a folder holds; empty if it cannot be listed or is gone."""
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def pci_address(device: str) -> str:
    """Address of the PCI device that a link of sysfs leads to, as 0000:03:00.0; empty for any other device."""
    import re

    name = os.path.basename(os.path.realpath(device))
    return name if re.fullmatch(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", name) else ""


def remedy(mode: str, path: str) -> str:
    from shlex import quote

    return f"sudo chmod {mode} {quote(os.path.realpath(path))}"


def _parse(content: str) -> int | None:
    """As fg_sysfs_parse, which takes less than int() does."""
    digits = content.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 19):
        return None
    value = int(content)
    return value if -1 << 63 < value < 1 << 63 else None


def integer(path: str) -> int | None:
    """The integer of 63 bits that a file holds; None if it holds another text or cannot be read."""
    content = text(path)
    return _parse(content) if content is not None else None


def unreadable(path: str, kind: str) -> dict[str, Any]:
    """Fields of a channel whose attribute cannot be read; empty if the engine can read and accept it."""
    try:
        content = read(path)
    except OSError as error:
        if isinstance(error, PermissionError):
            return {"readable": False, "reason": f"permission denied: {path}", "remedy": remedy("a+r", path)}
        name = errno.errorcode.get(error.errno or 0, "?")
        return {"readable": False, "reason": f"{error.strerror} ({name}): {path}"}
    value = _parse(content)
    if value is None:
        return {"readable": False, "reason": f"{path} does not hold an integer: {content[:24]!r}"}
    if kind == "energy" and value < 0:
        return {"readable": False, "reason": f"{path} holds a negative energy: {content!r}"}
    return {}
