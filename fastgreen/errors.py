"""The errors and warnings of fastgreen.

Each class is also the built-in it is closest to, so ``except PermissionError`` works without knowing fastgreen.
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
    """Base of everything that fastgreen raises on its own account.

    Attributes
    ----------
    code : int
        ``errno`` of the failed system call or the ``nvmlReturn_t`` or ``amdsmi_status_t`` of the failed call
        of a GPU's library; 0 without such a call.
    """

    def __init__(self, *args: object, code: int = 0) -> None:
        super().__init__(*args)
        self.code = code

    def __str__(self) -> str:
        # LookupError and OSError would print their arguments in their own way.
        return str(self.args[0]) if self.args else ""


class ChannelNotFound(FastgreenError, LookupError):
    """No channel of that name exists on this machine."""


class ChannelPermission(FastgreenError, PermissionError):
    """The channel exists and may not be read by this user; the message ends with the command that grants access."""


class ChannelReadError(FastgreenError, OSError):
    """The channel exists and may be read, but reading it failed."""


class TraceError(FastgreenError, ValueError):
    """A saved run or sweep is not one, is damaged, or is of a version this package cannot read."""


class FastgreenWarning(UserWarning):
    """Something that does not stop the measurement but that its reader should know."""
