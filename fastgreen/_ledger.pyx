# SPDX-License-Identifier: Apache-2.0
"""Ledgers and spans: work that overlaps, opened and closed from any thread or task. `Monitor.ledger` makes them.

A span stores two timestamps. An instant is taken and what it changes is written down under one lock, the
interpreter's, so what a ledger holds is in the order of time.
"""

cimport cython
from cpython.contextvars cimport PyContextVar_New, PyContextVar_Reset, PyContextVar_Set
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF

from libc.math cimport INFINITY
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

from fastgreen._resolver cimport column_data
from fastgreen._window cimport Gate, fg_clock_now_ns

cdef extern from "Python.h":
    int PyContextVar_Get(object var, PyObject *default, PyObject **value) except -1


cdef enum:
    GATE_OPEN = 1
    GATE_INERT = 2
    NEW = 0
    OPEN = 1
    CLOSED = 2
    INERT = 3

cdef object _current = PyContextVar_New(b"fastgreen_span", NULL)


def current_span():
    """The open span of this task or thread, or None.

    It is the one whose ``with`` or ``async with`` block runs here. Threads begin without one.
    """
    cdef PyObject *found = NULL
    PyContextVar_Get(_current, NULL, &found)
    if found == NULL:
        return None
    span = <Span>found
    Py_DECREF(span)
    return span if span.state == OPEN else None


cdef double checked_weight(object weight) except -1.0:
    cdef double value
    try:
        value = weight
    except TypeError:
        raise TypeError(f"weight must be a number, not {weight!r}") from None
    if not 0.0 <= value <= 1099511627776.0:
        raise ValueError(f"weight must be a number from 0 to 2^40, not {weight!r}")
    return value


def _row_dtype():
    import numpy as np

    return np.dtype([("number", "i8"), ("begin_ns", "i8"), ("end_ns", "i8"), ("weight", "f8")])


cdef class _Done:
    """An awaitable that has its value already."""

    cdef object value

    def __cinit__(self, value):
        self.value = value

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        raise StopIteration(self.value)


