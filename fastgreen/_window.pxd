# Windows as other extension modules see them, and the clock as windows see it (csrc/fg_clock.h).
from libc.stdint cimport int64_t

cdef extern from "fg_clock.h" nogil:
    int64_t fg_clock_now_ns()


cdef class Gate:
    cdef int state
    cdef object sync, warning


cdef class Window:
    cdef readonly str name
    cdef Gate gate
    cdef int64_t *begins
    cdef int64_t *ends
    cdef size_t used, capacity
    cdef int64_t begun_at_ns
    cdef object bound_enter, bound_exit

    cdef int _begin(self) except -1
    cdef int _begin_closed(self) except -1
    cdef int _end(self) except -1
    cdef int _grow(self) except -1
