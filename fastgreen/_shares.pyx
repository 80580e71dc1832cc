# SPDX-License-Identifier: Apache-2.0
"""The door to C of sharing: spans and samples in, shares with bounds out. It converts and checks, nothing more."""

from libc.stdint cimport INT64_MAX, uint8_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from fastgreen._resolver cimport column_data, sample_data, traits_of

WEIGHT = FG_SHARE_WEIGHT

cdef enum:
    OPENS = 0
    WEIGHS = 1
    BLOCK = 4096  # samples between two looks at the spans: what is kept of both fits the caches


cdef struct Event:
    int64_t at_ns
    uint64_t weight
    uint32_t span
    uint32_t kind


cdef int check(fg_status status, fg_error *error) except -1:
    if status == FG_OK:
        return 0
    if status == FG_NO_MEMORY:
        raise MemoryError(error.message.decode())
    raise ValueError(error.message.decode())


cdef class Engine:
    """struct fg_share: spans open, change weight and close, samples are fed, final spans are taken out.

    Parameters
    ----------
    channels : list of (dict, float)
        The traits of each channel, with the update period to use, and its ceiling (see struct fg_resolver).
    """

    cdef fg_share *share
    cdef readonly Py_ssize_t channels

    def __init__(self, list channels):
        cdef fg_share_channel *rows = <fg_share_channel *>calloc(max(len(channels), 1), sizeof(fg_share_channel))
        cdef fg_error error
        if rows == NULL:
            raise MemoryError
        try:
            for i, (traits, ceiling_per_ns) in enumerate(channels):
                rows[i].traits = traits_of(traits)
                rows[i].ceiling_per_ns = ceiling_per_ns
            check(fg_share_new(rows, len(channels), &self.share, &error), &error)
        finally:
            free(rows)
        self.channels = len(channels)

    def __dealloc__(self):
        fg_share_free(self.share)

    def __len__(self):
        """Spans that are open, not yet final or not yet taken out."""
        return fg_share_spans(self.share)

    @property
    def edges(self):
        """Instants that are kept."""
        return fg_share_edges(self.share)

    def open(self, int64_t at_ns, uint64_t identity, uint64_t weight=FG_SHARE_WEIGHT, bint charged=True):
        """Open a span; its number, which `weigh` and `close` take."""
        cdef fg_error error
        cdef uint32_t span
        check(fg_share_open(self.share, at_ns, identity, weight, charged, &span, &error), &error)
        return span

    def weigh(self, uint32_t span, int64_t at_ns, uint64_t weight):
        cdef fg_error error
        check(fg_share_weigh(self.share, span, at_ns, weight, &error), &error)

    def close(self, uint32_t span, int64_t at_ns):
        cdef fg_error error
        check(fg_share_close(self.share, span, at_ns, &error), &error)

    def feed(self, size_t channel, samples):
        cdef fg_error error
        cdef const fg_sample *data = sample_data(samples)
        cdef size_t count = len(samples)
        cdef fg_status status
        with nogil:
            status = fg_share_feed(self.share, channel, data, count, &error)
        check(status, &error)

    def set_period(self, size_t channel, int64_t period_ns):
        """T from the next sample on."""
        if channel >= <size_t>self.channels:
            raise IndexError("there is no such channel")
        fg_share_set_period(self.share, channel, period_ns)

    def stand_still(self, size_t channel, int64_t until_at_ns):
        """The counter has not changed for long: up to this instant its energy counts as unknown."""
        cdef fg_error error
        if channel >= <size_t>self.channels:
            raise IndexError("there is no such channel")
        check(fg_share_stand_still(self.share, channel, until_at_ns, &error), &error)

    def finish(self):
        cdef fg_error error
        check(fg_share_finish(self.share, &error), &error)

    def take(self, size_t most):
        """(ids, time_ns, shares) of at most so many final spans; shares: low, estimate and high by channel."""
        import numpy as np

        spans = np.empty(most, np.dtype([("id", "u8"), ("time_ns", "f8")]))
        shares = np.empty((most, self.channels, 3))
        taken = fg_share_take(self.share, <fg_shared_span *>column_data(spans, True),
                              <fg_shared *>column_data(shares, True), most)
        return spans["id"][:taken], spans["time_ns"][:taken], shares[:taken]

    def attributed(self):
        """Energy of each channel while a span was open, in its own unit."""
        return [fg_share_attributed(self.share, i) for i in range(self.channels)]

    def unattributed(self):
        """Energy of each channel while none was, from the first instant to the last."""
        return [fg_share_unattributed(self.share, i) for i in range(self.channels)]


