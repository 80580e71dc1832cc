/* The table of paths: one for each instruction set, the best first. All are the same loops, compiled from templates:
 * SPDX-License-Identifier: Apache-2.0
 *
 *   fg_metric_avx512.c    fg_metric_avx2.c    fg_metric_baseline.c      define the vector type and its operations
 *          |                    |                     |
 *          |                fg_metric_rows.h  (columns: loads and stores of a part of a vector)
 *          |                    |                     |
 *        fg_metric_both.h                                             includes fg_metric_loops.h for double and float
 *          '-- fg_metric_loops.h                                      columns: APC, WC, closest APC
 *                |-- fg_metric_grid.h                                 the product of axes, a row at a time
 *                '-- fg_metric_reach.h                                the search through training runs
 *
 * All of them include fg_metric_path.h, and no other file does. */
#include "fg_metric.h"

#include "fg_metric_path.h"

const struct fg_metric_path *const *fg_metric_paths(void)
{
	static const struct fg_metric_path *const paths[] = {
#ifdef FG_WIDE
		&fg_metric_path_avx512,
		&fg_metric_path_avx2,
#endif
		&fg_metric_path_baseline,
		NULL,
	};
	return paths;
}
