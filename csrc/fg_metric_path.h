/* Shared by the files of the metric paths only; fg_metric.c draws which file includes which.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef FG_METRIC_PATH_H
#define FG_METRIC_PATH_H

#include "fg_metric.h"
#include "fg_wide.h"

#ifdef FG_WIDE
extern const struct fg_metric_path fg_metric_path_avx512;
extern const struct fg_metric_path fg_metric_path_avx2;
#endif
extern const struct fg_metric_path fg_metric_path_baseline; /* SSE2 or NEON */

/* The values that all points of a row of a grid share; each cost is at most cost_max. */
struct fg_metric_row_f64 {
	double accuracy, weight, beta, cost_max;
};

struct fg_metric_row_f32 {
	float accuracy, weight, beta, cost_max;
};

/* Vectors of a path's VECTOR_SIZE, aligned to it or, under the name with _at, to the element. */
#define FG_METRIC_VECTORS(size)                                                                                        \
	typedef double vector_f64 __attribute__((vector_size(size), may_alias));                                           \
	typedef double vector_at_f64 __attribute__((vector_size(size), may_alias, aligned(sizeof(double))));               \
	typedef float vector_f32 __attribute__((vector_size(size), may_alias));                                            \
	typedef float vector_at_f32 __attribute__((vector_size(size), may_alias, aligned(sizeof(float))))

/* The initializer of a path, from the functions that fg_metric_loops.h made in the same file. */
/* clang-format off */
#define FG_METRIC_PATH(path_name, is_usable)                                                                           \
	{                                                                                                                  \
		.name = path_name, .usable = is_usable,                                                                        \
		.score_f64 = score_f64, .score_f32 = score_f32,                                                                \
		.weigh_f64 = weigh_f64, .weigh_f32 = weigh_f32,                                                                \
		.closest_f64 = closest_f64, .closest_f32 = closest_f32,                                                        \
		.grid_f64 = grid_f64, .grid_f32 = grid_f32,                                                                    \
		.reach_f64 = reach_f64, .reach_f32 = reach_f32,                                                                \
		.outside_f64 = outside_f64, .outside_f32 = outside_f32,                                                        \
	}
/* clang-format on */

#endif
