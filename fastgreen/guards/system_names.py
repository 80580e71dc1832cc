# SPDX-License-Identifier: Apache-2.0
"""Names of `os` that a system lacks, with the nearest replacement: Windows and macOS open files in fewer ways."""

from __future__ import annotations

import os

__all__ = ["BELOW", "DIRECTORY", "NOFOLLOW", "NOWAIT", "OURS", "cpu_count"]

# Flags of `os.open`. OURS: bytes as they are, and no child process inherits the file. A pipe makes NOWAIT needed, a
# stranger's link NOFOLLOW; where a flag is unknown it is 0.
OURS: int = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOINHERIT", 0)
NOWAIT: int = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
DIRECTORY: int = getattr(os, "O_DIRECTORY", 0)
NOFOLLOW: int = getattr(os, "O_NOFOLLOW", 0)

# Whether a file can be opened below an open folder. Without that, a folder that changes its place is not noticed.
BELOW: bool = os.open in os.supports_dir_fd


def cpu_count() -> int:
    """Number of CPUs that this process may use; of all CPUs where the system has no such limit."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
