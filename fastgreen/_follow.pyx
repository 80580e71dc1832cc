# SPDX-License-Identifier: Apache-2.0
"""The door to C of estimates that follow the load. It converts and checks, nothing more."""

from libc.string cimport memset

from fastgreen._resolver cimport column_data, sample_data, traits_of

CHANGE_COLUMNS = ("after_ns", "at_ns", "grown", "linked")
CELLS = FG_FOLLOW_CELLS
MOST_STATES = FG_LOAD_MOST  # that `load_states` tells apart
MOST_COLUMNS = FG_FOLLOW_STATES  # of a regression


cdef class Changes:
    """The changes of a counter, from its samples, see fg_follow_changes. Past `most` they are counted, not kept."""

    cdef fg_traits c_traits
    cdef fg_follow_reader reader
    cdef readonly Py_ssize_t count
    cdef object most
    cdef list parts

    def __init__(self, dict traits, most=None):
        self.c_traits = traits_of(traits)
        memset(&self.reader, 0, sizeof(fg_follow_reader))
        self.count, self.most, self.parts = 0, most, []

    def feed(self, chunk):
        import numpy as np

        cdef size_t count = len(chunk), written
        part = np.empty((count + 1, 4), np.int64)
        cdef const fg_sample *data = sample_data(chunk)
        cdef fg_change *out = <fg_change *>column_data(part)
        with nogil:
            written = fg_follow_changes(&self.reader, &self.c_traits, data, count, out)
        self._keep(part, written)

    def answer(self):
        """int64 (changes, 4), columns CHANGE_COLUMNS. Ends the reading."""
        import numpy as np

        last = np.empty((1, 4), np.int64)
        self._keep(last, fg_follow_last_change(&self.reader, &self.c_traits, <fg_change *>column_data(last)))
        return np.concatenate([last[:0], *self.parts])

    def _keep(self, part, Py_ssize_t written):
        self.count += written
        if self.most is None or self.count <= self.most:
            self.parts.append(part[:written].copy() if 2 * written < len(part) else part[:written])


cdef class Timeline:
    """The state of the load: states[i] from edges_ns[i] on, state 0 before the first edge."""

    cdef readonly object edges_ns, states
    cdef fg_timeline c

    def __init__(self, edges_ns, states, Py_ssize_t state_count):
        import numpy as np

        self.edges_ns = np.ascontiguousarray(edges_ns, dtype=np.int64)
        self.states = np.ascontiguousarray(states, dtype=np.int32)
        if len(self.edges_ns) != len(self.states):
            raise ValueError("edges_ns and states differ in length")
        if len(self.states) and not 0 <= self.states.min() <= self.states.max() < state_count:
            raise ValueError(f"states must be below {state_count}")
        self.c.edges_ns = <const int64_t *>column_data(self.edges_ns)
        self.c.states = <const int32_t *>column_data(self.states)
        self.c.edges, self.c.state_count = len(self.edges_ns), state_count

    def divided(self, first, ends_ns, states, Py_ssize_t state_count):
        """The timeline whose stretches are divided into cells, see fg_load_divide."""
        import numpy as np

        first = np.ascontiguousarray(first, dtype=np.uintp)
        ends_ns = np.ascontiguousarray(ends_ns, dtype=np.int64)
        states = np.ascontiguousarray(states, dtype=np.int32)
        if len(first) != self.c.state_count + 1 or not len(ends_ns) == len(states) == first[-1]:
            raise ValueError("first must have a number for each state and one more; the others one for each cell")
        if first[0] != 0 or not np.all(first[1:] > first[:-1]):
            raise ValueError("each state must have a cell")
        cdef fg_load_cells cells = fg_load_cells(<const size_t *>column_data(first),
                                                 <const int64_t *>column_data(ends_ns),
                                                 <const int32_t *>column_data(states))
        cdef size_t count
        with nogil:
            count = fg_load_divide(&self.c, &cells, NULL, NULL)
        edges, out = np.empty(count, np.int64), np.empty(count, np.int32)
        cdef int64_t *c_edges = <int64_t *>column_data(edges)
        cdef int32_t *c_states = <int32_t *>column_data(out)
        with nogil:
            fg_load_divide(&self.c, &cells, c_edges, c_states)
        return Timeline(edges, out, state_count)


