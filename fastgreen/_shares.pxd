# Shares as Cython sees them; mirrors csrc/fg_share.h, fg_share_columns.h and fg_share_batch.h.
from libc.stdint cimport int64_t, uint32_t, uint64_t

from fastgreen._resolver cimport fg_sample, fg_traits

cdef extern from "fg_error.h" nogil:
    cdef enum fg_status:
        FG_OK
        FG_NO_MEMORY
        FG_INVALID

    cdef struct fg_error:
        fg_status status
        char message[240]

cdef extern from "fg_share_batch.h" nogil:
    uint64_t FG_SHARE_WEIGHT

    cdef struct fg_share:
        pass

    cdef struct fg_share_channel:
        fg_traits traits
        double ceiling_per_ns

    cdef struct fg_shared:
        double low
        double estimate
        double high

    cdef struct fg_shared_span:
        uint64_t id
        double time_ns

    cdef struct fg_share_columns:
        size_t count

    cdef struct fg_share_batch:
        pass

    fg_status fg_share_new(const fg_share_channel *channels, size_t count, fg_share **out, fg_error *err)
    void fg_share_free(fg_share *share)
    fg_status fg_share_open(fg_share *share, int64_t at_ns, uint64_t id, uint64_t weight, bint charged, uint32_t *span,
                            fg_error *err)
    fg_status fg_share_weigh(fg_share *share, uint32_t span, int64_t at_ns, uint64_t weight, fg_error *err)
    fg_status fg_share_close(fg_share *share, uint32_t span, int64_t at_ns, fg_error *err)
    fg_status fg_share_feed(fg_share *share, size_t channel, const fg_sample *samples, size_t count, fg_error *err)
    void fg_share_set_period(fg_share *share, size_t channel, int64_t period_ns)
    fg_status fg_share_stand_still(fg_share *share, size_t channel, int64_t until_at_ns, fg_error *error)
    fg_status fg_share_finish(fg_share *share, fg_error *err)
    size_t fg_share_take(fg_share *share, fg_shared_span *spans, fg_shared *shares, size_t max)
    double fg_share_attributed(const fg_share *share, size_t channel)
    double fg_share_unattributed(const fg_share *share, size_t channel)
    size_t fg_share_spans(const fg_share *share)
    size_t fg_share_edges(const fg_share *share)

    fg_status fg_share_columns_init(fg_share_columns *columns, const int64_t *begin_at_ns, const int64_t *end_at_ns,
                                    const uint64_t *weight, size_t count, fg_error *err)
    void fg_share_columns_destroy(fg_share_columns *columns)

    fg_status fg_share_batch_new(const fg_share_columns *spans, const fg_share_channel *channel, double *time_ns,
                                 fg_shared *shares, size_t stride, fg_share_batch **out, fg_error *err)
    void fg_share_batch_free(fg_share_batch *batch)
    fg_status fg_share_batch_feed(fg_share_batch *batch, const fg_sample *samples, size_t count, fg_error *err)
    fg_status fg_share_batch_finish(fg_share_batch *batch, double *drawn, fg_error *err)