cdef class Ledger:
    """Where the spans of one kind are opened and closed, from any thread or task; made by `Monitor.ledger`.

    Attributes
    ----------
    name : str
        The name in the tables of the result.
    channels : list of str or None
        The channels whose energy the spans share; None for those of the total.
    baseline_w : float, dict of float, or None
        Power that is set apart, in W.
    weights : str
        ``"known"``: a weight counts from when it is set; ``"at close"``: a stretch has the weight that it ends with.
    """

    def __cinit__(self, str name, Gate gate, channels=None, baseline_w=None, str weights="known"):
        self.name, self.gate = name, gate
        self.channels, self.baseline_w, self.weights = channels, baseline_w, weights
        self.at_close = weights == "at close"
        self.ids, self.details, self.closed, self.steps = [], [], [], []

    def __dealloc__(self):
        free(self.rows)
        free(self.changes)

    def __repr__(self):
        return f"<fastgreen ledger {self.name!r}: {self.opened} spans>"

    def span(self, id, weight=1.0):
        """A span for ``with`` or ``async with``, which open and close it.

        Parameters
        ----------
        id : str, int or bytes
            What the span is called in the result; a label, so two spans may share one.
        weight : float
            0 or above; while spans overlap, each is charged its weight over the sum of their weights.

        Raises
        ------
        TypeError, ValueError
            For an id or a weight of another kind.
        """
        return self.make(id, weight)

    def open(self, id, weight=1.0):
        """Open a span, which its `Span.close` ends; else as `span`."""
        cdef Span span = self.make(id, weight)
        span.open_now()
        return span

    cdef int append(self, Span span, int64_t at_ns) except -1:
        cdef size_t capacity
        cdef Row *grown
        if self.used == self.capacity:
            capacity = self.capacity + self.capacity // 2 + 64
            grown = <Row *>realloc(self.rows, capacity * sizeof(Row))
            if grown == NULL:
                raise MemoryError
            self.rows, self.capacity = grown, capacity
        self.rows[self.used] = Row(span.number, span.begun_at_ns, at_ns, span.weight_now)
        self.ids.append(span.id)
        self.details.append(span.pieces)
        self.used += 1
        return 0

    cdef Span make(self, object id, object weight):
        if not isinstance(id, (str, int, bytes)):
            raise TypeError(f"id must be a text, an integer or bytes, not {type(id).__name__}")
        cdef Span span = Span.__new__(Span)
        span.ledger, span.id = self, id
        span.weight_now = checked_weight(weight)
        return span

    cdef int change(self, Span span, int64_t at_ns, int kind) except -1:
        cdef size_t capacity
        cdef Change *grown
        if self.changed == self.change_capacity:
            capacity = self.change_capacity + self.change_capacity // 2 + 64
            grown = <Change *>realloc(self.changes, capacity * sizeof(Change))
            if grown == NULL:
                raise MemoryError
            self.changes, self.change_capacity = grown, capacity
        self.changes[self.changed] = Change(at_ns, span.number, span.weight_now, kind)
        self.changed += 1
        return 0

    def go_live(self, waiter):
        """From now on note every change, for `take_changes`; `waiter(span, timeout)` waits for a span's share."""
        self.waiter, self.live = waiter, True

    def take_steps(self):
        """Of each step that ended since the last call, its number and [(span, new, weight, weight before)]."""
        steps, self.steps = self.steps, []
        return steps

    def take_changes(self):
        """What happened to the spans since the last call, in the order of time, and the spans that were closed.

        An array of at_ns, number, weight, kind: 0 opened, 1 another weight, 2 closed, 3 and 4 a step began and ended. A
        span that was dropped is what its `Span.row` was.
        """
        import numpy as np

        out = np.empty(self.changed, np.dtype([("at_ns", "i8"), ("number", "i8"), ("weight", "f8"), ("kind", "i8")]))
        if self.changed:
            memcpy(column_data(out, True), self.changes, self.changed * sizeof(Change))
        closed, self.closed, self.changed = self.closed, [], 0
        return out, closed

    def take(self):
        """What was closed since the last call: an array of number, begin_ns, end_ns, weight; ids; and the pieces.

        The pieces of a span are a list of (begin_ns, phase, weight, amounts), or None for a span of one piece without a
        phase and amounts.
        """
        import numpy as np

        out = np.empty(self.used, _row_dtype())
        if self.used:
            memcpy(column_data(out, True), self.rows, self.used * sizeof(Row))
        ids, details = self.ids, self.details
        self.ids, self.details, self.used = [], [], 0
        return out, ids, details

    def take_open(self, double age_s):
        """Spans that have been open for so long and were not given before, as of `take`; their ends mean nothing."""
        import numpy as np

        cdef int64_t before_ns = fg_clock_now_ns() - <int64_t>(age_s * 1e9)
        cdef Span span
        rows, ids = [], []
        for found in self.open_spans():
            span = found
            if span.begun_at_ns <= before_ns and not span.noted:
                span.noted = True
                rows.append((span.number, span.begun_at_ns, span.begun_at_ns, span.weight_now))
                ids.append(span.id)
        return np.array(rows, _row_dtype()), ids

    def open_spans(self):
        """The spans that are open, the last opened first."""
        out = []
        cdef void *at = self.first
        while at != NULL:
            out.append(<Span>at)
            at = (<Span>at).after
        return out

    def end_all(self):
        """Close what is open; how many that were."""
        spans = self.open_spans()
        cdef int64_t now = fg_clock_now_ns()
        for span in spans:
            (<Span>span).end_at(now)
        return len(spans)


