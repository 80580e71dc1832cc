# SPDX-License-Identifier: Apache-2.0
"""Windows of a monitor, two clock reads each. Private; `Monitor.window` makes windows.

A window is its thread's, but the thread that empties the rings reads it too, and ends it with the run. So the functions
that change it or read several of its members run under its lock; see `_locked.pxd`.
"""

import time
import warnings
from array import array as _array
from bisect import bisect_left as _bisect_left

from libc.math cimport INFINITY
from libc.stdlib cimport free, realloc

from cpython.bytearray cimport PyByteArray_FromStringAndSize

from fastgreen._locked cimport load_int, store_int
from fastgreen.guards.printable import encodable as _encodable


cdef enum:
    GATE_CLOSED = 0
    GATE_OPEN = 1
    GATE_INERT = 2


cdef extern from *:
    int in_gate "FG_LOCKED"(int (*f)(Gate, object) except -1, Gate owner, Gate self, object x) except -1
    object of_gate "FG_LOCKED"(object (*f)(Gate), Gate owner, Gate self)
    int locked "FG_LOCKED"(int (*f)(Window) except -1, Window owner, Window self) except -1
    object read "FG_LOCKED"(object (*f)(Window), Window owner, Window self)
    object read_from "FG_LOCKED"(object (*f)(Window, size_t), Window owner, Window self, size_t start)
    int add_locked "FG_LOCKED"(int (*f)(Window, str, double) except -1, Window owner, Window self, str name,
                               double value) except -1
    int put_locked "FG_LOCKED"(int (*f)(Window, list) except -1, Window owner, Window self, list shelf) except -1


cdef class Gate:
    """State of a monitor for its windows: open while it runs, closed before start and after stop; inert in a forked
    child and while the interpreter ends, so that windows do nothing."""

    def __init__(self, sync=None):
        self.state = GATE_CLOSED
        self.sync = sync
        self.warning = None

    def open(self):
        store_int(self.state, GATE_OPEN)

    def go_live(self, live):
        """`live(begin_ns, end_ns)` is the energy of a stretch, `live.knows(at_ns)` whether it is known; None: ended."""
        in_gate(set_live, self, self, live)

    @property
    def live(self):
        """What gives the energy of a stretch while the monitor runs, or None."""
        return of_gate(live_of, self, self)

    def close(self):
        if load_int(self.state) != GATE_INERT:
            store_int(self.state, GATE_CLOSED)

    def make_inert(self, object warning=None):
        """Make windows do nothing; the first of them gives this warning, if there is one."""
        store_int(self.state, GATE_INERT)
        in_gate(set_warning, self, self, warning)


cdef int set_live(Gate self, object live) except -1:
    self.live_now = live
    return 0


cdef object live_of(Gate self):
    return self.live_now


cdef int set_warning(Gate self, object warning) except -1:
    self.warning = warning
    return 0


cdef object take_warning(Gate self):
    warning, self.warning = self.warning, None
    return warning


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
        return <Py_ssize_t>read(count_of, self, self)

    def __reduce__(self):
        raise TypeError(f"window {self.name!r} cannot be pickled or copied: it belongs to a monitor of this process")

    def __repr__(self):
        return f"<fastgreen window {self.name!r}: {len(self)} times>"

    def put_on(self, list shelf not None):
        """From now on the handle goes on this shelf whenever a stretch ends, to be handed out again."""
        put_locked(put_window_on, self, self, shelf)

    def hand_out(self):
        """It is given to someone once more: what it measured before is no longer theirs to ask for."""
        locked(hand_window_out, self, self)

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
        if load_int(self.gate.state) == GATE_INERT:
            return None
        begin_ns, end_ns = read(last_stretch, self, self)
        live = self.gate.live
        if live is None:
            raise RuntimeError(f"energy of window {self.name!r} while its monitor does not run; the result has it")
        if wait:
            until = fg_clock_now_ns() + <int64_t>(timeout * 1e9)
            while not live.knows(end_ns) and fg_clock_now_ns() < until:
                time.sleep(0.001)
        return live(begin_ns, end_ns)

    def take_off(self):
        """It was taken from its shelf."""
        locked(take_window_off, self, self)

    @property
    def is_open(self):
        """Whether a stretch has begun and not ended."""
        return bool(locked(is_window_open, self, self))

    cdef int _begin(self) except -1:
        if self.gate.sync is not None:
            if locked(check_begin, self, self):
                self.gate.sync()
        return locked(begin_window, self, self)

    cdef int _end(self) except -1:
        if self.gate.sync is not None and load_int(self.gate.state) == GATE_OPEN:
            self.gate.sync()
        return locked(end_window, self, self)

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
        if not locked(is_window_open, self, self):
            if load_int(self.gate.state) == GATE_INERT:
                return
            raise RuntimeError(f"add of window {self.name!r}, which is not open")
        for name, amount in amounts.items():
            value = amount
            if not -INFINITY < value < INFINITY:
                raise ValueError(f"{name} must be a finite number, not {amount!r}")
            add_locked(add_amount, self, self, name, value)

    def amounts(self, size_t start=0):
        """The amounts of the stretches from number `start` on: by name their numbers and how much, as two arrays."""
        import numpy as np

        found = read_from(amounts_from, self, self, start)
        return {_encodable(name): (np.array(places, np.int64), np.array(values, np.float64))
                for name, places, values in found}

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

        begin, end = read_from(edges_from, self, self, start)
        return np.frombuffer(begin, np.int64), np.frombuffer(end, np.int64)

    def take(self):
        """Take the stretches out, so that the handle does not grow: (begin_ns, end_ns, sums of amounts, open since).

        The begin of an open stretch is -1 where none is open. `edges` and `amounts` have only those that come later.
        """
        import numpy as np

        begin, end, amounts, open_since_ns = read(take_out, self, self)
        sums = {_encodable(name): sum(values) for name, (_, values) in amounts.items()}
        return np.frombuffer(begin, np.int64), np.frombuffer(end, np.int64), sums, open_since_ns


