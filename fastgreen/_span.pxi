# SPDX-License-Identifier: Apache-2.0
# The spans of a ledger; a part of _ledger.pyx.

@cython.freelist(64)
@cython.no_gc_clear  # a span that is collected still closes in its ledger
cdef class Span:
    """A stretch of work that may overlap others; made by `Ledger.span` and `Ledger.open`. Any thread may close it.

    Attributes
    ----------
    id : str, int or bytes

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
        if load_int(self.state) == OPEN:  # dropped without a close: it must not dilute the others for ever
            locked(drop_span, self.ledger, self)

    def __repr__(self):
        if self.ledger is None:
            return "<fastgreen span of no ledger>"
        return f"<fastgreen span {self.id!r} of {self.ledger.name!r}, {('new', 'open', 'closed', 'inert')[load_int(self.state)]}>"

    @property
    def is_open(self):
        return load_int(self.state) == OPEN

    @property
    def phase_name(self):
        """The phase that runs, or None."""
        return asked(phase_of, self.ledger, self)

    cdef int open_now(self) except -1:
        return locked_at(open_span, self.ledger, self, -1)

    cdef int open_at(self, int64_t at_ns) except -1:
        """Open now (-1), or at an instant before, as the spans of a step do: live shares learn of these with the step."""
        cdef Ledger ledger = self.ledger
        if ledger is None:
            raise TypeError("a span is made by a ledger: ledger.span(id)")
        if load_int(ledger.gate.state) != GATE_OPEN:
            if load_int(ledger.gate.state) == GATE_INERT:
                store_int(self.state, INERT)
                return 0
            raise RuntimeError(f"span {self.id!r} opened while its monitor is not running")
        if self.state != NEW:
            raise RuntimeError(f"span {self.id!r} opened twice; ask the ledger for another")
        self.begun_at_ns = self.piece_at_ns = at_ns if at_ns >= 0 else fg_clock_now_ns()
        self.number = ledger.n_opened
        ledger.n_opened += 1
        self.after = ledger.first
        if ledger.first != NULL:
            (<Span>ledger.first).before = <void *>self
        ledger.first = <void *>self
        store_int(self.state, OPEN)
        if ledger.noting and at_ns < 0:
            ledger.change(self, self.begun_at_ns, 0)
            if ledger.phase_numbers is not None and self.phase_now is not None:
                ledger.tell_phase(self, self.begun_at_ns)
        return 0

    cdef int begin_in(self, object phase) except -1:
        if not isinstance(phase, str):
            raise TypeError(f"phase must be a text, not {phase!r}")
        self.phase_now = phase
        return 0

    cdef tuple facts(self):
        return self.number, self.id, self.begun_at_ns, self.ended_at_ns, self.weight_now, self.pieces

    def row(self):
        """Number, id, begin and end (ns), weight, and the pieces as of `Ledger.take`, of a span that is closed."""
        return asked(facts_of, self.ledger, self)

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
        """End it now, or at the end of a step. A span that cannot be kept is `dropped`."""
        store_int(self.state, CLOSED)
        self.ended_at_ns = at_ns
        self.unlink()
        if self.pieces is not None or self.first_name is not None or self.phase_now is not None:
            self.cut(at_ns)
        self.ledger.append(self, at_ns)
        if self.ledger.noting:
            if not in_step:
                self.ledger.change(self, at_ns, 2)
            self.ledger.closed.append(self.facts() if dropped else self)
        return 0

    cdef int close_now(self) except -1:
        return locked(close_span, self.ledger, self)

    cdef int cut(self, int64_t at_ns) except -1:
        """End the piece that runs."""
        cdef dict amounts = self.amounts
        if self.first_name is not None:
            amounts = {} if amounts is None else amounts
            amounts[self.first_name] = self.first_amount + <double>amounts.get(self.first_name, 0.0)
        if self.pieces is None:
            self.pieces = []
        self.pieces.append((self.piece_at_ns, self.phase_now, self.weight_now, amounts))
        self.piece_at_ns, self.amounts, self.first_name = at_ns, None, None
        return 0

    cdef int check_open(self, str what) except -1:
        if self.ledger is None:
            raise TypeError("a span is made by a ledger: ledger.span(id)")
        cdef int state = load_int(self.state)
        if state == OPEN or state == INERT or load_int(self.ledger.gate.state) == GATE_INERT:
            return 0
        raise RuntimeError(f"{what} of span {self.id!r}, which is {'closed' if state == CLOSED else 'not open'}")

    def close(self, **amounts):
        """End the span; amounts as of `add`, which are the last. RuntimeError where it is not open."""
        self.check_open("close")
        if amounts:
            self.add(**amounts)
        self.close_now()

    def phase(self, str name not None):
        """From here on the span is in another phase: ``"prefill"``, ``"decode"``."""
        self.check_open("phase")
        locked_phase(begin_phase, self.ledger, self, name)

    def add(self, **amounts):
        """Count what the span did: ``add(tokens=1)``. Amounts of one name add up. RuntimeError once it is closed."""
        cdef double value
        if load_int(self.state) != OPEN:
            self.check_open("add")
            return
        for name, amount in amounts.items():
            value = amount
            if not -INFINITY < value < INFINITY:
                raise ValueError(f"{name} must be a finite number, not {amount!r}")
            locked_add(add_amount, self.ledger, self, name, value)

    @property
    def weight(self):
        """The weight from here on, 0 or above (see `Ledger.weights`)."""
        return asked(weight_of, self.ledger, self)

    @weight.setter
    def weight(self, weight):
        cdef double value = checked_weight(weight)
        self.check_open("weight")
        locked_weight(weigh_span, self.ledger, self, value)

    @property
    def number_in_ledger(self):
        return self.number

    def settle(self, shared):
        """Its share is known; the monitor calls this."""
        locked_share(settle_span, self.ledger, self, shared)

    @property
    def settled(self):
        return asked(shared_of, self.ledger, self)

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
        if self.ledger is None:
            return None
        shared = self.settled
        if shared is not None or load_int(self.ledger.gate.state) == GATE_INERT:  # a forked child measures nothing
            return shared
        if load_int(self.state) == CLOSED and load_int(self.ledger.noting):
            taken(waiter_of, self.ledger, self.ledger)(self, timeout)
        return self.settled

    async def energy_async(self, timeout=1.0):
        """The same for ``await``: other tasks go on meanwhile."""
        import asyncio
        import time

        until = time.monotonic() + timeout
        while self.energy(0) is None and load_int(self.state) == CLOSED and self.ledger.live:
            if time.monotonic() >= until:
                break
            await asyncio.sleep(0.002)
        return self.settled

    def __enter__(self):
        self.open_now()
        if load_int(self.state) == OPEN:
            if locked(has_others, self.ledger, self):
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
            if load_int(outer.state) == OPEN and outer.ledger is self.ledger:
                locked(count_nest, self.ledger, self)
        return 0

    def __exit__(self, kind, value, traceback):
        token = asked(take_token, self.ledger, self)
        if token is not None:
            try:
                PyContextVar_Reset(_current, token)
            except (ValueError, RuntimeError):
                pass  # an async generator that another task closes leaves in another context
        self.close_now()

    def __aenter__(self):
        return _Done(self.__enter__())

    def __aexit__(self, kind, value, traceback):
        return _Done(self.__exit__(kind, value, traceback))


# What follows runs under the lock of the span's ledger, and calls no code that can wait.

cdef int open_span(Span self, int64_t at_ns) except -1:
    return self.open_at(at_ns)


cdef int close_span(Span self) except -1:
    if self.state == OPEN:
        if load_int(self.ledger.gate.state) == GATE_INERT:
            store_int(self.state, INERT)
            self.unlink()
            return 0
        return self.end_at(fg_clock_now_ns())
    return 0


cdef int drop_span(Span self) except -1:
    if self.state == OPEN:
        self.ledger.n_dropped += 1
        self.end_at(fg_clock_now_ns(), True)
    return 0


cdef int begin_phase(Span self, str name) except -1:
    cdef int64_t at_ns
    if self.state == OPEN:
        at_ns = fg_clock_now_ns()
        self.cut(at_ns)  # before the first phase lies a piece without a name
        self.phase_now = name
        if self.ledger.noting and self.ledger.at_close:  # the stretch has ended, and with it its weight is known
            self.ledger.change(self, at_ns, 1)
        if self.ledger.noting and self.ledger.phase_numbers is not None:
            self.ledger.tell_phase(self, at_ns)
    return 0


cdef int add_amount(Span self, str name, double value) except -1:
    if self.state != OPEN:
        return 0
    if name is self.first_name:
        self.first_amount += value
        return 0
    if self.first_name is None:
        self.first_name, self.first_amount = name, value
        return 0
    if self.amounts is None:
        self.amounts = {}
    found = self.amounts.get(name)
    self.amounts[name] = value if found is None else <double>found + value
    return 0


cdef int weigh_span(Span self, double value) except -1:
    cdef int64_t at_ns
    if self.state == OPEN and not self.ledger.at_close and value != self.weight_now:
        at_ns = fg_clock_now_ns()
        self.cut(at_ns)
        self.weight_now = value
        if self.ledger.noting:
            self.ledger.change(self, at_ns, 1)
    self.weight_now = value
    return 0


cdef int settle_span(Span self, object shared) except -1:
    self.shared = shared
    return 0


cdef object shared_of(Span self):
    if self.shared is None and self.ledger is not None and self.ledger.late is not None:
        return self.ledger.late.get(self.number)
    return self.shared


cdef object weight_of(Span self):
    return self.weight_now


cdef object phase_of(Span self):
    return self.phase_now


cdef object facts_of(Span self):
    return self.facts()


cdef object take_token(Span self):
    token, self.token = self.token, None
    return token


cdef int has_others(Span self) except -1:
    return self.after != NULL


cdef int count_nest(Span self) except -1:
    self.ledger.n_nested += 1
    return 0
