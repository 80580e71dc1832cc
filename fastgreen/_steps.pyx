# SPDX-License-Identifier: Apache-2.0
"""Ledgers of engines that work in steps, and of programs that are called with each final span."""

from collections.abc import Mapping

from libc.stdint cimport int64_t

from fastgreen._ledger cimport Ledger, Span, checked_weight
from fastgreen._window cimport fg_clock_now_ns


cdef enum:
    GATE_OPEN = 1
    GATE_INERT = 2


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
    """

    def step(self, amounts):
        """A step of an engine that works on many requests at once: ``with ledger.step({id: tokens, ...}):``.

        While the step runs, each id has the weight that it did work. An id of an open span is that span; other ids
        become spans of this step alone. Open the spans of requests with ``weight=0``, then they are charged in steps
        only. The mapping is read when the step ends, so it may be filled meanwhile.

        Parameters
        ----------
        amounts : mapping of str, int or bytes to float
            What each request did in the step, 0 or above.

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
        if ledger.gate.state != GATE_OPEN:
            if ledger.gate.state == GATE_INERT:
                self.inert = True
                return self
            raise RuntimeError("a step began while its monitor was not running")
        if self.begun_at_ns >= 0:
            raise RuntimeError("a step was begun twice; ask the ledger for another")
        self.number = ledger.stepped
        ledger.stepped += 1
        self.begun_at_ns = fg_clock_now_ns()
        if ledger.live:
            self.tell(self.begun_at_ns, 3)
        return self

    def tell(self, int64_t at_ns, int kind):
        cdef Span mark = Span.__new__(Span)
        mark.number = self.number
        self.ledger.change(mark, at_ns, kind)

    cdef list charged(self, int64_t now):
        """Give each span its weight for the time of the step."""
        cdef Span span
        cdef double before
        weights = [(id, checked_weight(amount)) for id, amount in dict(self.amounts).items()]
        for id, _ in weights:
            self.ledger.make(id, 0.0)
        open_spans = {(<Span>found).id: found for found in reversed(self.ledger.open_spans())}
        parts = []
        for id, weight in weights:
            span = open_spans.get(id)
            if span is None:
                span = self.ledger.make(id, weight)
                span.open_at(self.begun_at_ns)
                span.end_at(now, True, True)
                parts.append((span.number, True, weight, 0.0))
                continue
            before = span.weight_now
            if span.piece_at_ns < self.begun_at_ns:
                span.cut(self.begun_at_ns)
            span.weight_now = weight
            span.cut(now)
            span.weight_now = before
            parts.append((span.number, False, weight, before))
        return parts

    def __exit__(self, kind, value, traceback):
        cdef int64_t now = fg_clock_now_ns()
        if self.inert or self.ledger.gate.state != GATE_OPEN:  # the run ended within the step
            return
        parts = []
        try:
            parts = self.charged(now)
        finally:
            if self.ledger.live:
                self.ledger.steps.append((self.number, parts))
                self.tell(now, 4)
