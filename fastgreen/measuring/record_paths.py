# SPDX-License-Identifier: Apache-2.0
"""The folder of a recording: words in its path, a folder for each rank of a job, numbers where a folder is taken."""

from __future__ import annotations

import os
import re

from fastgreen.results.launcher import Launch, launch
from fastgreen.results.run_metadata import started

__all__ = ["claimed_folder"]

_WORD = re.compile(r"\{([a-z_]+)\}")
_MOST_NUMBERS = 10_000
_WORDS = ("rank", "host", "time", "pid")


def claimed_folder(record: str, given: Launch | None = None) -> str:
    """The folder to record to.

    Under a launcher it is made here, so that no other rank takes it: ``RECORD/HOST-RANK``, or RECORD itself where it
    has ``{rank}`` or ``{pid}``. A taken one gets ``-2``, ``-3``, and so does a path with ``{time}``. Without a launcher
    and without ``{time}``, a taken folder is refused by its recorder.

    Raises
    ------
    ValueError
        For another word in braces.
    OSError
        When it cannot be made.
    """
    said = launch() if given is None else given
    for word in _WORD.findall(record):
        if word not in _WORDS:
            raise ValueError(f"record must use only {', '.join('{' + w + '}' for w in _WORDS)}, not {{{word}}}")
    host = re.sub(r"[^\w.-]", "_", os.uname().nodename) or "host"
    rank = said.rank or 0
    values = {"rank": str(rank), "host": host, "pid": str(os.getpid())}
    if "{time}" in record:
        values["time"] = started(said)
    path = _WORD.sub(lambda found: values[found[1]], record)
    if said.rank is not None and not ("{rank}" in record or "{pid}" in record):
        path = os.path.join(path, f"{host}-{rank}")
    elif said.rank is None and "{time}" not in record:
        return path
    return _numbered(path)


def _numbered(path: str) -> str:
    path = path.rstrip("/")
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    for number in range(1, _MOST_NUMBERS):
        name = path if number == 1 else f"{path}-{number}"
        try:
            os.mkdir(name)
        except FileExistsError:
            continue
        return name
    raise FileExistsError(f"{path} and {_MOST_NUMBERS - 2} numbers after it are taken; choose another folder")