cdef class Followed:
    """Changes, and where their updates were: `cells`, float32 (changes or 1, CELLS), or None for even densities."""

    cdef readonly object changes, cells
    cdef fg_instants c

    def __init__(self, changes, cells=None):
        import numpy as np

        self.changes = np.ascontiguousarray(changes, dtype=np.int64).reshape(-1, 4)
        self.c.count = len(self.changes)
        self.c.changes = <const fg_change *>column_data(self.changes)
        self.c.cells, self.c.step = NULL, FG_FOLLOW_CELLS
        if cells is not None:
            self.cells = np.ascontiguousarray(cells, dtype=np.float32).reshape(-1, CELLS)
            if len(self.cells) == 1:
                self.c.step = 0
            elif len(self.cells) != len(self.changes):
                raise ValueError("cells must have a row for each change, or one for all")
            self.c.cells = <const float *>column_data(self.cells)

    def chain(self, double shortest_ns, double longest_ns, double missed, double floor, bint smooth=True):
        """(cells, log likelihood, links, links by the floor alone); see fg_follow_chain."""
        import numpy as np

        cdef fg_links links
        cdef fg_links_tally tally
        links.shortest_ns, links.longest_ns, links.missed, links.floor = shortest_ns, longest_ns, missed, floor
        cells = np.empty((self.c.count, CELLS), np.float32)
        cdef float *out = <float *>column_data(cells)
        with nogil:
            fg_follow_chain(self.c.changes, self.c.count, &links, smooth, out, &tally)
        return cells, tally.log_likelihood, tally.links, tally.floored

    def times(self, Timeline timeline):
        """Expected time in each state for each change, ns: float64 (changes, states). See fg_follow_times."""
        import numpy as np

        times = np.empty((self.c.count, timeline.c.state_count))
        cdef double *out = <double *>column_data(times)
        with nogil:
            fg_follow_times(&self.c, &timeline.c, out)
        return times

    def curve(self, Timeline timeline, amount, weight, power, block, at_ns):
        """Energy until each of the sorted instants, in the unit of `amount`. See fg_follow_curve."""
        import numpy as np

        amount, weight, power = (np.ascontiguousarray(a, dtype=np.float64) for a in (amount, weight, power))
        block = np.ascontiguousarray(block, dtype=np.int32)
        at_ns = np.ascontiguousarray(at_ns, dtype=np.int64)
        if not len(amount) == len(weight) == len(block) == len(self.changes):
            raise ValueError("amount, weight and block must have one number per change")
        if power.shape[1] != timeline.c.state_count or (self.c.count and not 0 <= block.max() < len(power)):
            raise ValueError("power must have a row for each block and a column for each state")
        cdef fg_outlay outlay
        outlay.amount, outlay.weight = <const double *>column_data(amount), <const double *>column_data(weight)
        outlay.power, outlay.block = <const double *>column_data(power), <const int32_t *>column_data(block)
        energy = np.empty(len(at_ns))
        cdef double *out = <double *>column_data(energy)
        cdef const int64_t *instants = <const int64_t *>column_data(at_ns)
        cdef size_t count = len(at_ns)
        with nogil:
            fg_follow_curve(&self.c, &timeline.c, &outlay, instants, count, out)
        return energy


cdef class Rows:
    """Rows of a regression: the growths of changes[k] and the expected times times[k], float64 (changes, states)."""

    cdef object kept
    cdef fg_follow_rows c

    def __init__(self, changes, times):
        import numpy as np

        changes = np.ascontiguousarray(changes, dtype=np.int64).reshape(-1, 4)
        times = np.ascontiguousarray(times, dtype=np.float64)
        if len(changes) != len(times) or not 0 < times.shape[1] <= MOST_COLUMNS:
            raise ValueError(f"times must have a row for each change and at most {MOST_COLUMNS} columns")
        self.kept = changes, times
        self.c.changes = <const fg_change *>column_data(changes)
        self.c.times = <const double *>column_data(times)
        self.c.states = times.shape[1]

    cdef fg_follow_rows part(self, Py_ssize_t first, Py_ssize_t until) except *:
        if not 0 < first <= until <= len(self.kept[0]):
            raise ValueError("rows must be between the second and the last")
        cdef fg_follow_rows out = self.c
        out.first, out.until = first, until
        return out

    def sums(self, Py_ssize_t first, Py_ssize_t until, double own, double least_ns2, double shared):
        """(matrix, vector, time_ns, grown, known rows) of rows first..until - 1; see fg_follow_sum."""
        import numpy as np

        cdef fg_follow_rows rows = self.part(first, until)
        cdef fg_follow_errors errors
        cdef fg_follow_sums sums
        errors.own, errors.least_ns2, errors.shared = own, least_ns2, shared
        matrix, vector, time_ns = np.zeros((self.c.states, self.c.states)), np.zeros(self.c.states), np.zeros(self.c.states)
        sums.matrix, sums.vector = <double *>column_data(matrix), <double *>column_data(vector)
        sums.time_ns = <double *>column_data(time_ns)
        sums.grown, sums.known = 0.0, 0
        with nogil:
            fg_follow_sum(&rows, &errors, &sums)
        return matrix, vector, time_ns, sums.grown, sums.known

    def left(self, Py_ssize_t first, Py_ssize_t until, power):
        """What powers leave of the growths: a dict of the members of struct fg_follow_left."""
        import numpy as np

        power = np.ascontiguousarray(power, dtype=np.float64)
        if len(power) != <Py_ssize_t>self.c.states:
            raise ValueError("power must have a number for each state")
        cdef fg_follow_rows rows = self.part(first, until)
        cdef fg_follow_left left
        cdef const double *powers = <const double *>column_data(power)
        memset(&left, 0, sizeof(left))
        with nogil:
            fg_follow_leave(&rows, powers, &left)
        return left


