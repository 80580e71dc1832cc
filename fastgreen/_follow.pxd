# Following the load as Cython sees it; mirrors csrc/fg_follow.h, fg_follow_fit.h, fg_follow_load.h.
from libc.stdint cimport int32_t, int64_t, uint64_t

from fastgreen._resolver cimport fg_sample, fg_traits

cdef extern from "fg_follow.h" nogil:
    enum:
        FG_FOLLOW_CELLS

    cdef struct fg_change:
        int64_t after_ns
        int64_t at_ns
        int64_t grown
        int64_t linked

    cdef struct fg_follow_reader:
        pass

    cdef struct fg_instants:
        const fg_change *changes
        const float *cells
        size_t count
        size_t step

    cdef struct fg_links:
        double shortest_ns
        double longest_ns
        double missed
        double floor

    cdef struct fg_links_tally:
        double log_likelihood
        uint64_t links
        uint64_t floored

    cdef struct fg_timeline:
        const int64_t *edges_ns
        const int32_t *states
        size_t edges
        size_t state_count

    cdef struct fg_outlay:
        const double *amount
        const double *weight
        const double *power
        const int32_t *block

    size_t fg_follow_changes(fg_follow_reader *reader, const fg_traits *traits, const fg_sample *samples, size_t count,
                             fg_change *out)
    size_t fg_follow_last_change(const fg_follow_reader *reader, const fg_traits *traits, fg_change *out)
    void fg_follow_chain(const fg_change *changes, size_t count, const fg_links *links, bint smooth, float *cells,
                         fg_links_tally *tally)
    void fg_follow_times(const fg_instants *instants, const fg_timeline *timeline, double *times)
    void fg_follow_curve(const fg_instants *instants, const fg_timeline *timeline, const fg_outlay *outlay,
                         const int64_t *at_ns, size_t asked, double *energy)

cdef extern from "fg_follow_fit.h" nogil:
    enum:
        FG_FOLLOW_STATES

    cdef struct fg_follow_rows:
        const fg_change *changes
        const double *times
        size_t first
        size_t until
        size_t states

    cdef struct fg_follow_errors:
        double own
        double least_ns2
        double shared

    cdef struct fg_follow_sums:
        double *matrix
        double *vector
        double *time_ns
        double grown
        uint64_t known

    cdef struct fg_follow_left:
        double square
        double neighbours
        double shared_ns2
        double width_ns2
        double length_ns2
        uint64_t known

    void fg_follow_sum(const fg_follow_rows *rows, const fg_follow_errors *errors, fg_follow_sums *sums)
    void fg_follow_leave(const fg_follow_rows *rows, const double *power, fg_follow_left *left)
    void fg_follow_powers(const double *matrices, const double *vectors, size_t count, size_t states, double *work,
                          double *powers)

cdef extern from "fg_follow_load.h" nogil:
    enum:
        FG_LOAD_MOST

    cdef struct fg_window_edges:
        const int64_t *at_ns
        const int32_t *names
        size_t count
        const uint64_t *marks

    cdef struct fg_load:
        int64_t *edges_ns
        int32_t *states
        size_t edges
        size_t state_count
        double *time_ns
        int64_t *stretches
        int64_t *first

    cdef struct fg_load_cells:
        const size_t *first
        const int64_t *ends_ns
        const int32_t *states

    void fg_load_states(const fg_window_edges *windows, int64_t apart_ns, fg_load *load)
    size_t fg_load_divide(const fg_timeline *timeline, const fg_load_cells *cells, int64_t *edges_ns, int32_t *states)
    void fg_load_between(const int64_t *edges_ns, const double *values, size_t edges, const int64_t *begin_ns,
                         const int64_t *end_ns, size_t asked, double *out)
