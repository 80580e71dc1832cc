# SPDX-License-Identifier: Apache-2.0
"""Ledgers and spans: work that overlaps, opened and closed from any thread or task. `Monitor.ledger` makes them.

A span stores two timestamps. An instant is taken and what it changes is written down under one lock, the
interpreter's or that of the ledger (see `_locked.pxd`), so what a ledger holds is in the order of time.

The ledger links its open spans without holding them. While its lock is held none of these can be freed, because a span
that is dropped leaves the ledger first. But a reference to one must not be taken: the span may be about to be freed.
"""

cimport cython
from cpython.bytearray cimport PyByteArray_FromStringAndSize
from cpython.contextvars cimport PyContextVar_New, PyContextVar_Reset, PyContextVar_Set
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF

from libc.math cimport INFINITY
from libc.stdlib cimport free, realloc

from fastgreen._locked cimport load_int, store_int
from fastgreen._window cimport Gate, fg_clock_now_ns

cdef extern from "Python.h":
    int PyContextVar_Get(object var, PyObject *default, PyObject **value) except -1


cdef enum:
    GATE_OPEN = 1
    GATE_INERT = 2
    MOST_PHASES = 256
    FIRST_PHASE = 5
    NEW = 0
    OPEN = 1
    CLOSED = 2
    INERT = 3

cdef extern from *:
    int locked "FG_LOCKED"(int (*f)(Span) except -1, Ledger owner, Span self) except -1
    int locked_at "FG_LOCKED"(int (*f)(Span, int64_t) except -1, Ledger owner, Span self, int64_t at_ns) except -1
    int locked_phase "FG_LOCKED"(int (*f)(Span, str) except -1, Ledger owner, Span self, str name) except -1
    int locked_weight "FG_LOCKED"(int (*f)(Span, double) except -1, Ledger owner, Span self, double weight) except -1
    int locked_add "FG_LOCKED"(int (*f)(Span, str, double) except -1, Ledger owner, Span self, str name,
                               double value) except -1
    int locked_share "FG_LOCKED"(int (*f)(Span, object) except -1, Ledger owner, Span self, object shared) except -1
    object asked "FG_LOCKED"(object (*f)(Span), Ledger owner, Span self)
    object taken "FG_LOCKED"(object (*f)(Ledger), Ledger owner, Ledger self)
    object taken_before "FG_LOCKED"(object (*f)(Ledger, int64_t), Ledger owner, Ledger self, int64_t before_ns)
    object told "FG_LOCKED"(object (*f)(Ledger, object, bint), Ledger owner, Ledger self, object x, bint phases)
    object settled_late "FG_LOCKED"(object (*f)(Ledger, object, object), Ledger owner, Ledger self, object number,
                                    object shared)

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
    return span if load_int(span.state) == OPEN else None


cdef double checked_weight(object weight) except -1.0:
    cdef double value
    try:
        value = weight
    except TypeError:
        raise TypeError(f"weight must be a number, not {weight!r}") from None
    if not 0.0 <= value <= 1099511627776.0:
        raise ValueError(f"weight must be a number from 0 to 2^40, not {weight!r}")
    return value


