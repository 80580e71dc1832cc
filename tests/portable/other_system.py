# SPDX-License-Identifier: Apache-2.0
"""Takes away the names of Python that Windows lacks, then runs the command line.

``python -m tests.portable.other_system`` takes the arguments of ``fastgreen``.

This is no Windows: paths, locks of open files and the compiler stay those of this machine.
"""

from __future__ import annotations

import os
import signal
import sys

MODULES = ("fcntl", "grp", "pwd", "termios")
NAMES = ("sched_getaffinity", "fchmod", "register_at_fork", "geteuid", "getuid", "fork", "O_TMPFILE")
FLAGS = ("O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY", "O_PATH")


def become_another() -> None:
    """Remove the names; what is imported later finds none of them."""
    for module in MODULES:
        sys.modules[module] = None  # type: ignore[assignment]
    for name in (*NAMES, *FLAGS):
        if hasattr(os, name):
            delattr(os, name)
    for name in ("SIGHUP", "SIGQUIT", "SIGALRM"):
        delattr(signal, name)
    os.supports_dir_fd.clear()


if __name__ == "__main__":
    # Libraries of others know their systems by other signs: they are imported as on this machine.

    become_another()
    from fastgreen.cli import main

    main(prog_name="fastgreen")
