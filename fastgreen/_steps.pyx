# SPDX-License-Identifier: Apache-2.0
"""Ledgers of engines that work in steps, and of programs that are called with each final span."""

from collections.abc import Mapping

from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free

from fastgreen._ledger cimport Ledger, Span, checked_weight, open_facts
from fastgreen._locked cimport load_int
from fastgreen._window cimport fg_clock_now_ns


cdef enum:
    GATE_OPEN = 1
    GATE_INERT = 2


cdef extern from *:
    object of_ledger "FG_LOCKED"(object (*f)(Ledger), Ledger owner, Ledger self)
    object ruled "FG_LOCKED"(object (*f)(Ledger, object), Ledger owner, Ledger self, object rule)
    int begin_locked "FG_LOCKED"(int (*f)(Step) except -1, Ledger owner, Step self) except -1
    int end_locked "FG_LOCKED"(int (*f)(Step, int64_t, list, list) except -1, Ledger owner, Step self, int64_t now,
                               list weights, list numbers) except -1


cdef class SteppedLedger(Ledger):
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
    rule : str or None
        Where the weights of its steps come from, if `StepWeights.step` gave them.
    phases : list of str
        The names of the phases of its spans, where only totals are kept.
    """

    def step(self, amounts):
        """A step of an engine that works on many requests at once: ``with ledger.step({id: tokens, ...}):``.

        While the step runs, each id has the weight that it did work. An id of an open span is that span; other ids
        become spans of this step alone. Open the spans of requests with ``weight=0``, then they are charged in steps
        only. The mapping is read when the step ends, so it may be filled meanwhile.

        Parameters
        ----------
        amounts : mapping of str, int or bytes to float
            What each request did in the step, 0 or above. `StepWeights.step` makes one from tokens and a fitted cost;
            its rule then stands in the tables of the ledger.

        Raises
        ------
        TypeError, ValueError
            For what is not a mapping, an id or a weight of another kind; in a ledger of weights "at close".
        """
        if self.at_close:
            raise ValueError('a step needs a ledger of weights="known", not "at close"')
        if not isinstance(amounts, Mapping):
            raise TypeError(f"amounts must be a mapping of ids to numbers, not {amounts!r}")
        cdef Step step = Step.__new__(Step)
        step.ledger, step.amounts, step.begun_at_ns = self, amounts, -1
        return step

    def on_final(self, callback):
        """Have a function called with each span whose share is known, as a `FinalSpan`.

        It is called in a thread of its own, while the program runs; the last ones before `Monitor.stop` returns. What it
        raises is counted in the notes of the result.
        """
        if not callable(callback):
            raise TypeError(f"callback must be callable, not {callback!r}")
        if self.deliver is None:
            raise TypeError("a ledger is made by a monitor: monitor.ledger(name)")
        self.deliver.add(callback)

    def deliver_by(self, deliveries):
        """Set what calls the functions of `on_final`."""
        self.deliver = deliveries


cdef class Step:
    """A step of an engine; made by `Ledger.step`."""

    def __init__(self):
        raise TypeError("a step is made by a ledger: ledger.step(amounts)")

    def __enter__(self):
        cdef Ledger ledger = self.ledger
        if load_int(ledger.gate.state) != GATE_OPEN:
            if load_int(ledger.gate.state) == GATE_INERT:
                self.inert = True
                return self
            raise RuntimeError("a step began while its monitor was not running")
        if self.begun_at_ns >= 0:
            raise RuntimeError("a step was begun twice; ask the ledger for another")
        begin_locked(begin_step, ledger, self)
        return self

    def __exit__(self, kind, value, traceback):
        cdef int64_t now = fg_clock_now_ns()
        if self.inert or load_int(self.ledger.gate.state) != GATE_OPEN:  # the run ended within the step
            return
        weights, numbers = [], []
        try:
            weights, numbers = self.charged()
        finally:
            end_locked(end_step, self.ledger, self, now, weights, numbers)

    cdef tuple charged(self):
        """[(id, weight)] of the step, and the number of the open span of each id, or -1."""
        weights = [(id, checked_weight(amount)) for id, amount in dict(self.amounts).items()]
        rule = getattr(self.amounts, "rule", None)
        if isinstance(rule, str):
            ruled(set_rule, self.ledger, self.ledger, rule)
        for id, _ in weights:
            self.ledger.make(id, 0.0)
        numbers_of = {id: number for number, id, _ in reversed(of_ledger(open_facts, self.ledger, self.ledger))}
        return weights, [numbers_of.get(id, -1) for id, _ in weights]


# What follows runs under the lock of the ledger, and calls no code that can wait.

cdef object set_rule(Ledger self, object rule):
    self.rule_now = rule


cdef int tell(Step self, int64_t at_ns, int kind) except -1:
    cdef Span mark = Span.__new__(Span)
    mark.number = self.number
    return self.ledger.change(mark, at_ns, kind)


cdef int begin_step(Step self) except -1:
    self.number = self.ledger.n_stepped
    self.ledger.n_stepped += 1
    self.begun_at_ns = fg_clock_now_ns()
    if self.ledger.noting:
        tell(self, self.begun_at_ns, 3)
    return 0


cdef int end_step(Step self, int64_t now, list weights, list numbers) except -1:
    parts = []
    now = max(now, self.ledger.changed_at_ns)  # another thread may have come between
    try:
        charge(self, now, weights, numbers, parts)
    finally:
        if self.ledger.noting:
            self.ledger.steps.append((self.number, parts))
            tell(self, now, 4)
    return 0


cdef int charge(Step self, int64_t now, list weights, list numbers, list parts) except -1:
    """Give each span its weight for the time of the step; numbers: those of the open spans, -1 for no such span."""
    cdef Py_ssize_t i
    cdef dict places = {number: i for i, number in enumerate(numbers)}
    cdef void **spans = <void **>calloc(len(weights) + 1, sizeof(void *))
    cdef void *at = self.ledger.first
    if spans == NULL:
        raise MemoryError
    try:
        while at != NULL:
            place = places.get((<Span>at).number)
            if place is not None:
                spans[<Py_ssize_t>place] = at
            at = (<Span>at).after
        for i in range(len(weights)):
            id, weight = weights[i]
            if spans[i] == NULL:
                charge_new(self, now, id, weight, parts)
            else:
                charge_open(self, now, <Span>spans[i], weight, parts)
    finally:
        free(spans)
    return 0


cdef int charge_new(Step self, int64_t now, object id, double weight, list parts) except -1:
    cdef Span span = self.ledger.make(id, weight)
    try:
        span.open_at(self.begun_at_ns)
    except RuntimeError:  # the run ended just now
        return 0
    if span.begun_at_ns != self.begun_at_ns:  # the same in a forked child
        return 0
    span.end_at(now, True, True)
    parts.append((span.number, True, weight, 0.0))
    return 0


cdef int charge_open(Step self, int64_t now, Span span, double weight, list parts) except -1:
    cdef double before = span.weight_now
    now = max(now, span.piece_at_ns)
    if span.piece_at_ns < self.begun_at_ns:
        span.cut(self.begun_at_ns)
    span.weight_now = weight
    span.cut(now)
    span.weight_now = before
    parts.append((span.number, False, weight, before))
    return 0
