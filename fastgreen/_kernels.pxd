"""csrc/fg_metric.h, as far as the binding uses it."""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int64_t

cdef extern from "fg_metric.h" nogil:
    struct fg_metric_column:
        const char *at
        ptrdiff_t step

    struct fg_metric_grid_f64:
        const double *beta
        const double *alpha
        const double *accuracy
        const double *cost
        size_t betas, alphas, accuracies, costs
        double cost_max

    struct fg_metric_grid_f32:
        const float *beta
        const float *alpha
        const float *accuracy
        const float *cost
        size_t betas, alphas, accuracies, costs
        float cost_max

    struct fg_metric_goal:
        double cost_delta, accuracy_delta
        double alpha, beta
        double target
        bint quantize

    struct fg_metric_found:
        int64_t *index
        double *score
        double *time
        int64_t *accuracy_cell
        int64_t *cost_cell

    ctypedef bint fg_metric_loop(const fg_metric_column *columns, char *out, ptrdiff_t out_step, size_t n) noexcept nogil

    struct fg_metric_path:
        const char *name
        bint (*usable)() noexcept nogil
        fg_metric_loop *score_f64
        fg_metric_loop *score_f32
        fg_metric_loop *weigh_f64
        fg_metric_loop *weigh_f32
        fg_metric_loop *closest_f64
        fg_metric_loop *closest_f32
        void (*grid_f64)(const fg_metric_grid_f64 *grid, size_t first, size_t last, double *out, bint stream) noexcept nogil
        void (*grid_f32)(const fg_metric_grid_f32 *grid, size_t first, size_t last, float *out, bint stream) noexcept nogil
        size_t (*reach_f64)(const fg_metric_goal *goal, const int64_t *offset, const double *time, const double *cost,
                            const double *accuracy, size_t first, size_t last, const fg_metric_found *found) noexcept nogil
        size_t (*reach_f32)(const fg_metric_goal *goal, const int64_t *offset, const double *time, const float *cost,
                            const float *accuracy, size_t first, size_t last, const fg_metric_found *found) noexcept nogil
        size_t (*outside_f64)(const double *x, size_t n, double low, double high) noexcept nogil
        size_t (*outside_f32)(const float *x, size_t n, double low, double high) noexcept nogil

    const fg_metric_path *const *fg_metric_paths() noexcept nogil