def powers(matrices, vectors):
    """Powers >= 0 of each matrix and vector of a stack: float64 (count, states). See fg_follow_powers."""
    import numpy as np

    matrices, vectors = (np.ascontiguousarray(a, dtype=np.float64) for a in (matrices, vectors))
    cdef size_t count = len(vectors), states = vectors.shape[1]
    if matrices.shape != (count, states, states) or states > MOST_COLUMNS:
        raise ValueError(f"vectors must have a matrix each, of at most {MOST_COLUMNS} columns")
    work, found = np.empty(2 * states * states), np.empty((count, states))
    cdef const double *c_matrices = <const double *>column_data(matrices)
    cdef const double *c_vectors = <const double *>column_data(vectors)
    cdef double *c_work = <double *>column_data(work)
    cdef double *out = <double *>column_data(found)
    with nogil:
        fg_follow_powers(c_matrices, c_vectors, count, states, c_work, out)
    return found


def load_states(at_ns, names, marks, int64_t apart_ns):
    """(edges_ns, states, time_ns, stretches, first) of the sorted edges of windows, see fg_load_states.

    The last three have a number for each state, and one more for the states that are too many. `at_ns` is written over.
    """
    import numpy as np

    at_ns = np.ascontiguousarray(at_ns, dtype=np.int64)
    names = np.ascontiguousarray(names, dtype=np.int32)
    marks = np.ascontiguousarray(marks, dtype=np.uint64)
    if len(names) != len(at_ns):
        raise ValueError("at_ns and names differ in length")
    cdef fg_window_edges windows = fg_window_edges(<const int64_t *>column_data(at_ns), <const int32_t *>column_data(names),
                                                   len(at_ns), <const uint64_t *>column_data(marks))
    states = np.empty(len(at_ns), np.int32)
    time_ns = np.empty(FG_LOAD_MOST + 1)
    stretches, first = np.empty(FG_LOAD_MOST + 1, np.int64), np.empty(FG_LOAD_MOST + 1, np.int64)
    cdef fg_load load
    load.edges_ns, load.states = <int64_t *>column_data(at_ns, True), <int32_t *>column_data(states)
    load.stretches = <int64_t *>column_data(stretches)
    load.time_ns, load.first = <double *>column_data(time_ns), <int64_t *>column_data(first)
    with nogil:
        fg_load_states(&windows, apart_ns, &load)
    kept = [*range(load.state_count), FG_LOAD_MOST]
    return at_ns[:load.edges], states[:load.edges], time_ns[kept], stretches[kept], first[kept]


def between(edges_ns, values, begin_ns, end_ns):
    """The values at the ends less those at the begins: float64. See fg_load_between."""
    import numpy as np

    edges_ns, values = np.ascontiguousarray(edges_ns, dtype=np.int64), np.ascontiguousarray(values, dtype=np.float64)
    begin_ns, end_ns = (np.ascontiguousarray(a, dtype=np.int64) for a in (begin_ns, end_ns))
    if len(edges_ns) != len(values) or len(begin_ns) != len(end_ns):
        raise ValueError("edges_ns and values, or begin_ns and end_ns, differ in length")
    out = np.empty(len(begin_ns))
    cdef const int64_t *edges = <const int64_t *>column_data(edges_ns)
    cdef const int64_t *begins = <const int64_t *>column_data(begin_ns)
    cdef const int64_t *ends = <const int64_t *>column_data(end_ns)
    cdef const double *c_values = <const double *>column_data(values)
    cdef double *c_out = <double *>column_data(out)
    cdef size_t count = len(edges_ns), many = len(begin_ns)
    with nogil:
        fg_load_between(edges, c_values, count, begins, ends, many, c_out)
    return out
