"""What the interpreter says on its own account, set apart from what a program says."""

from __future__ import annotations

import re

_FORK = re.compile(
    r"^.*DeprecationWarning: This process \(pid=\d+\) is multi-threaded, use of fork\(\) may lead to deadlocks .*\n"
    r"(?:  .*\n)?",
    re.MULTILINE,
)


def without_fork_warning(stderr: str) -> str:
    """What a program wrote, without the warning of Python 3.12 and later about a fork beside other threads.

    The warning is the interpreter's and right: it is about the program's own fork. A filter inside the package would
    take it from a user who should see it, so tests allow it instead.

    Parameters
    ----------
    stderr : str
        All that the program wrote to stderr.
    """
    return _FORK.sub("", stderr)


def warnings_in(stderr: str) -> list[str]:
    """The lines of the warnings that a program wrote, without that about a fork.

    Python 3.13 shows below a warning the line of the program, also of one given by ``-c``.
    """
    return [line for line in without_fork_warning(stderr).splitlines() if not line.startswith("  ")]
