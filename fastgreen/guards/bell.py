"""A signal from one thread to another that an exception at any instruction leaves usable.

`threading.Event` is Python code: Ctrl-C between the moment at which its inner lock is taken and the block that gives
the lock back leaves that lock held for ever, and the other thread waits for ever. A lock of C has no such moment.
"""

from __future__ import annotations

import threading

__all__ = ["Bell"]


class Bell:
    """Rung once by any thread; other threads wait for it.

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
        """Raise the flag and wake the waiting threads. Doing it twice does nothing more."""
        self.rung = True
        self.poke()

    def poke(self) -> None:
        """Wake one waiting thread, or the next one that would wait, without raising the flag."""
        try:
            self._lock.release()
        except RuntimeError:  # it is free already
            return

    def wait(self, timeout_s: float) -> bool:
        """Wait until the bell rings, for at most so many seconds.

        Returns
        -------
        bool
            Whether the bell has rung. False also after a `poke`. Where an exception struck another waiting thread,
            this one may wait for the whole time although the bell rings, so a long wait is made of short ones.
        """
        if not self.rung and self._lock.acquire(timeout=timeout_s) and self.rung:
            self.poke()  # for the others that wait
        return self.rung
