# SPDX-License-Identifier: Apache-2.0
"""Windows of a monitor, two clock reads each. Private; `Monitor.window` makes windows."""

import time
import warnings
from array import array as _array
from bisect import bisect_left as _bisect_left

from libc.math cimport INFINITY
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

from fastgreen._resolver cimport column_data
from fastgreen.guards.printable import encodable as _encodable


cdef enum:
    GATE_CLOSED = 0
    GATE_OPEN = 1
    GATE_INERT = 2


cdef class Gate:
    """State of a monitor for its windows: open while it runs, closed before start and after stop; inert in a forked
    child and while the interpreter ends, so that windows do nothing."""

    def __init__(self, sync=None):
        self.state = GATE_CLOSED
        self.sync = sync
        self.warning = None

    def open(self):
        self.state = GATE_OPEN

    def go_live(self, live):
        """`live(begin_ns, end_ns)` is the energy of a stretch, `live.knows(at_ns)` whether it is known; None: ended."""
        self.live = live

    def close(self):
        if self.state != GATE_INERT:
            self.state = GATE_CLOSED

    def make_inert(self, object warning=None):
        """Make windows do nothing; the first of them gives this warning, if there is one."""
        self.state = GATE_INERT
        self.warning = warning


cdef class _Edge:
    """`Window.__enter__` and `__exit__`: a descriptor that returns the bound method kept in the window.

    The with statement looks up both each time. Binding an ordinary method would allocate an object for the garbage
    collector, a third of the time of a window.
    """

    cdef bint leaves

    def __cinit__(self, bint leaves):
        self.leaves = leaves

    def __get__(self, Window window, owner):
        if window is None:
            return self
        return window.bound_exit if self.leaves else window.bound_enter

    def __call__(self, Window window, *exc_info):
        return window._exit(*exc_info) if self.leaves else window._enter()


