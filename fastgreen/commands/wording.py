"""What went wrong, as one sentence for people."""

from __future__ import annotations

import os
import re

__all__ = ["sentence"]

# What pyarrow puts into the place of the operating system's words.
_ARROW = re.compile(r"(?:Failed to \w+ (?:local file|file|directory) '(.*?)')?.*Detail: \[errno (\d+)\]", re.DOTALL)


def sentence(error: BaseException) -> str:
    """The error's own words; of a failed system call, the file and what the system says of it, without the number."""
    if not isinstance(error, OSError) or error.errno is None or not error.strerror:
        return str(error)
    arrow = _ARROW.match(error.strerror)
    if arrow is not None:
        said = os.strerror(int(arrow[2]))
        return f"{arrow[1]}: {said}" if arrow[1] else said
    where = error.filename
    return f"{os.fsdecode(where)}: {error.strerror}" if isinstance(where, (str, bytes)) else error.strerror