_ROW = [("number", "i8"), ("begin_ns", "i8"), ("end_ns", "i8"), ("weight", "f8")]
_CHANGE = [("at_ns", "i8"), ("number", "i8"), ("weight", "f8"), ("kind", "i8")]


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

    @property
    def opened(self):
        """Spans that were opened so far."""
        return taken(count_opened, self, self)

    @property
    def dropped(self):
        """Spans that were dropped without a close."""
        return taken(count_dropped, self, self)

    @property
    def nested(self):
        """Spans that were opened within one of this ledger."""
        return taken(count_nested, self, self)

    @property
    def stepped(self):
        """Steps that began so far."""
        return taken(count_stepped, self, self)

    @property
    def live(self):
        """Whether changes are noted, see `go_live`."""
        return bool(load_int(self.noting))

    def span(self, id, weight=1.0, phase=None):
        """A span for ``with`` or ``async with``, which open and close it.

        Parameters
        ----------
        id : str, int or bytes
            What the span is called in the result; a label, so two spans may share one.
        weight : float
            0 or above; while spans overlap, each is charged its weight over the sum of their weights.
        phase : str, optional
            The phase that it begins in, see `Span.phase`.

        Raises
        ------
        TypeError, ValueError
            For an id or a weight of another kind.
        """
        cdef Span span = self.make(id, weight)
        if phase is not None:
            span.begin_in(phase)
        return span

    def open(self, id, weight=1.0, phase=None):
        """Open a span, which its `Span.close` ends; else as `span`."""
        cdef Span span = self.make(id, weight)
        if phase is not None:
            span.begin_in(phase)
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
        self.changed_at_ns = at_ns
        return 0

    cdef int tell_phase(self, Span span, int64_t at_ns) except -1:
        """Note that a span is in another phase; past so many names, phases are not told apart."""
        number = self.phase_numbers.get(span.phase_now)
        if number is None:
            if len(self.phase_numbers) == MOST_PHASES:
                return 0
            number = self.phase_numbers[span.phase_now] = len(self.phase_numbers)
        return self.change(span, at_ns, FIRST_PHASE + <int>number)

    @property
    def phases(self):
        """The names of the phases that `take_changes` numbers."""
        return taken(phase_names, self, self)

    @property
    def rule(self):
        """Where the weights of its steps come from, as `fastgreen.StepWeights` says; None for weights without a rule."""
        return taken(rule_of, self, self)

    def go_live(self, waiter, phases=False):
        """From now on note every change, for `take_changes`; `waiter(span, timeout)` waits for a span's share.

        With `phases`, changes of phases are noted too.
        """
        told(set_waiter, self, self, waiter, phases)

    def take_steps(self):
        """Of each step that ended since the last call, its number and [(span, new, weight, weight before)]."""
        return taken(take_out_steps, self, self)

    def take_changes(self):
        """What happened to the spans since the last call, in the order of time, and the spans that were closed.

        An array of at_ns, number, weight, kind: 0 opened, 1 another weight, 2 closed, 3 and 4 a step began and ended, 5
        and above another phase, of `phases`. A span that was dropped, or that `end_all` ended, is what its `Span.row` was.
        """
        import numpy as np

        changes, closed = taken(take_out_changes, self, self)
        return np.frombuffer(changes, _CHANGE), closed

    def take(self):
        """What was closed since the last call: an array of number, begin_ns, end_ns, weight; ids; and the pieces.

        The pieces of a span are a list of (begin_ns, phase, weight, amounts), or None for a span of one piece without a
        phase and amounts.
        """
        import numpy as np

        rows, ids, details = taken(take_out_rows, self, self)
        return np.frombuffer(rows, _ROW), ids, details

    def take_open(self, double age_s):
        """Spans that have been open for so long and were not given before, as of `take`; their ends mean nothing."""
        import numpy as np

        rows, ids = taken_before(open_since, self, self, fg_clock_now_ns() - <int64_t>(age_s * 1e9))
        return np.array(rows, _ROW), ids

    def open_weights(self):
        """The weights of the spans that are open, by number."""
        return {number: weight for number, _, weight in taken(open_facts, self, self)}

    def end_all(self):
        """Close what is open; how many that were."""
        return taken(end_open, self, self)

    def settle_late(self, number, shared):
        """The share of a span that `end_all` ended is known; the monitor calls this."""
        settled_late(keep_late, self, self, number, shared)


# What follows runs under the lock of a ledger, and calls no code that can wait.

cdef object count_opened(Ledger self):
    return self.n_opened


cdef object count_dropped(Ledger self):
    return self.n_dropped


cdef object count_nested(Ledger self):
    return self.n_nested


cdef object rule_of(Ledger self):
    return self.rule_now


cdef object phase_names(Ledger self):
    return list(self.phase_numbers or ())


cdef object count_stepped(Ledger self):
    return self.n_stepped


cdef object set_waiter(Ledger self, object waiter, bint phases):
    self.waiter = waiter
    if phases:
        self.phase_numbers = {}
    store_int(self.noting, True)


cdef object waiter_of(Ledger self):
    return self.waiter


cdef object take_out_steps(Ledger self):
    steps, self.steps = self.steps, []
    return steps


cdef object take_out_changes(Ledger self):
    changes = PyByteArray_FromStringAndSize(<char *>self.changes, self.changed * sizeof(Change))
    closed, self.closed, self.changed = self.closed, [], 0
    return changes, closed


cdef object take_out_rows(Ledger self):
    rows = PyByteArray_FromStringAndSize(<char *>self.rows, self.used * sizeof(Row))
    ids, details = self.ids, self.details
    self.ids, self.details, self.used = [], [], 0
    return rows, ids, details


cdef object open_since(Ledger self, int64_t before_ns):
    """Rows and ids of the spans that are open since then, each once."""
    cdef void *at = self.first
    rows, ids = [], []
    while at != NULL:
        if (<Span>at).begun_at_ns <= before_ns and not (<Span>at).noted:
            (<Span>at).noted = True
            rows.append(((<Span>at).number, (<Span>at).begun_at_ns, (<Span>at).begun_at_ns, (<Span>at).weight_now))
            ids.append((<Span>at).id)
        at = (<Span>at).after
    return rows, ids


cdef object open_facts(Ledger self):
    """[(number, id, weight)] of the spans that are open, the last opened first."""
    cdef void *at = self.first
    out = []
    while at != NULL:
        out.append(((<Span>at).number, (<Span>at).id, (<Span>at).weight_now))
        at = (<Span>at).after
    return out


cdef object end_open(Ledger self):
    cdef int64_t now = fg_clock_now_ns()
    count = 0
    if self.late is None:
        self.late = {}
    while self.first != NULL:
        self.late[(<Span>self.first).number] = None
        (<Span>self.first).end_at(now, True)
        count += 1
    return count


cdef object keep_late(Ledger self, object number, object shared):
    if self.late is not None and number in self.late:
        self.late[number] = shared


include "_span.pxi"
