# SPDX-License-Identifier: Apache-2.0
"""Opening saved runs: one, or several of one job as one result."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from fastgreen.errors import TraceError
from fastgreen.guards.arguments import path_text
from fastgreen.results.result import Result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastgreen.results.run_set import RunSet

__all__ = ["load", "merge"]

_CHANNELS = "channels.arrow"
_MOST_RUNS = 100_000


def load(path: str | os.PathLike | Iterable[str | os.PathLike]) -> Result:
    """Open a saved or recorded run, or the runs of all ranks of a job as one.

    Parameters
    ----------
    path : path, or iterable of paths
        The folder that `Result.save` or ``Monitor(record=)`` wrote. Its samples stay on disk and are read when needed.
        A folder of such folders, or several, are merged, see `merge`.

    Returns
    -------
    Result
        Of a run whose process was killed, what was recorded up to then; `Result.notes` says so.

    Raises
    ------
    TraceError
        When the folder holds no run, a damaged one, or one of a newer format.
    """
    if isinstance(path, (list, tuple, set, frozenset, Iterator)):
        return merge(path)
    folder = Path(path_text("path", path))
    if not (folder / _CHANNELS).exists() and runs_in(folder):
        return merge([folder])
    return load_one(folder)


def merge(paths: Iterable[str | os.PathLike]) -> RunSet:
    """Several recordings of one job as one result, in which each physical counter counts once.

    Ranks of a job that share a machine read the same counters. A counter is what its host's boot id and its zone, or
    the UUID of its board, name. Its energy is that of the time in which at least one rank read it. Windows and spans
    of all ranks stay apart, in columns ``host`` and ``rank``, and hold the energy of their own host.

    Hosts are placed on one time axis by their wall clocks. A note says how far these can be apart. Energies do not
    depend on it.

    Parameters
    ----------
    paths : iterable of paths
        Run folders, or folders of them. A folder that is damaged is left out, and a note says so.

    Returns
    -------
    RunSet
        A `Result`.

    Raises
    ------
    TraceError
        When no folder holds a run that can be read.
    ValueError
        When there is no path.
    """
    from fastgreen.results.run_set import RunSet

    folders: dict[str, Path] = {}
    notes = []
    for given in paths:
        folder = Path(path_text("path", given))
        inside = [folder] if (folder / _CHANNELS).exists() else runs_in(folder)
        for run in inside or [folder]:
            if folders.setdefault(os.path.realpath(run), run) is not run:
                notes.append(f"{run} was given twice and counts once")
    if not folders:
        raise ValueError("paths must have at least one folder, not []")
    found = []
    for folder in folders.values():
        try:
            found.append((folder, load_one(folder)))
        except (TraceError, OSError) as error:
            notes.append(f"{folder} is left out: {error}")
    if not found:
        raise TraceError(f"no run can be read: {'; '.join(notes)}")
    return RunSet(found, notes)


def runs_in(folder: Path) -> list[Path]:
    """The run folders in a folder, by name, at most two levels below."""
    if not folder.is_dir():
        return []
    out = []
    for one in sorted(p for p in folder.iterdir() if p.is_dir() and not p.is_symlink()):
        if (one / _CHANNELS).exists() or (one / "samples.arrow").exists():
            out.append(one)
        else:
            out += [p.parent for p in sorted(one.glob(f"*/{_CHANNELS}")) if not p.parent.is_symlink()]
    return out[:_MOST_RUNS]


def load_one(folder: Path) -> Result:
    """Open one run folder. TraceError as of `load`."""
    from fastgreen.results.run_reader import read_run, stored_spans

    traces, windows, metadata, notes, (start_ns, end_ns) = read_run(folder)
    return Result(traces, windows, metadata, start_ns, end_ns, notes, stored_spans(folder, metadata))