cdef class Window:
    """Handle to measure the energy of named stretches of time; made by `Monitor.window`, used by one thread.

    Use it as a context manager or call `begin` and `end`, any number of times. Each stores a timestamp; the energy is
    computed after the monitor has stopped.

    Attributes
    ----------
    name : str
        The name in the tables of the result.
    is_open : bool
        Whether a stretch has begun and not ended.
    """

    def __cinit__(self, str name, Gate gate):
        self.name = name
        self.gate = gate
        self.begun_at_ns = -1
        self.bound_enter = self._enter
        self.bound_exit = self._exit

    __enter__ = _Edge(False)
    __exit__ = _Edge(True)

    def __dealloc__(self):
        free(self.begins)
        free(self.ends)

    def __len__(self):
        return self.used + self.taken

    def __reduce__(self):
        raise TypeError(f"window {self.name!r} cannot be pickled or copied: it belongs to a monitor of this process")

    def __repr__(self):
        return f"<fastgreen window {self.name!r}: {len(self)} times>"

    def put_on(self, list shelf not None):
        """From now on the handle goes on this shelf whenever a stretch ends, to be handed out again."""
        self.shelf = shelf

    def hand_out(self):
        """It is given to someone once more: what it measured before is no longer theirs to ask for."""
        self.handed = True

    def energy(self, bint wait=False, double timeout=1.0):
        """The energy of the stretch that the last ``with`` closed, while the monitor runs.

        Parameters
        ----------
        wait : bool
            Whether to wait until the next update of each counter, which gives the closest bounds; else what is known
            by now.
        timeout : float
            How long to wait at most, in s.

        Returns
        -------
        Bounded or None
            ``energy_j``, ``low_j`` and ``high_j`` in J; None in a forked child, where nothing is measured.

        Raises
        ------
        RuntimeError
            If no stretch has ended, or the handle was handed out again since: use a ledger for work that overlaps.
        """
        cdef int64_t begin_ns, end_ns, until
        if self.gate.state == GATE_INERT:
            return None
        if self.begun_at_ns >= 0 or self.used + self.taken == 0:
            state = "is open" if self.used + self.taken else "has not ended yet"
            raise RuntimeError(f"energy of window {self.name!r}, which {state}")
        if self.handed:
            raise RuntimeError(f"window {self.name!r} was handed out again since; for work that overlaps use a ledger")
        if self.gate.live is None:
            raise RuntimeError(f"energy of window {self.name!r} while its monitor does not run; the result has it")
        begin_ns, end_ns = self.last_begin_ns, self.last_end_ns
        if self.used:
            begin_ns, end_ns = self.begins[self.used - 1], self.ends[self.used - 1]
        if wait:
            until = fg_clock_now_ns() + <int64_t>(timeout * 1e9)
            while not self.gate.live.knows(end_ns) and fg_clock_now_ns() < until:
                time.sleep(0.001)
        return self.gate.live(begin_ns, end_ns)

    def take_off(self):
        """It was taken from its shelf."""
        self.shelved = False

    @property
    def is_open(self):
        """Whether a stretch has begun and not ended."""
        return self.begun_at_ns >= 0

    cdef int _begin(self) except -1:
        if self.gate.state != GATE_OPEN:
            return self._begin_closed()
        if self.begun_at_ns >= 0:
            raise RuntimeError(f"window {self.name!r} was begun twice; for nested windows get another handle")
        if self.gate.sync is not None:
            self.gate.sync()
            if self.gate.state != GATE_OPEN:  # stopped while we waited
                return self._begin_closed()
        self.begun_at_ns = fg_clock_now_ns()
        return 0

    cdef int _begin_closed(self) except -1:
        if self.gate.state == GATE_INERT:
            if self.gate.warning is not None:
                warning, self.gate.warning = self.gate.warning, None
                warnings.warn(warning, stacklevel=1)
            return 0
        raise RuntimeError(f"window {self.name!r} was begun while its monitor was not running")

    cdef int _end(self) except -1:
        cdef int64_t now
        if self.gate.sync is not None and self.gate.state == GATE_OPEN:
            self.gate.sync()
        now = fg_clock_now_ns()
        if self.begun_at_ns < 0:
            if self.gate.state == GATE_OPEN:
                raise RuntimeError(f"window {self.name!r} was ended before it was begun")
            return 0
        if self.first_name is not None:
            self._keep_amounts()
        if self.used == self.capacity:
            self._grow()
        # Without Python code from here to the count, so that no `take` of another thread comes between.
        self.begins[self.used] = self.begun_at_ns
        self.ends[self.used] = now
        self.used += 1
        self.begun_at_ns = -1
        self.handed = False
        if self.shelf is not None and not self.shelved:
            self.shelved = True
            self.shelf.append(self)
        return 0

    cdef int _grow(self) except -1:
        cdef size_t capacity = self.capacity + self.capacity // 2 + 64
        cdef void *grown = realloc(self.begins, capacity * sizeof(int64_t))
        if grown == NULL:
            raise MemoryError
        self.begins = <int64_t *>grown
        grown = realloc(self.ends, capacity * sizeof(int64_t))
        if grown == NULL:
            raise MemoryError
        self.ends = <int64_t *>grown
        self.capacity = capacity
        return 0

    cdef int _keep_amounts(self) except -1:
        """Write down the amounts of the stretch that ends."""
        cdef dict amounts = {} if self.others is None else self.others
        amounts[self.first_name] = self.first_amount
        if self.kept is None:
            self.kept = {}
        for name, value in amounts.items():
            if name not in self.kept:
                self.kept[name] = _array("q"), _array("d")
            places, values = self.kept[name]
            places.append(self.used)
            values.append(value)
        self.first_name, self.others = None, None
        return 0

    def add(self, **amounts):
        """Count the work of the stretch that is open: ``add(tokens=128)``. Amounts of one name add up.

        Raises
        ------
        RuntimeError
            If no stretch has begun.
        ValueError
            For an amount that is not finite.
        """
        cdef double value
        if self.begun_at_ns < 0:
            if self.gate.state == GATE_INERT:
                return
            raise RuntimeError(f"add of window {self.name!r}, which is not open")
        for name, amount in amounts.items():
            value = amount
            if not -INFINITY < value < INFINITY:
                raise ValueError(f"{name} must be a finite number, not {amount!r}")
            if name is self.first_name or name == self.first_name:
                self.first_amount += value
            elif self.first_name is None:
                self.first_name, self.first_amount = name, value
            else:
                if self.others is None:
                    self.others = {}
                self.others[name] = value + <double>self.others.get(name, 0.0)

    def amounts(self, size_t start=0):
        """The amounts of the stretches from number `start` on: by name their numbers and how much, as two arrays."""
        import numpy as np

        out = {}
        for name, (places, values) in ({} if self.kept is None else self.kept).items():
            first = _bisect_left(places, start)
            if first < len(places):
                out[_encodable(name)] = np.array(places[first:], np.int64), np.array(values[first:], np.float64)
        return out

    def begin(self):
        """Begin a stretch. RuntimeError if one has begun already or the monitor is not running."""
        self._begin()

    def end(self):
        """End the stretch. RuntimeError if no stretch has begun."""
        self._end()

    def _enter(self):
        self._begin()
        return self

    def _exit(self, kind, value, traceback):
        self._end()

    def edges(self, size_t start=0):
        """Copy the times (begin_ns, end_ns) of the stretches from number `start` on, as two (n,) int64 arrays."""
        import numpy as np

        start = min(start, self.used)
        begin = np.empty(self.used - start, np.int64)
        end = np.empty(self.used - start, np.int64)
        if self.used > start:
            memcpy(column_data(begin, True), self.begins + start, (self.used - start) * sizeof(int64_t))
            memcpy(column_data(end, True), self.ends + start, (self.used - start) * sizeof(int64_t))
        return begin, end

    def take(self):
        """Take the stretches out, so that the handle does not grow: (begin_ns, end_ns, sums of amounts, open since).

        The begin of an open stretch is -1 where none is open. `edges` and `amounts` have only those that come later.
        """
        cdef size_t count = self.used, first, i
        cdef Py_ssize_t place
        cdef int64_t open_since_ns = self.begun_at_ns
        cdef dict done = {}
        begin, end = self.edges()
        begin, end = begin[:count], end[:count]
        if count:
            self.last_begin_ns, self.last_end_ns = self.begins[count - 1], self.ends[count - 1]
            for i in range(self.used - count):
                self.begins[i], self.ends[i] = self.begins[count + i], self.ends[count + i]
            self.used -= count
            self.taken += count
        for name, (places, values) in ({} if self.kept is None else self.kept).items():
            first = _bisect_left(places, count)
            if first:
                done[_encodable(name)] = sum(values[:first])
            del places[:first], values[:first]
            for place in range(len(places)):
                places[place] -= count
        return begin, end, done, open_since_ns