cdef class _Feed:
    """The chunks of one channel, and how far they were fed."""

    cdef object chunks, chunk
    cdef const fg_sample *data
    cdef size_t place, count

    def __init__(self, chunks):
        self.chunks = iter(chunks)
        self.next_chunk()

    cdef bint next_chunk(self) except -1:
        self.place = self.count = 0
        self.chunk = None
        for chunk in self.chunks:
            if len(chunk):
                self.chunk, self.data, self.count = chunk, sample_data(chunk), len(chunk)
                break
        return self.count > 0


cdef int64_t sure_ns(const fg_sample *samples, size_t count) noexcept nogil:
    """The latest instant that a block of samples can tell of."""
    cdef int64_t latest = samples[0].at_ns + samples[0].half_ns
    cdef size_t i
    for i in range(1, count):
        latest = max(latest, samples[i].at_ns + <int64_t>samples[i].half_ns)
    return latest


cdef size_t until(const fg_sample *samples, size_t count, int64_t at_ns) noexcept nogil:
    cdef size_t i = 1
    while i < count and samples[i].at_ns <= at_ns:
        i += 1
    return i


cdef class _Events:
    """Spans that are known beforehand; `run` opens, weighs and closes them up to an instant."""

    cdef readonly size_t count
    cdef const Event *events
    cdef const uint8_t *charged
    cdef uint32_t *numbers
    cdef size_t next, events_count
    cdef object kept

    def __init__(self, events, charged):
        self.kept, self.count, self.events_count = (events, charged), len(charged), len(events)
        self.events, self.charged = <const Event *>column_data(events), <const uint8_t *>column_data(charged)
        self.numbers = <uint32_t *>calloc(self.count + 1, sizeof(uint32_t))
        if self.numbers == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.numbers)

    cdef fg_status run(self, fg_share *share, int64_t until_ns, fg_error *error) noexcept nogil:
        cdef fg_status status = FG_OK
        cdef const Event *e
        while self.next < self.events_count and self.events[self.next].at_ns <= until_ns and status == FG_OK:
            e = &self.events[self.next]
            if e.kind == OPENS:
                status = fg_share_open(share, e.at_ns, e.span, e.weight, self.charged[e.span], &self.numbers[e.span],
                                       error)
            elif e.kind == WEIGHS:
                status = fg_share_weigh(share, self.numbers[e.span], e.at_ns, e.weight, error)
            else:
                status = fg_share_close(share, self.numbers[e.span], e.at_ns, error)
            self.next += 1
        return status


cdef void take_all(fg_share *share, size_t channels, double *time_ns, fg_shared *shares) noexcept nogil:
    """All final spans, each into its row."""
    cdef fg_shared_span span
    cdef fg_shared *row = <fg_shared *>calloc(channels, sizeof(fg_shared))
    while row != NULL and fg_share_take(share, &span, row, 1):  # without memory they wait for the next call
        time_ns[span.id] = span.time_ns
        memcpy(&shares[span.id * channels], row, channels * sizeof(fg_shared))
    free(row)


cdef play(list channels, chunks, _Events spans):
    import numpy as np

    cdef Engine engine = Engine(channels)
    cdef fg_error error
    cdef fg_status status
    cdef size_t count, i
    cdef int64_t before_ns
    cdef _Feed feed, other
    time_ns = np.zeros(spans.count)
    shares = np.zeros((spans.count, len(channels), 3))
    cdef double *times = <double *>column_data(time_ns, True)
    cdef fg_shared *out = <fg_shared *>column_data(shares, True)
    feeds = [_Feed(channel) for channel in chunks]
    while True:
        feed, at, before_ns = None, 0, INT64_MAX
        for i in range(<size_t>len(feeds)):  # the channel that is furthest behind
            other = feeds[i]
            if other.count and (feed is None or other.data[other.place].at_ns < feed.data[feed.place].at_ns):
                feed, at = other, i
        if feed is None:
            break
        for other in feeds:
            if other is not feed and other.count:
                before_ns = min(before_ns, other.data[other.place].at_ns)
        i = at
        with nogil:
            count = until(feed.data + feed.place, min(feed.count - feed.place, <size_t>BLOCK), before_ns)
            status = spans.run(engine.share, sure_ns(feed.data + feed.place, count), &error)
            if status == FG_OK:
                status = fg_share_feed(engine.share, i, feed.data + feed.place, count, &error)
            take_all(engine.share, engine.channels, times, out)
        check(status, &error)
        feed.place += count
        if feed.place == feed.count:
            feed.next_chunk()
    with nogil:
        status = spans.run(engine.share, INT64_MAX, &error)
        if status == FG_OK:
            status = fg_share_finish(engine.share, &error)
        take_all(engine.share, engine.channels, times, out)
    check(status, &error)
    return time_ns, shares, engine.attributed(), engine.unattributed()


