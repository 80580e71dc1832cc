"""Exceptions and warnings of fastgreen.

Each class is also a built-in exception, so that for example ``except PermissionError`` works.
"""

from __future__ import annotations

__all__ = [
    "ChannelNotFound",
    "ChannelPermission",
    "ChannelReadError",
    "FastgreenError",
    "FastgreenWarning",
    "TraceError",
]


class FastgreenError(Exception):
    """Base class of fastgreen's exceptions.

    Attributes
    ----------
    code : int
        ``errno`` of the failed system call, or ``nvmlReturn_t`` or ``amdsmi_status_t`` of the failed call into a
        library; 0 if no call failed.
    """

    def __init__(self, *args: object, code: int = 0) -> None:
        super().__init__(*args)
        self.code = code

    def __str__(self) -> str:
        # LookupError and OSError would print their arguments in their own way.
        return str(self.args[0]) if self.args else ""


class ChannelNotFound(FastgreenError, LookupError):
    """The channel does not exist on this machine."""


class ChannelPermission(FastgreenError, PermissionError):
    """The channel exists, but this user may not read it; the message ends with the command that grants access."""


class ChannelReadError(FastgreenError, OSError):
    """The channel exists, but reading it failed."""


class TraceError(FastgreenError, ValueError):
    """A file (saved run, sweep, recording, model) is damaged, of another format, or of an unknown version."""


class FastgreenWarning(UserWarning):
    """A problem that does not stop the measurement but that the user should know."""
