"""What ties a run's time axis and numbers to the world."""

from __future__ import annotations

import os
import time

from fastgreen import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["FORMAT", "run_metadata"]

FORMAT = 1  # of the files of a run


def run_metadata() -> dict[str, Any]:
    """Format, package version, host, and one instant on the realtime and the monotonic clock."""
    before = time.monotonic_ns()
    realtime_ns = time.time_ns()
    return {
        "format": FORMAT,
        "version": __version__,
        "host": os.uname().nodename,
        "realtime_ns": realtime_ns,
        "monotonic_ns": (before + time.monotonic_ns()) // 2,
    }
