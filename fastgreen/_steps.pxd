# Steps as Cython sees them.
from libc.stdint cimport int64_t

from fastgreen._ledger cimport Ledger


cdef class SteppedLedger(Ledger):
    pass


cdef class Step:
    cdef Ledger ledger
    cdef object amounts
    cdef int64_t begun_at_ns
    cdef long long number
    cdef bint inert

    cdef tuple charged(self)
