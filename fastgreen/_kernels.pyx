"""Bindings to the C metrics: the ufuncs, the loops of a sweep and of a search. They convert and check shapes;
fastgreen.metrics.domains checks the values."""

cimport numpy as cnp
from cpython.mem cimport PyMem_Malloc

import numpy as np

cnp.import_array()
cnp.import_umath()

cdef extern from "<fenv.h>" nogil:
    const int FE_INVALID
    int feclearexcept(int)
    int feraiseexcept(int)
    int fetestexcept(int)

ctypedef fused real:
    double
    float

cdef struct Loop:
    fg_metric_loop *run
    int inputs

# A ufunc keeps pointers to its tables; both are never freed.
cdef struct Tables:
    cnp.PyUFuncGenericFunction functions[2]
    void *data[2]
    Loop loops[2]
    char types[14]


cdef const fg_metric_path *_path(name) except NULL:
    """The path of that name; with None the fastest one that this CPU supports."""
    cdef const fg_metric_path *const *paths = fg_metric_paths()
    cdef size_t i = 0
    while paths[i]:
        if paths[i].usable() and (name is None or paths[i].name.decode() == name):
            return paths[i]
        i += 1
    raise ValueError(f"path must be one of {', '.join(usable_paths())} on this CPU, not {name!r}")


def usable_paths():
    """Names of the paths that this CPU supports, fastest first."""
    cdef const fg_metric_path *const *paths = fg_metric_paths()
    cdef size_t i = 0
    names = []
    while paths[i]:
        if paths[i].usable():
            names.append(paths[i].name.decode())
        i += 1
    return tuple(names)


cdef void _run_loop(char **columns, const cnp.npy_intp *count, const cnp.npy_intp *steps, void *data) noexcept nogil:
    # NumPy warns if FE_INVALID is set after the loops. The kernels set it by comparing NaN, which is not an error. So
    # set it here if it was set before (by an earlier loop of the call) or if a NaN was made, else clear it.
    cdef const Loop *loop = <const Loop *>data
    cdef bint before = fetestexcept(FE_INVALID) != 0
    cdef fg_metric_column inputs[6]
    cdef int i
    for i in range(loop.inputs):
        inputs[i].at = columns[i]
        inputs[i].step = steps[i]
    if loop.run(inputs, columns[loop.inputs], steps[loop.inputs], <size_t>count[0]):
        feraiseexcept(FE_INVALID)
    elif not before and fetestexcept(FE_INVALID):
        feclearexcept(FE_INVALID)


cdef object _ufunc(bytes name, bytes doc, int inputs, int parameters, fg_metric_loop *f32, fg_metric_loop *f64):
    """Make a ufunc with `inputs` inputs; the last `parameters` of them are double in the float32 loop as well."""
    cdef Tables *tables = <Tables *>PyMem_Malloc(sizeof(Tables))
    cdef int i, k
    if not tables:
        raise MemoryError
    for k in range(2):
        tables.loops[k].run = f64 if k else f32
        tables.loops[k].inputs = inputs
        tables.functions[k] = <cnp.PyUFuncGenericFunction>_run_loop
        tables.data[k] = &tables.loops[k]
        for i in range(inputs + 1):
            is_double = k == 1 or inputs - parameters <= i < inputs
            tables.types[k * (inputs + 1) + i] = <char>(cnp.NPY_DOUBLE if is_double else cnp.NPY_FLOAT)
    _KEPT.extend((name, doc))
    return cnp.PyUFunc_FromFuncAndData(tables.functions, tables.data, tables.types, 2, inputs, 1, cnp.PyUFunc_None,
                                       name, doc, 0)


_KEPT = []  # names and docstrings that ufuncs point to

_SCORE_DOC = b"""Ufunc without checks: accuracy / (beta * (%s * ((1 - alpha) * (1 - accuracy) + alpha)) + 1).

NaN and NumPy's "invalid value" warning where accuracy or alpha lies outside 0..1, or %s or beta is negative or
infinite; NaN without a warning where an input is NaN."""

_WEIGH_DOC = b"""Ufunc without checks: consumption * ((1 - alpha) * (1 - accuracy) + alpha).

NaN and NumPy's "invalid value" warning where accuracy or alpha lies outside 0..1 or consumption is negative or
infinite; NaN without a warning where an input is NaN."""

