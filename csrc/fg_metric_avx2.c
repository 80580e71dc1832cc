/* The AVX2 path.
 * SPDX-License-Identifier: Apache-2.0 */
#if defined(__x86_64__)

#pragma GCC push_options
#pragma GCC target("avx2")

#include <float.h>
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "fg_metric_path.h"

#define STREAM_FENCE() _mm_sfence()
#define VECTORS_END() _mm256_zeroupper()
#define VECTOR_SIZE 32
#define STREAM_f64(out, value) _mm256_stream_pd(out, value)
#define STREAM_f32(out, value) _mm256_stream_ps(out, value)
#define BELOW_f64(a, b) ((a) < (b))
#define BELOW_f32(a, b) ((a) < (b))

FG_METRIC_VECTORS(VECTOR_SIZE);

static bool usable(void)
{
	return __builtin_cpu_supports("avx2");
}

#include "fg_metric_rows.h"

#include "fg_metric_both.h"

const struct fg_metric_path fg_metric_path_avx2 = FG_METRIC_PATH("avx2", usable);

#pragma GCC pop_options
#endif