cdef class _Columns:
    """Spans of one piece each, and the order of their edges."""

    cdef fg_share_columns columns
    cdef readonly size_t count
    cdef object kept

    def __init__(self, begin_at_ns, end_at_ns, weights):
        cdef fg_error error
        cdef const uint64_t *weight = <const uint64_t *>column_data(weights) if weights is not None else NULL
        self.kept, self.count = (begin_at_ns, end_at_ns, weights), len(begin_at_ns)
        check(fg_share_columns_init(&self.columns, <const int64_t *>column_data(begin_at_ns),
                                    <const int64_t *>column_data(end_at_ns), weight, self.count, &error), &error)

    def __dealloc__(self):
        fg_share_columns_destroy(&self.columns)

    cdef share(self, size_t at, traits, double ceiling_per_ns, chunks, time_ns, shares):
        """Fill a channel's column of `shares`. Its energy while a span was open, and while none was."""
        cdef fg_error error
        cdef fg_share_channel channel
        cdef fg_share_batch *batch = NULL
        cdef fg_status status
        cdef double drawn[2]
        cdef const fg_sample *data
        cdef size_t count
        cdef double *times = <double *>column_data(time_ns, True) if at == 0 else NULL
        channel.traits, channel.ceiling_per_ns = traits_of(traits), ceiling_per_ns
        check(fg_share_batch_new(&self.columns, &channel, times, <fg_shared *>column_data(shares, True) + at,
                                 shares.shape[1], &batch, &error), &error)
        try:
            for chunk in chunks:
                data, count = sample_data(chunk), len(chunk)
                with nogil:
                    status = fg_share_batch_feed(batch, data, count, &error)
                check(status, &error)
            with nogil:
                status = fg_share_batch_finish(batch, drawn, &error)
            check(status, &error)
        finally:
            fg_share_batch_free(batch)
        return drawn[0], drawn[1]


def share_columns(list channels, chunks, begin_at_ns, end_at_ns, weights=None):
    """Shares of spans of one piece each.

    Parameters
    ----------
    channels : list of (dict, float)
        As of `Engine`.
    chunks : list of iterables of arrays of dtype SAMPLE
        The samples of each channel.
    begin_at_ns, end_at_ns : arrays of int64
    weights : array of uint64, optional
        In units of 2^-20.

    Returns
    -------
    time_ns : array
        The part of the time that was each span's.
    shares : array, spans x channels x (low, estimate, high)
    attributed, unattributed : list of float
    """
    import numpy as np

    if not channels:
        raise ValueError("shares need a channel")
    cdef _Columns columns = _Columns(begin_at_ns, end_at_ns, weights)
    time_ns = np.zeros(columns.count)
    shares = np.zeros((columns.count, len(channels), 3))
    drawn = [columns.share(i, traits, ceiling, samples, time_ns, shares)
             for i, ((traits, ceiling), samples) in enumerate(zip(channels, chunks, strict=True))]
    return time_ns, shares, [d[0] for d in drawn], [d[1] for d in drawn]


def event_dtype():
    """Of the events of `share_events`: kind 0 opens a span, 1 changes its weight, 2 closes it."""
    import numpy as np

    return np.dtype([("at_ns", "i8"), ("weight", "u8"), ("span", "u4"), ("kind", "u4")])


def share_events(list channels, chunks, events, charged):
    """The same for spans that change their weight: `events` of `event_dtype`, sorted; which spans are `charged`."""
    import numpy as np

    if events.dtype != event_dtype() or not np.all(events["span"] < len(charged)):
        raise ValueError("events must be of the dtype of events, and of spans that there are")
    return play(channels, chunks, _Events(np.ascontiguousarray(events), np.ascontiguousarray(charged, np.uint8)))
