# SPDX-License-Identifier: Apache-2.0
"""Bindings to the C arithmetic: samples, accounts, the resolver. Private; it only converts and checks.

This module needs no sensor, so results and recordings import it and never `_core`.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.string cimport memset

GAP = FG_SAMPLE_GAP
RESET = FG_SAMPLE_RESET
RETURN = FG_SAMPLE_RETURN
BETWEEN = FG_SAMPLE_BETWEEN

def __getattr__(str name):
    if name != "SAMPLE":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # NumPy loads with the first array: measuring does not need it, and it takes longer to load than everything else.
    import numpy as np

    dtype = np.dtype([("at_ns", "i8"), ("raw", "i8"), ("half_ns", "u4"), ("wraps", "u2"), ("flags", "u2")])
    assert dtype.itemsize == sizeof(fg_sample)
    return globals().setdefault(name, dtype)


cdef object _dtype():
    dtype = globals().get("SAMPLE")
    return __getattr__("SAMPLE") if dtype is None else dtype


def samples(waiting):
    """Array of dtype SAMPLE over the bytes of `Sampler.drain`."""
    import numpy as np

    return np.frombuffer(waiting, _dtype())


cdef void *column_data(object column, bint writable=False) except? NULL:
    """Address of a contiguous column; valid as long as the caller keeps the column."""
    cdef Py_buffer view
    PyObject_GetBuffer(column, &view, PyBUF_WRITABLE if writable else PyBUF_SIMPLE)
    cdef void *data = view.buf
    PyBuffer_Release(&view)
    return data


cdef fg_traits traits_of(dict traits) except *:
    cdef fg_traits out
    out.kind = FG_ENERGY if traits["kind"] == "energy" else FG_POWER
    out.modulus = traits["modulus"]
    out.quantum = traits["quantum"]
    out.period_ns = traits["period_ns"]
    out.tick_ns = traits.get("tick_ns", 0)
    out.plausible_per_s = traits["plausible_per_s"]
    out.blind_ns = traits.get("blind_ns", 0)
    return out


cdef dict account_dict(const fg_account *account):
    return {
        "samples": account.samples,
        "updates": account.updates,
        "gaps": account.gaps,
        "resets": account.resets,
        "first_at_ns": account.first_at_ns,
        "last_at_ns": account.last_at_ns,
        "total": account.total if account.traits.kind == FG_ENERGY else account.power_integral,
        "read_longest_ns": account.read_longest_ns,
        "step_longest_ns": account.step_longest_ns,
        "read_mean_ns": account.read_sum_ns / account.samples if account.samples else 0.0,
        "period_ns": fg_account_period_ns(account),
        "period_mean_ns": account.period_sum_ns / account.periods if account.periods else None,
        "period_lower_ns": account.period_lower_ns,
        "period_upper_ns": account.period_upper_ns,
        "periods": account.periods,
        "peak_per_ns": account.peak_per_ns,
        "tick_ns": account.traits.tick_ns,
        "jumps": account.jumps.count,
        "in_turn_ns": [account.jumps.first_ns, account.jumps.last_ns] if account.jumps.in_turn else [],
    }


cdef fg_sample *sample_data(samples, bint writable=False) except? NULL:
    if getattr(samples, "dtype", None) != _dtype() or not samples.flags.c_contiguous:
        raise TypeError("samples must be a contiguous array of dtype SAMPLE")
    return <fg_sample *>column_data(samples, writable)


def check_samples(samples):
    """TypeError unless `samples` is a contiguous array of dtype SAMPLE."""
    sample_data(samples)


cdef class Account:
    """Account of a recorded channel, fed chunk by chunk. For a live channel the sampling thread keeps one."""

    cdef fg_account account

    def __init__(self, dict traits):
        cdef fg_traits c_traits = traits_of(traits)
        fg_account_init(&self.account, &c_traits)

    def feed(self, samples):
        """Add samples, and set their wraps and reset flags in place."""
        cdef fg_sample *data = sample_data(samples, True)
        cdef Py_ssize_t i, count = len(samples)
        with nogil:
            for i in range(count):
                fg_account_add(&self.account, &data[i])

    def tally(self):
        """Counts, totals and periods of the samples fed so far."""
        return account_dict(&self.account)


cdef class Answers:
    """Outputs of a resolver: float64 columns of one length."""

    cdef readonly object low, estimate, high, unknown, rounding
    cdef fg_answers c

    def __cinit__(self, Py_ssize_t count, bint restarts, bint edges=False):
        import numpy as np
        self.low = np.empty(count)
        self.estimate = np.empty(count)
        self.high = np.empty(count)
        self.unknown = np.zeros(count if restarts else 0)
        self.c.low = <double *>column_data(self.low)
        self.c.estimate = <double *>column_data(self.estimate)
        self.c.high = <double *>column_data(self.high)
        self.c.unknown = <double *>column_data(self.unknown) if restarts else NULL
        self.rounding = np.zeros(count if restarts and edges else 0)
        self.c.rounding = <double *>column_data(self.rounding) if restarts and edges else NULL


def resolve_instants(dict traits, double ceiling_per_ns, chunks, at_ns, bint restarts=False):
    """Energy from the first sample to each instant, in the unit of the channel: (low, estimate, high, unknown).

    `chunks` is an iterable of sample arrays in time order, `at_ns` is sorted. See struct fg_resolver. `unknown` is
    empty unless `restarts`.
    """
    import numpy as np

    cdef fg_traits c_traits = traits_of(traits)
    query = np.ascontiguousarray(at_ns, dtype=np.int64)
    cdef size_t count = len(query)
    cdef Answers out = Answers(count, restarts)
    cdef fg_resolver resolver
    fg_resolver_init_instants(&resolver, &c_traits, ceiling_per_ns, <const int64_t *>column_data(query), count, &out.c)
    for chunk in chunks:
        fg_resolver_feed(&resolver, sample_data(chunk), len(chunk))
    fg_resolver_finish(&resolver)
    return out.low, out.estimate, out.high, out.unknown


cdef class Part:
    """Resolver of the windows [first, until) of two columns; it checks their order first."""

    cdef fg_resolver resolver
    cdef object begin, end  # kept, as `out` is: the thread may outlive an interrupted call
    cdef Answers out
    cdef const int64_t *begin_at_ns
    cdef const int64_t *end_at_ns
    cdef size_t first, count
    cdef bint looked
    cdef readonly Py_ssize_t wrong  # the first window out of order, or -1

    def __cinit__(self, dict traits, double ceiling_per_ns, begin, end, Answers out, size_t first, size_t until):
        cdef fg_traits c_traits = traits_of(traits)
        cdef fg_answers answers = out.c
        answers.low += first
        answers.estimate += first
        answers.high += first
        if answers.unknown != NULL:
            answers.unknown += first
        self.begin, self.end, self.out = begin, end, out
        self.begin_at_ns = <const int64_t *>column_data(begin) + first
        self.end_at_ns = <const int64_t *>column_data(end) + first
        self.first, self.count, self.wrong = first, until - first, -1
        fg_resolver_init_windows(&self.resolver, &c_traits, ceiling_per_ns, self.begin_at_ns, self.end_at_ns,
                                 self.count, &answers)

    cdef bint _sound(self) noexcept nogil:
        """Whether the windows are in order, and after the window before `first`."""
        cdef size_t before = self.first > 0, sorted_
        if not self.looked:
            self.looked = True
            sorted_ = fg_windows_sorted(self.begin_at_ns - before, self.end_at_ns - before, self.count + before)
            if sorted_ < self.count + before:
                self.wrong = self.first - before + sorted_
        return self.wrong < 0

    def feed(self, chunk):
        cdef const fg_sample *data = sample_data(chunk)
        cdef size_t samples = len(chunk)
        with nogil:
            if self._sound():
                fg_resolver_feed(&self.resolver, data, samples)

    def finish(self):
        with nogil:
            if self._sound():
                fg_resolver_finish(&self.resolver)


cdef class Edges:
    """A resolver of two sorted columns of edges, each answered as an instant: see fg_resolver_init_edges.

    With `base` it goes on from the samples that the base has taken. Without columns it is such a base.
    """

    cdef fg_resolver resolver
    cdef object begin, end
    cdef readonly Answers begins, ends

    def __cinit__(self, dict traits, double ceiling_per_ns, begin=None, end=None, bint restarts=False,
                  Edges base=None):
        import numpy as np

        cdef fg_traits c_traits = traits_of(traits)
        never = np.full(1, np.iinfo(np.int64).max)  # an edge that no sample reaches
        self.begin = never if begin is None else np.ascontiguousarray(begin, dtype=np.int64)
        self.end = never if end is None else np.ascontiguousarray(end, dtype=np.int64)
        self.begins = Answers(len(self.begin), restarts, True)
        self.ends = Answers(len(self.end), restarts, True)
        fg_resolver_init_edges(&self.resolver, &c_traits, ceiling_per_ns,
                               <const int64_t *>column_data(self.begin), len(self.begin), &self.begins.c,
                               <const int64_t *>column_data(self.end), len(self.end), &self.ends.c)
        if base is not None:
            fg_resolver_go_on(&self.resolver, &base.resolver)

    @property
    def done(self):
        """Whether samples that follow change no answer."""
        return fg_resolver_done(&self.resolver)

    def feed(self, chunk):
        cdef const fg_sample *data = sample_data(chunk)
        cdef size_t samples = len(chunk)
        with nogil:
            fg_resolver_feed(&self.resolver, data, samples)

    def finish(self):
        with nogil:
            fg_resolver_finish(&self.resolver)


cdef fg_sum_edges edges_of(tuple edges) except *:
    at_ns, low, high = edges
    if not len(at_ns) == len(low) == len(high):
        raise ValueError("at_ns, low and high must have one length")
    return fg_sum_edges(<const int64_t *>column_data(at_ns), <const double *>column_data(low),
                        <const double *>column_data(high))


cdef class Sum:
    """The bounds of many windows together, in time order and without overlap: see fg_resolver_sum.h."""

    cdef fg_sum c
    cdef public double ceiling_per_ns  # for the gaps before the windows that are added from here on

    def __cinit__(self, double ceiling_per_ns):
        self.ceiling_per_ns = ceiling_per_ns

    def add(self, tuple begins, tuple ends):
        """Add windows: (at_ns, low, high) of their begins and of their ends, contiguous int64 and float64."""
        cdef fg_sum_edges first = edges_of(begins), last = edges_of(ends)
        cdef size_t count = len(begins[0])
        if len(ends[0]) != count:
            raise ValueError("begins and ends must have one length")
        with nogil:
            fg_sum_add(&self.c, self.ceiling_per_ns, &first, &last, count)

    @property
    def bounds(self):
        """(least, most) of the windows so far."""
        return self.c.least, self.c.most


def refuse(begin, end, Py_ssize_t at):
    if end[at] < begin[at]:
        raise ValueError(f"end_at_ns[{at}] must be at least begin_at_ns[{at}] = {begin[at]}, not {end[at]}")
    name, column = ("begin_at_ns", begin) if begin[at] < begin[at - 1] else ("end_at_ns", end)
    raise ValueError(f"{name} must be sorted: {name}[{at}] = {column[at]} comes after {column[at - 1]}")


FULL = FG_BATCHES_FULL
END = FG_BATCHES_END
CUT = FG_BATCHES_CUT
OTHER = FG_BATCHES_OTHER


cdef fg_form form_of(dict form) except *:
    cdef fg_form out
    if len(form["bytes"]) != len(form["free"]):
        raise ValueError("form['bytes'] and form['free'] must have one length")
    out.bytes = <const uint8_t *>column_data(form["bytes"])
    out.free = <const uint8_t *>column_data(form["free"])
    out.size = len(form["bytes"])
    out.body_at, out.buffers_at = form["body_at"], form["buffers_at"]
    out.rows_at, out.nodes_at = form.get("rows_at", 0), form.get("nodes_at", 0)
    return out


cdef class Batches:
    """The samples of some channels of a recording, block by block: see fg_batches.h.

    `data` are the bytes of the file from `at` on, `name` and `batch` the members of struct fg_form, `names` the
    channels as bytes.
    """

    cdef fg_batches c
    cdef object kept, ends, rows

    def __init__(self, data, size_t at, dict name, dict batch, list names):
        import numpy as np

        joined = b"".join(names)
        self.ends = np.cumsum([len(n) for n in names]).astype(np.uintp)
        self.kept = data, name, batch, joined
        self.c.data = <const uint8_t *>column_data(data)
        self.c.size, self.c.at = len(data), at
        self.c.name, self.c.batch = form_of(name), form_of(batch)
        self.c.names = joined
        self.c.name_ends = <const size_t *>column_data(self.ends)
        self.c.name_count = len(names)

    @property
    def passed(self):
        """Batches that were taken."""
        return self.c.passed

    @property
    def at(self):
        """No byte before this place is read any more."""
        return self.c.at if self.c.left.count == 0 else 0

    def next(self, size_t most_rows, size_t most_batches):
        """(end, samples, ends): channel c has samples[ends[c - 1] : ends[c]]; `end` is FULL, END, CUT or OTHER."""
        import numpy as np

        cdef size_t count = 0, i
        if self.rows is None or <size_t>len(self.rows) < most_batches * sizeof(fg_rows):
            self.rows = np.empty(most_batches * sizeof(fg_rows), np.uint8)
        cdef fg_rows *rows = <fg_rows *>column_data(self.rows, True)
        cdef fg_batches_end end
        with nogil:
            end = fg_batches_next(&self.c, rows, most_batches, most_rows, &count)
        counts = np.zeros(self.c.name_count, np.uintp)
        cdef size_t *sizes = <size_t *>column_data(counts, True)
        for i in range(count):
            sizes[rows[i].channel] += rows[i].count
        ends = np.cumsum(counts, dtype=np.uintp)
        starts = ends - counts
        samples = np.empty(int(ends[-1]) if len(ends) else 0, _dtype())
        cdef size_t *places = <size_t *>column_data(starts, True)
        cdef fg_sample *out = sample_data(samples, True)
        with nogil:
            fg_batches_copy(rows, count, places, out)
        return end, samples, ends.tolist()