_CLOSEST_DOC = b"""Ufunc without checks: APC at the centre of the cell that holds the point.

NaN and NumPy's "invalid value" warning outside the domain of apc, or where consumption_delta is not above 0 or
accuracy_delta not in 0..1 without 0; NaN without a warning where an input is NaN."""


def make_ufuncs(path=None):
    """Make the four ufuncs, by name, with the kernels of a path (None for the fastest)."""
    cdef const fg_metric_path *p = _path(path)
    cdef tuple cost = (b"cost", b"cost"), consumption = (b"consumption", b"consumption")
    return {
        "apc": _ufunc(b"apc", _SCORE_DOC % consumption, 4, 0, p.score_f32, p.score_f64),
        "apec": _ufunc(b"apec", _SCORE_DOC % cost, 4, 0, p.score_f32, p.score_f64),
        "weighted_consumption": _ufunc(b"weighted_consumption", _WEIGH_DOC, 3, 0, p.weigh_f32, p.weigh_f64),
        "closest_apc": _ufunc(b"closest_apc", _CLOSEST_DOC, 6, 4, p.closest_f32, p.closest_f64),
    }


cdef _aligned(axis):
    """Copy an axis to the start of a cache line; loading a vector across two lines would be slower."""
    if axis.ndim != 1 or axis.size == 0:
        raise ValueError(f"an axis must be one-dimensional and not empty, not of shape {axis.shape}")
    room = np.empty(axis.nbytes + 64, np.uint8)
    begin = -room.ctypes.data % 64
    copy = room[begin:begin + axis.nbytes].view(axis.dtype)
    copy[:] = axis
    return copy


cdef class Grid:
    """The product of four axes of one dtype, float64 or float32, slowest first: beta, alpha, accuracy, cost."""

    cdef readonly object dtype
    cdef tuple axes  # owns what the structs point into
    cdef const fg_metric_path *path
    cdef fg_metric_grid_f64 f64
    cdef fg_metric_grid_f32 f32
    cdef size_t size

    def __init__(self, beta, alpha, accuracy, cost, dtype="float64", path=None):
        self.dtype = np.dtype(dtype)
        self.path = _path(path)
        self.axes = tuple(_aligned(np.array(axis, self.dtype, ndmin=1)) for axis in (beta, alpha, accuracy, cost))
        self.size = 1
        for axis in self.axes:
            self.size *= axis.size
        self._point()

    cdef _point(self):
        cdef double[::1] d_beta, d_alpha, d_accuracy, d_cost
        cdef float[::1] f_beta, f_alpha, f_accuracy, f_cost
        if self.dtype == np.float64:
            d_beta, d_alpha, d_accuracy, d_cost = self.axes
            self.f64 = fg_metric_grid_f64(&d_beta[0], &d_alpha[0], &d_accuracy[0], &d_cost[0], d_beta.size, d_alpha.size,
                                          d_accuracy.size, d_cost.size, np.max(d_cost))
        elif self.dtype == np.float32:
            f_beta, f_alpha, f_accuracy, f_cost = self.axes
            self.f32 = fg_metric_grid_f32(&f_beta[0], &f_alpha[0], &f_accuracy[0], &f_cost[0], f_beta.size, f_alpha.size,
                                          f_accuracy.size, f_cost.size, np.max(f_cost))
        else:
            raise ValueError(f"dtype must be float64 or float32, not {self.dtype}")

    def __reduce__(self):
        return Grid, (*self.axes, self.dtype)

    def fill(self, real[::1] out, size_t first=0, bint stream=False):
        """Fill `out` with the points from `first` on (row-major). `stream` writes past the cache. Releases the GIL."""
        cdef size_t count = out.shape[0]
        if first > self.size or count > self.size - first:
            raise ValueError(f"first must leave {count} of {self.size} points, not be {first}")
        if sizeof(real) != <size_t>self.dtype.itemsize:
            raise ValueError(f"out must be {self.dtype}")
        if count == 0:
            return
        if <size_t>&out[0] % sizeof(real):
            raise ValueError("out must be aligned to its items")
        with nogil:
            if real is double:
                self.path.grid_f64(&self.f64, first, first + count, &out[0], stream)
            else:
                self.path.grid_f32(&self.f32, first, first + count, &out[0], stream)


