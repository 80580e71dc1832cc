"""A run that is being recorded, looked at again and again from another process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from fastgreen.errors import TraceError
from fastgreen.guards.arguments import path_text
from fastgreen.results.loading import load
from fastgreen.results.run_folder import FILES
from fastgreen.results.run_reader import UNFINISHED

if TYPE_CHECKING:
    from fastgreen.results.result import Result

__all__ = ["FollowedRun"]


class FollowedRun:
    """Looks at the folder of a run while another process records it.

    Each look reads the folder again, so it takes as long as `fastgreen.load`.

    Parameters
    ----------
    folder : path

    Attributes
    ----------
    ended : bool
        Whether the last look found the end of the run.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(path_text("folder", folder))
        self.ended = False

    def look(self) -> Result | None:
        """The run so far; None while the folder holds no reading yet. TraceError for a damaged folder."""
        if not (self.folder / FILES[0]).exists():
            if self.folder.exists() and not self.folder.is_dir():
                raise TraceError(f"{self.folder} is not a folder")
            return None
        try:
            result = load(self.folder)
        except TraceError:
            # A file is there and holds nothing yet: its first bytes come within the first second.
            if any(not (self.folder / name).exists() or not (self.folder / name).stat().st_size for name in FILES):
                return None
            raise
        unfinished = [t for t in result.traces if t.tally.get("why_ended") == UNFINISHED]
        self.ended = not unfinished and bool(result.traces or result.end_ns > result.start_ns)
        for trace in unfinished:
            trace.tally["why_ended"] = None  # it goes on
        return result

    def silent_s(self) -> float:
        """Seconds since the samples on disk last grew."""
        import time

        try:
            return max(0.0, time.time() - (self.folder / FILES[1]).stat().st_mtime)
        except OSError:
            return 0.0


def count_of(result: Result) -> tuple[int, int]:
    """How many windows and how many spans a run has so far."""
    return sum(map(len, result._windows)), sum(len(ledger.ids) for ledger in result._ledgers)
