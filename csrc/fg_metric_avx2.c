/* The AVX2 path.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fg_wide.h"

#ifdef FG_WIDE

#pragma GCC push_options
#pragma GCC target("avx2,fma")

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
#define FLOOR_f64(x) _mm256_floor_pd(x)
#define LESSER_f64(a, b) _mm256_min_pd(a, b)
#define SIGNS_f64(lanes) _mm256_movemask_pd((__m256d)(lanes))
#define FUSED_f64(a, b, c) _mm256_fmadd_pd(a, b, c)
#define FUSED_MINUS_f64(a, b, c) _mm256_fnmadd_pd(a, b, c)

FG_METRIC_VECTORS(VECTOR_SIZE);

static bool usable(void)
{
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

#include "fg_metric_rows.h"

#include "fg_metric_both.h"

const struct fg_metric_path fg_metric_path_avx2 = FG_METRIC_PATH("avx2", usable);

#pragma GCC pop_options
#endif
