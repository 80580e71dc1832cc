"""Lines about grants and refusals: a log that nobody can fill, and that stops nothing when it cannot be written."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections import OrderedDict
from collections.abc import Callable

__all__ = ["Log"]

BURST = 5
LINES_PER_S = 0.5
ALL_BURST = 50
ALL_LINES_PER_S = 10.0
MOST_SUBJECTS = 256
LONGEST_LINE = 400  # below PIPE_BUF: a pipe takes it whole or not at all


class _Bucket:
    """Allows `burst` lines at once and `per_s` lines in the long run."""

    def __init__(self, burst: float, per_s: float, now: float) -> None:
        self.burst, self.per_s, self.left, self.at = burst, per_s, burst, now

    def take(self, now: float) -> bool:
        self.left = min(self.burst, self.left + (now - self.at) * self.per_s)
        self.at = now
        if self.left < 1.0:
            return False
        self.left -= 1.0
        return True


class Log:
    """Writes lines to a descriptor, within limits for each subject and for all together.

    Parameters
    ----------
    number : int
        The descriptor. A line that it does not take at once is left out: a full pipe, a full disk, a reader that has
        gone, a closed descriptor.
    clock : callable
        Seconds that only rise.

    Attributes
    ----------
    left_out : int
        Lines left out since the last line written.
    """

    def __init__(self, number: int = 2, clock: Callable[[], float] = time.monotonic) -> None:
        self._number, self._clock = number, clock
        self._all = _Bucket(ALL_BURST, ALL_LINES_PER_S, clock())
        self._subjects: OrderedDict[str, _Bucket] = OrderedDict()
        self.left_out = 0

    def __call__(self, line: str, subject: str = "") -> None:
        """Write one line about `subject`, where the limits permit; never raises OSError and never waits."""
        now = self._clock()
        bucket = self._subjects.setdefault(subject, _Bucket(BURST, LINES_PER_S, now))
        self._subjects.move_to_end(subject)
        if len(self._subjects) > MOST_SUBJECTS:
            self._subjects.popitem(last=False)
        if not (bucket.take(now) and self._all.take(now)):
            self.left_out += 1
            return
        more = f" ({self.left_out} lines left out before this one)" if self.left_out else ""
        if self._write(f"{line[:LONGEST_LINE]}{more}\n".encode("utf-8", "backslashreplace")):
            self.left_out = 0
        else:
            self.left_out += 1

    def _write(self, content: bytes) -> bool:
        with contextlib.suppress(OSError, ValueError):
            poll = select.poll()
            poll.register(self._number, select.POLLOUT)
            ready = poll.poll(0)
            if ready and ready[0][1] & select.POLLOUT:
                return os.write(self._number, content) == len(content)
        return False
