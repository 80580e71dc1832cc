# SPDX-License-Identifier: Apache-2.0
"""Where a run is recorded: one folder for each process, also of a job with many ranks."""

from __future__ import annotations

import os
import time
from itertools import count

from fastgreen.results.launcher import place_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["record_path"]

_TOKENS = ("{rank}", "{host}", "{time}", "{pid}")
_FILE = "channels.arrow"


def record_path(path: str, environ: Mapping[str, str] = os.environ, host: str | None = None) -> str:
    """The folder for a recording.

    ``{rank}``, ``{host}``, ``{time}`` (UTC) and ``{pid}`` are filled in. A rank of a job records into
    ``path/<host>-<rank>``, unless the path has one of these words. A folder that holds a run already gets ``-2``,
    ``-3`` and so on where a launcher restarts ranks, or where the path has a ``{time}``. Elsewhere it is refused later.

    Parameters
    ----------
    path : str
    environ : mapping
        Where the launcher's words are looked for.
    host : str, optional
        Name of this host.
    """
    place = place_of(environ)
    name = (host or os.uname().nodename).replace("/", "_") or "host"
    filled = any(token in path for token in _TOKENS)
    numbered = place is not None or "{time}" in path
    values = (str(place.rank if place else 0), name, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()), str(os.getpid()))
    for token, value in zip(_TOKENS, values, strict=True):
        path = path.replace(token, value)
    if place is not None and not filled:
        path = os.path.join(path, f"{name}-{place.rank}")
    return next(p for p in _candidates(path) if not os.path.exists(os.path.join(p, _FILE))) if numbered else path


def _candidates(path: str):
    yield path
    stem = path.rstrip("/")
    yield from (f"{stem}-{number}" for number in count(2))
