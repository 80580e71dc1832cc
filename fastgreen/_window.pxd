# Windows as other extension modules see them, and the clock as windows see it (csrc/fg_clock.h).
from libc.stdint cimport int64_t

cdef extern from "fg_clock.h" nogil:
    int64_t fg_clock_now_ns()


cdef class Gate:
    cdef int state
    cdef object sync, warning
    cdef object live_now  # gives the energy of a stretch while the monitor runs


cdef class Window:
    cdef readonly str name
    cdef Gate gate
    cdef int64_t *begins
    cdef int64_t *ends
    cdef size_t used, capacity
    cdef int64_t begun_at_ns, last_begin_ns, last_end_ns  # of the last stretch that was taken out
    cdef size_t taken
    cdef object bound_enter, bound_exit
    cdef list shelf  # where it goes when a stretch ends, if others of its name were open
    cdef bint shelved, handed
    cdef str first_name  # the amount of this stretch that was first added to, and its sum
    cdef double first_amount
    cdef dict others, kept

    cdef int _begin(self) except -1
    cdef int _end(self) except -1