# What follows runs under the lock of a window, and calls no code that can wait.

cdef int begin_closed(Window self) except -1:
    if load_int(self.gate.state) == GATE_INERT:
        warning = of_gate(take_warning, self.gate, self.gate)
        if warning is not None:
            warnings.warn(warning, stacklevel=1)
        return 0
    raise RuntimeError(f"window {self.name!r} was begun while its monitor was not running")


cdef int check_begin(Window self) except -1:
    """Whether a stretch can begin now; else an exception, or 0 where nothing is measured any more."""
    if load_int(self.gate.state) != GATE_OPEN:
        return begin_closed(self)
    if self.begun_at_ns >= 0:
        raise RuntimeError(f"window {self.name!r} was begun twice; for nested windows get another handle")
    return 1


cdef int begin_window(Window self) except -1:
    if check_begin(self):
        self.begun_at_ns = fg_clock_now_ns()
    return 0


cdef int end_window(Window self) except -1:
    cdef int64_t now = fg_clock_now_ns()
    if self.begun_at_ns < 0:
        if load_int(self.gate.state) == GATE_OPEN:
            raise RuntimeError(f"window {self.name!r} was ended before it was begun")
        return 0
    if self.first_name is not None:
        keep_amounts(self)
    if self.used == self.capacity:
        grow(self)
    self.begins[self.used] = self.begun_at_ns
    self.ends[self.used] = now
    self.used += 1
    self.begun_at_ns = -1
    self.handed = False
    if self.shelf is not None and not self.shelved:
        self.shelved = True
        self.shelf.append(self)
    return 0


cdef int grow(Window self) except -1:
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


cdef int keep_amounts(Window self) except -1:
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


cdef int add_amount(Window self, str name, double value) except -1:
    if name is self.first_name or name == self.first_name:
        self.first_amount += value
    elif self.first_name is None:
        self.first_name, self.first_amount = name, value
    else:
        if self.others is None:
            self.others = {}
        self.others[name] = value + <double>self.others.get(name, 0.0)
    return 0


cdef object last_stretch(Window self):
    """Begin and end of the last stretch that has ended, ns; RuntimeError where its energy cannot be asked for."""
    if self.begun_at_ns >= 0 or self.used + self.taken == 0:
        state = "is open" if self.used + self.taken else "has not ended yet"
        raise RuntimeError(f"energy of window {self.name!r}, which {state}")
    if self.handed:
        raise RuntimeError(f"window {self.name!r} was handed out again since; for work that overlaps use a ledger")
    if self.used:
        return self.begins[self.used - 1], self.ends[self.used - 1]
    return self.last_begin_ns, self.last_end_ns


cdef object count_of(Window self):
    return self.used + self.taken


cdef int is_window_open(Window self) except -1:
    return self.begun_at_ns >= 0


cdef int put_window_on(Window self, list shelf) except -1:
    self.shelf = shelf
    return 0


cdef int hand_window_out(Window self) except -1:
    self.handed = True
    return 0


cdef int take_window_off(Window self) except -1:
    self.shelved = False
    return 0


cdef object edges_from(Window self, size_t start):
    """The bytes of the begins and of the ends."""
    start = min(start, self.used)
    cdef Py_ssize_t size = (self.used - start) * sizeof(int64_t)
    return (PyByteArray_FromStringAndSize(<char *>(self.begins + start), size),
            PyByteArray_FromStringAndSize(<char *>(self.ends + start), size))


cdef object amounts_from(Window self, size_t start):
    """[(name, numbers, values)] of the amounts of the stretches from number `start` on."""
    out = []
    for name, (places, values) in ({} if self.kept is None else self.kept).items():
        first = _bisect_left(places, start)
        if first < len(places):
            out.append((name, places[first:], values[first:]))
    return out


cdef object take_out(Window self):
    begin, end = edges_from(self, 0)
    amounts, self.kept = {} if self.kept is None else self.kept, None
    if self.used:
        self.last_begin_ns, self.last_end_ns = self.begins[self.used - 1], self.ends[self.used - 1]
    self.taken += self.used
    self.used = 0
    return begin, end, amounts, self.begun_at_ns
