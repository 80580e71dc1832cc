"""A signal between threads that stays usable after an exception at any instruction.

`threading.Event` is Python code: if Ctrl-C comes after it has taken its inner lock and before the block that releases
the lock, the lock stays locked and the other thread waits for ever. A lock in C has no such gap.
"""

from __future__ import annotations

import threading

__all__ = ["Bell"]


class Bell:
    """A signal that any thread sets once and other threads wait for.

    Attributes
    ----------
    rung : bool
        Whether `ring` was called.

    Examples
    --------
    >>> bell = Bell()
    >>> bell.wait(0.001)
    False
    >>> bell.ring()
    >>> bell.wait(10.0)
    True
    """

    __slots__ = ("_lock", "rung")

    def __init__(self) -> None:
        self.rung = False
        self._lock = threading.Lock()
        self._lock.acquire()

    def ring(self) -> None:
        """Set the flag and wake the waiting threads. A second call does nothing."""
        self.rung = True
        self.poke()

    def poke(self) -> None:
        """Wake one waiting thread, or the next thread that would wait, without setting the flag."""
        try:
            self._lock.release()
        except RuntimeError:  # the lock is released already
            return

    def wait(self, timeout_s: float) -> bool:
        """Wait until the bell rings, for at most `timeout_s` seconds.

        Returns
        -------
        bool
            Whether the bell has rung; False after a `poke` as well. If an exception interrupts another waiting thread,
            this one may wait for the whole time although the bell rings; so wait several short times, not one long.
        """
        if not self.rung and self._lock.acquire(timeout=timeout_s) and self.rung:
            self.poke()  # for the others that wait
        return self.rung
