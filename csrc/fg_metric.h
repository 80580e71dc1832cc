/* APC, APEC and their relatives: pure loops over columns that the caller owns.
 * SPDX-License-Identifier: Apache-2.0
 *
 * The formulas (Jurj, Opritoiu, Vladutiu, 2020), with c the consumption or cost:
 *
 *     weight = (1 - alpha) * (1 - accuracy) + alpha
 *     score  = accuracy / (beta * (c * weight) + 1)
 *
 * are evaluated in exactly this order, one rounding for each operation, so that every path gives the very bits that
 * NumPy gives; the build therefore forbids fused multiply-adds. There is one path for each instruction set; the caller
 * chooses it, normally the first usable one of fg_metric_paths(). A path is constant and shared by all threads.
 *
 * These functions do not allocate, block or fail: the caller checks the arguments. Only the loops of the ufuncs check
 * them, and return NaN outside the domain. */
#ifndef FG_METRIC_H
#define FG_METRIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* An input of an elementwise loop: its first element, and the bytes to the next element (0 for a single value). */
struct fg_metric_column {
	const char *at;
	ptrdiff_t step;
};

/* The product of four axes, slowest first; values finite and inside the domain. */
struct fg_metric_grid_f64 {
	const double *beta, *alpha, *accuracy, *cost;
	size_t betas, alphas, accuracies, costs;
	double cost_max; /* the largest of cost */
};

struct fg_metric_grid_f32 {
	const float *beta, *alpha, *accuracy, *cost;
	size_t betas, alphas, accuracies, costs;
	float cost_max;
};

/* The goal of a search through training runs. */
struct fg_metric_goal {
	double cost_delta, accuracy_delta; /* cell sizes, both > 0, the second <= 1 */
	double alpha, beta;
	double target; /* find the first score that reaches it; NaN: find the best of the run, the earliest of equals */
	bool quantize; /* score the centres of the cells rather than the checkpoints themselves */
};

/* The results of a search, a row for each run; the columns belong to the caller. */
struct fg_metric_found {
	int64_t *index; /* the checkpoint that meets the goal, counted from the start of the run; -1: there is none */
	double *score;  /* its score; NaN: there is none */
	double *time;   /* its time; infinite: there is none */
	int64_t *accuracy_cell, *cost_cell; /* its cell; -1: there is none */
};

/* Elementwise loops: true if some inputs without a NaN gave NaN, that is, if an input lies outside the domain
 * (accuracy and alpha in 0..1, cost and beta finite and >= 0, cost_delta finite and > 0,
 * accuracy_delta in 0..1 without 0). `out` may be one of the inputs, if each output element replaces its input. The
 * FE_INVALID flag is undefined afterwards. */
typedef bool fg_metric_loop(const struct fg_metric_column *in, char *out, ptrdiff_t out_step, size_t n);

struct fg_metric_path {
	const char *name;
	bool (*usable)(void);

	/* in: cost, accuracy, alpha, beta */
	fg_metric_loop *score_f64, *score_f32;
	/* in: cost, accuracy, alpha */
	fg_metric_loop *weigh_f64, *weigh_f32;
	/* in: cost, accuracy, cost_delta, accuracy_delta, alpha, beta. The f32 loop takes the last four as doubles. */
	fg_metric_loop *closest_f64, *closest_f32;

	/* Points first..last-1 of the grid, counted in row-major order, into out[0 .. last-first-1]. stream: write past the
	 * cache, for output that is not read at once; complete when the function returns. */
	void (*grid_f64)(const struct fg_metric_grid_f64 *grid, size_t first, size_t last, double *out, bool stream);
	void (*grid_f32)(const struct fg_metric_grid_f32 *grid, size_t first, size_t last, float *out, bool stream);

	/* Run r has the checkpoints offset[r] .. offset[r+1]-1 of time, cost and accuracy. For the runs first..last-1:
	 * found's columns at r - first. Returns last, or before it the first run with a cost or accuracy outside its domain
	 * or a time that is negative, infinite, NaN or below the one before; the runs before that one are done. A cost or
	 * accuracy of NaN is skipped. time may be NULL; then the times found are NaN. */
	size_t (*reach_f64)(const struct fg_metric_goal *goal, const int64_t *offset, const double *time,
						const double *cost, const double *accuracy, size_t first, size_t last,
						const struct fg_metric_found *found);
	size_t (*reach_f32)(const struct fg_metric_goal *goal, const int64_t *offset, const double *time, const float *cost,
						const float *accuracy, size_t first, size_t last, const struct fg_metric_found *found);

	/* The first i with x[i] outside low..high, or n. NaN is never outside, infinity always. */
	size_t (*outside_f64)(const double *x, size_t n, double low, double high);
	size_t (*outside_f32)(const float *x, size_t n, double low, double high);
};

/* All paths of this build, the fastest first, ended by NULL; the last one runs on every CPU of the build. */
const struct fg_metric_path *const *fg_metric_paths(void);

#endif
