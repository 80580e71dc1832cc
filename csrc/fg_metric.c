/* The table of paths, and what no instruction set makes faster.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fg_metric.h"

#include "fg_metric_path.h"

const struct fg_metric_path *const *fg_metric_paths(void)
{
	static const struct fg_metric_path *const paths[] = {
#if defined(__x86_64__)
		&fg_metric_path_avx512,
		&fg_metric_path_avx2,
#endif
		&fg_metric_path_baseline,
		NULL,
	};
	return paths;
}

int64_t fg_metric_backward_f64(const int64_t *offset, size_t runs, const double *x)
{
	for (size_t r = 0; r < runs; r++)
		for (int64_t i = offset[r] + 1; i < offset[r + 1]; i++)
			if (x[i] < x[i - 1])
				return i;
	return -1;
}