FOUND = {"index": np.int64, "score": np.float64, "time": np.float64, "accuracy_cell": np.int64, "cost_cell": np.int64}


cdef fg_metric_found _found(cnp.int64_t[::1] index, double[::1] score, double[::1] time, cnp.int64_t[::1] accuracy_cell,
                            cnp.int64_t[::1] cost_cell) except *:
    if not index.shape[0] == score.shape[0] == time.shape[0] == accuracy_cell.shape[0] == cost_cell.shape[0]:
        raise ValueError("the columns of found must have one length")
    return fg_metric_found(&index[0], &score[0], &time[0], &accuracy_cell[0], &cost_cell[0])


def reach(const cnp.int64_t[::1] offset, const double[::1] time, const real[::1] cost, const real[::1] accuracy,
          double cost_delta, double accuracy_delta, double alpha, double beta, double target, bint quantize, size_t first,
          dict found, path=None):
    """Search the runs from `first` on for their checkpoint, and write it into the columns of `found` (keys as FOUND).

    Run r has the checkpoints offset[r] to offset[r + 1] - 1. A target of NaN searches for the best. Without `time` the
    found times are NaN. Returns the first run with a bad value (for example a time of NaN), where the search stops, or
    -1. Releases the GIL.
    """
    cdef const fg_metric_path *p = _path(path)
    cdef size_t stopped, runs = len(found["index"]), last = first + runs
    cdef fg_metric_goal goal = fg_metric_goal(cost_delta, accuracy_delta, alpha, beta, target, quantize)
    cdef fg_metric_found into
    cdef const double *times = NULL
    cdef const real *costs = NULL
    cdef const real *accuracies = NULL
    if runs == 0:
        return -1
    into = _found(found["index"], found["score"], found["time"], found["accuracy_cell"], found["cost_cell"])
    if last + 1 > <size_t>offset.shape[0]:
        raise ValueError("offset must have an entry more than the runs up to the last of found")
    _check_offsets(offset[first:last + 1], min(cost.shape[0], accuracy.shape[0],
                                               cost.shape[0] if time is None else time.shape[0]))
    if cost.shape[0] and accuracy.shape[0]:
        costs, accuracies = &cost[0], &accuracy[0]
    if time is not None and time.shape[0]:
        times = &time[0]
    with nogil:
        if real is double:
            stopped = p.reach_f64(&goal, &offset[0], times, costs, accuracies, first, last, &into)
        else:
            stopped = p.reach_f32(&goal, &offset[0], times, costs, accuracies, first, last, &into)
    return -1 if stopped == last else stopped


cdef int _check_offsets(const cnp.int64_t[::1] offset, Py_ssize_t checkpoints) except -1:
    cdef const cnp.int64_t *at = &offset[0]
    cdef Py_ssize_t i, last = offset.shape[0] - 1
    cdef bint rising = at[0] >= 0
    for i in range(last):
        rising &= at[i + 1] >= at[i]
    if not rising or at[last] > checkpoints:
        raise ValueError("offset must be rising positions of checkpoints")
    return 0


def first_outside(cnp.ndarray x, double low, double high, path=None):
    """Position of the first value outside low..high in a contiguous array, or -1. NaN is never outside."""
    # Without typed views: choosing between them takes longer than checking a thousand values.
    cdef const fg_metric_path *p = _path(path)
    cdef size_t found, n = cnp.PyArray_SIZE(x)
    cdef int kind = cnp.PyArray_TYPE(x)
    cdef void *data = cnp.PyArray_DATA(x)
    if not cnp.PyArray_ISCONTIGUOUS(x) or kind not in (cnp.NPY_DOUBLE, cnp.NPY_FLOAT):
        raise ValueError("x must be a contiguous array of float64 or float32")
    with nogil:
        if kind == cnp.NPY_DOUBLE:
            found = p.outside_f64(<const double *>data, n, low, high)
        else:
            found = p.outside_f32(<const float *>data, n, low, high)
    return -1 if found == n else found


_chosen = make_ufuncs()
apc = _chosen["apc"]
apec = _chosen["apec"]
weighted_consumption = _chosen["weighted_consumption"]
closest_apc = _chosen["closest_apc"]
