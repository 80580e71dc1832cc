# Samples, the account and the resolver as Cython sees them; mirrors csrc/fg_ring.h, fg_traits.h, fg_account.h,
# fg_resolver.h, fg_batches.h.
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "fg_account.h" nogil:
    cdef struct fg_sample:
        int64_t at_ns
        int64_t raw
        uint32_t half_ns
        uint16_t wraps
        uint16_t flags

    cdef enum fg_sample_flag:
        FG_SAMPLE_GAP
        FG_SAMPLE_RESET
        FG_SAMPLE_RETURN
    enum:
        FG_SAMPLE_BETWEEN

    cdef struct fg_jumps:
        uint64_t count
        int64_t first_ns
        int64_t last_ns
        bint in_turn

    cdef enum fg_kind:
        FG_ENERGY
        FG_POWER

    cdef struct fg_traits:
        fg_kind kind
        int64_t modulus
        int64_t quantum
        int64_t period_ns
        int64_t tick_ns
        int64_t plausible_per_s
        int64_t blind_ns

    cdef struct fg_account:
        fg_traits traits
        uint64_t samples
        uint64_t updates
        uint64_t gaps
        uint64_t resets
        int64_t first_at_ns
        int64_t last_at_ns
        int64_t first_raw
        int64_t last_raw
        int64_t total
        double power_integral
        int64_t read_longest_ns
        int64_t step_longest_ns
        int64_t read_sum_ns
        int64_t period_lower_ns
        int64_t period_upper_ns
        int64_t period_sum_ns
        uint64_t periods
        double peak_per_ns
        fg_jumps jumps

    void fg_account_init(fg_account *account, const fg_traits *traits)
    void fg_account_add(fg_account *account, fg_sample *sample)
    int64_t fg_account_period_ns(const fg_account *account)

cdef extern from "fg_resolver.h" nogil:
    cdef struct fg_answers:
        double *low
        double *estimate
        double *high
        double *unknown
        double *rounding

    cdef struct fg_resolver:
        pass

    void fg_resolver_init_instants(fg_resolver *resolver, const fg_traits *traits, double ceiling_per_ns,
                                   const int64_t *at_ns, size_t count, const fg_answers *out)
    void fg_resolver_init_windows(fg_resolver *resolver, const fg_traits *traits, double ceiling_per_ns,
                                  const int64_t *begin_at_ns, const int64_t *end_at_ns, size_t count,
                                  const fg_answers *out)
    void fg_resolver_init_edges(fg_resolver *resolver, const fg_traits *traits, double ceiling_per_ns,
                                const int64_t *begin_at_ns, size_t begin_count, const fg_answers *begins,
                                const int64_t *end_at_ns, size_t end_count, const fg_answers *ends)
    void fg_resolver_go_on(fg_resolver *resolver, const fg_resolver *other)
    bint fg_resolver_done(const fg_resolver *resolver)
    size_t fg_windows_sorted(const int64_t *begin_at_ns, const int64_t *end_at_ns, size_t count)
    void fg_resolver_feed(fg_resolver *resolver, const fg_sample *samples, size_t count)
    void fg_resolver_finish(fg_resolver *resolver)

cdef extern from "fg_resolver_sum.h" nogil:
    cdef struct fg_sum:
        double least
        double most

    cdef struct fg_sum_edges:
        const int64_t *at_ns
        const double *low
        const double *high

    void fg_sum_add(fg_sum *sum, double ceiling_per_ns, const fg_sum_edges *begins, const fg_sum_edges *ends,
                    size_t count)

cdef extern from "fg_batches.h" nogil:
    cdef struct fg_form:
        const uint8_t *bytes
        const uint8_t *free
        size_t size
        size_t body_at
        size_t buffers_at
        size_t rows_at
        size_t nodes_at

    cdef struct fg_rows:
        size_t channel
        size_t count

    cdef enum fg_batches_end:
        FG_BATCHES_FULL
        FG_BATCHES_END
        FG_BATCHES_CUT
        FG_BATCHES_OTHER

    cdef struct fg_batches:
        const uint8_t *data
        size_t size
        size_t at
        fg_form name
        fg_form batch
        const char *names
        const size_t *name_ends
        size_t name_count
        fg_rows left
        uint64_t passed

    fg_batches_end fg_batches_next(fg_batches *batches, fg_rows *out, size_t most, size_t most_rows, size_t *count)
    void fg_batches_copy(const fg_rows *rows, size_t count, size_t *starts, fg_sample *samples)

cdef void *column_data(object column, bint writable=*) except? NULL
cdef fg_sample *sample_data(samples, bint writable=*) except? NULL
cdef fg_traits traits_of(dict traits) except *
cdef dict account_dict(const fg_account *account)
