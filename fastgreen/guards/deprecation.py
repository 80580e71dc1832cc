# SPDX-License-Identifier: Apache-2.0
"""Names that end: the one place where they are listed, and the warning that a user sees until then."""

from __future__ import annotations

import warnings
from typing import NamedTuple

__all__ = ["RENAMED", "Notice", "warn"]


class Notice(NamedTuple):
    """What to use instead, the version that deprecated the name, and the version without it."""

    instead: str
    since: str
    ends: str


# Public name of fastgreen that is no longer in its list -> its notice. A row stays for two minor versions at least.
RENAMED: dict[str, Notice] = {}


def warn(name: str, notice: Notice, stacklevel: int = 2) -> None:
    """A DeprecationWarning, which Python shows where the user's own script uses the name.

    Parameters
    ----------
    name : str
        Name or argument as the user writes it, for example ``fastgreen.apc``.
    notice : Notice
    stacklevel : int
        As of `warnings.warn`, counted from the caller.
    """
    text = f"{name} is deprecated since {notice.since} and ends with {notice.ends}: use {notice.instead}"
    warnings.warn(text, DeprecationWarning, stacklevel=stacklevel + 1)
