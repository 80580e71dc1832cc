# Ledgers as Cython sees them.
from libc.stdint cimport int64_t

from fastgreen._window cimport Gate


cdef struct Row:
    int64_t number
    int64_t begin_at_ns
    int64_t end_at_ns
    double weight


cdef struct Change:
    int64_t at_ns
    int64_t number
    double weight
    int64_t kind


cdef class Ledger:
    cdef readonly str name
    cdef readonly object channels, baseline_w, weights
    cdef long long n_dropped, n_opened, n_nested, n_stepped
    cdef Gate gate
    cdef bint at_close
    cdef Row *rows
    cdef size_t used, capacity
    cdef list ids, details
    cdef Change *changes  # of open spans, for who shares while the program runs
    cdef size_t changed, change_capacity
    cdef int64_t changed_at_ns  # the latest
    cdef list closed, steps
    cdef object deliver
    cdef int noting  # whether changes are noted
    cdef object waiter
    cdef dict late  # by number, the shares of the spans that were open at the end
    cdef void *first  # the open spans, linked
    cdef dict phase_numbers  # of names of phases, where changes of these are noted
    cdef object rule_now

    cdef Span make(self, object id, object weight)
    cdef int change(self, Span span, int64_t at_ns, int kind) except -1
    cdef int tell_phase(self, Span span, int64_t at_ns) except -1
    cdef int append(self, Span span, int64_t at_ns) except -1


cdef class Span:
    cdef readonly object id
    cdef str phase_now
    cdef Ledger ledger
    cdef double weight_now
    cdef int64_t number, begun_at_ns, piece_at_ns, ended_at_ns
    cdef int state
    cdef bint noted
    cdef str first_name  # the amount that was first added to, and its sum
    cdef double first_amount
    cdef dict amounts  # the others
    cdef list pieces
    cdef object token, shared
    cdef void *before
    cdef void *after

    cdef int open_now(self) except -1
    cdef int open_at(self, int64_t at_ns) except -1
    cdef int begin_in(self, object phase) except -1
    cdef tuple facts(self)
    cdef int close_now(self) except -1
    cdef int end_at(self, int64_t at_ns, bint dropped=*, bint in_step=*) except -1
    cdef int cut(self, int64_t at_ns) except -1
    cdef int unlink(self) except -1
    cdef int check_open(self, str what) except -1
    cdef int look_around(self) except -1


cdef double checked_weight(object weight) except -1.0
cdef object open_facts(Ledger self)
