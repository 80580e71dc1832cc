/* The table of paths.
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