@cython.freelist(64)
@cython.no_gc_clear  # a span that is collected still closes in its ledger
cdef class Span:
    """A stretch of work that may overlap others; made by `Ledger.span` and `Ledger.open`. Any thread may close it.

    Attributes
    ----------
    id : str, int or bytes
        The id that it was opened with; two spans may have the same one.
    is_open : bool
        Whether it was not closed yet.
    phase_name : str or None
        The phase that runs; None before the first one.
    weight : float
        Its part of the energy against other open spans, 0 or above. It may be set while the span is open.
    """

    def __init__(self):
        raise TypeError("a span is made by a ledger: ledger.span(id)")

    def __dealloc__(self):
        if self.state == OPEN:  # dropped without a close: it must not dilute the others for ever
            self.drop()

    cdef int drop(self) except -1:
        self.ledger.dropped += 1
        self.end_at(fg_clock_now_ns(), True)
        return 0

    def __repr__(self):
        if self.ledger is None:
            return "<fastgreen span of no ledger>"
        return f"<fastgreen span {self.id!r} of {self.ledger.name!r}, {('new', 'open', 'closed', 'inert')[self.state]}>"

    @property
    def is_open(self):
        return self.state == OPEN

    cdef int open_now(self) except -1:
        return self.open_at(-1)

    cdef int open_at(self, int64_t at_ns) except -1:
        """Open now (-1), or at an instant before, as the spans of a step do: live shares learn of these with the step."""
        cdef Ledger ledger = self.ledger
        if ledger is None:
            raise TypeError("a span is made by a ledger: ledger.span(id)")
        if ledger.gate.state != GATE_OPEN:
            if ledger.gate.state == GATE_INERT:
                self.state = INERT
                return 0
            raise RuntimeError(f"span {self.id!r} opened while its monitor is not running")
        if self.state != NEW:
            raise RuntimeError(f"span {self.id!r} opened twice; ask the ledger for another")
        self.begun_at_ns = self.piece_at_ns = at_ns if at_ns >= 0 else fg_clock_now_ns()
        self.number = ledger.opened
        ledger.opened += 1
        self.after = ledger.first
        if ledger.first != NULL:
            (<Span>ledger.first).before = <void *>self
        ledger.first = <void *>self
        self.state = OPEN
        if ledger.live and at_ns < 0:
            ledger.change(self, self.begun_at_ns, 0)
        return 0

    cdef tuple facts(self):
        return self.number, self.id, self.begun_at_ns, self.ended_at_ns, self.weight_now, self.pieces

    def row(self):
        """Number, id, begin and end (ns), weight, and the pieces as of `Ledger.take`, of a span that is closed."""
        return self.facts()

    cdef int unlink(self) except -1:
        if self.before != NULL:
            (<Span>self.before).after = self.after
        else:
            self.ledger.first = self.after
        if self.after != NULL:
            (<Span>self.after).before = self.before
        self.before = self.after = NULL
        return 0

    cdef int end_at(self, int64_t at_ns, bint dropped=False, bint in_step=False) except -1:
        self.state = CLOSED
        self.ended_at_ns = at_ns
        self.unlink()
        if self.pieces is not None or self.first_name is not None or self.phase_name is not None:
            self.cut(at_ns)
        self.ledger.append(self, at_ns)
        if self.ledger.live:
            if not in_step:
                self.ledger.change(self, at_ns, 2)
            self.ledger.closed.append(self.facts() if dropped else self)
        return 0

    cdef int close_now(self) except -1:
        if self.state == OPEN:
            if self.ledger.gate.state == GATE_INERT:
                self.state = INERT
                self.unlink()
                return 0
            return self.end_at(fg_clock_now_ns())
        return 0

    cdef int cut(self, int64_t at_ns) except -1:
        """End the piece that runs."""
        cdef dict amounts = self.amounts
        if self.first_name is not None:
            amounts = {} if amounts is None else amounts
            amounts[self.first_name] = self.first_amount + <double>amounts.get(self.first_name, 0.0)
        if self.pieces is None:
            self.pieces = []
        self.pieces.append((self.piece_at_ns, self.phase_name, self.weight_now, amounts))
        self.piece_at_ns, self.amounts, self.first_name = at_ns, None, None
        return 0

    cdef int check_open(self, str what) except -1:
        if self.ledger is None:
            raise TypeError("a span is made by a ledger: ledger.span(id)")
        if self.state == OPEN or self.state == INERT or self.ledger.gate.state == GATE_INERT:
            return 0
        raise RuntimeError(f"{what} of span {self.id!r}, which is {'closed' if self.state == CLOSED else 'not open'}")

    def close(self, **amounts):
        """End the span; amounts as of `add`, which are the last. RuntimeError where it is not open."""
        self.check_open("close")
        if amounts:
            self.add(**amounts)
        self.close_now()

    def phase(self, str name not None):
        """From here on the span is in another phase: ``"prefill"``, ``"decode"``."""
        self.check_open("phase")
        cdef int64_t at_ns
        if self.state == OPEN:
            at_ns = fg_clock_now_ns()
            self.cut(at_ns)  # before the first phase lies a piece without a name
            self.phase_name = name
            if self.ledger.live and self.ledger.at_close:  # the stretch has ended, and with it its weight is known
                self.ledger.change(self, at_ns, 1)

    def add(self, **amounts):
        """Count what the span did: ``add(tokens=1)``. Amounts of one name add up. RuntimeError once it is closed."""
        cdef dict mine
        cdef double value
        if self.state != OPEN:
            self.check_open("add")
            return
        mine = self.amounts
        for name, amount in amounts.items():
            value = amount
            if not -INFINITY < value < INFINITY:
                raise ValueError(f"{name} must be a finite number, not {amount!r}")
            if name is self.first_name:
                self.first_amount += value
                continue
            if self.first_name is None:
                self.first_name, self.first_amount = name, value
                continue
            if mine is None:
                mine = self.amounts = {}
            found = mine.get(name)
            mine[name] = value if found is None else <double>found + value

    @property
    def weight(self):
        """The weight from here on, 0 or above (see `Ledger.weights`)."""
        return self.weight_now

    @weight.setter
    def weight(self, weight):
        cdef double value = checked_weight(weight)
        self.check_open("weight")
        cdef int64_t at_ns
        if self.state == OPEN and not self.ledger.at_close and value != self.weight_now:
            at_ns = fg_clock_now_ns()
            self.cut(at_ns)
            self.weight_now = value
            if self.ledger.live:
                self.ledger.change(self, at_ns, 1)
        self.weight_now = value

    @property
    def number_in_ledger(self):
        return self.number

    def settle(self, shared):
        """Its share is known; the monitor calls this."""
        self.shared = shared

    @property
    def settled(self):
        return self.shared

    def energy(self, timeout=1.0):
        """The share of a span that is closed, while the program runs.

        It is known with the next update of the counters after the span's end.

        Parameters
        ----------
        timeout : float
            How long to wait for it, in s.

        Returns
        -------
        Bounded or None
            ``energy_j``, ``low_j`` and ``high_j`` in J, without the baseline; None if it is not known in time.
        """
        if self.ledger is None or self.ledger.gate.state == GATE_INERT:  # in a forked child nothing is measured
            return self.shared
        if self.shared is None and self.state == CLOSED and self.ledger.live:
            self.ledger.waiter(self, timeout)
        return self.shared

    async def energy_async(self, timeout=1.0):
        """The same for ``await``: other tasks go on meanwhile."""
        import asyncio
        import time

        until = time.monotonic() + timeout
        while self.energy(0) is None and self.state == CLOSED and self.ledger.live and time.monotonic() < until:
            await asyncio.sleep(0.002)
        return self.shared

    def __enter__(self):
        self.open_now()
        if self.state == OPEN:
            if self.after != NULL:  # other spans of the ledger are open
                self.look_around()
            self.token = PyContextVar_Set(_current, self)
        return self

    cdef int look_around(self) except -1:
        """Count the spans that are opened within one of their own ledger: those are phases, not spans."""
        cdef PyObject *found = NULL
        PyContextVar_Get(_current, NULL, &found)
        if found != NULL:
            outer = <Span>found
            Py_DECREF(outer)
            if outer.state == OPEN and outer.ledger is self.ledger:
                self.ledger.nested += 1
        return 0

    def __exit__(self, kind, value, traceback):
        if self.token is not None:
            token, self.token = self.token, None
            try:
                PyContextVar_Reset(_current, token)
            except (ValueError, RuntimeError):
                pass  # an async generator that another task closes leaves in another context
        self.close_now()

    def __aenter__(self):
        return _Done(self.__enter__())

    def __aexit__(self, kind, value, traceback):
        return _Done(self.__exit__(kind, value, traceback))
