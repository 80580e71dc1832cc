/* The path that every CPU of the build has: SSE2 on x86-64, NEON on aarch64.
 * SPDX-License-Identifier: Apache-2.0
 *
 * aarch64 has no streaming store of one vector; its cores see a long run of full-line stores and stop reading the lines
 * by themselves, so plain stores are right there. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "fg_metric_path.h"

#define VECTOR_SIZE 16
#define VECTORS_END() ((void)0)
#define FLOOR_f64(x) floor_positive(x)
#if defined(__x86_64__)
#include <emmintrin.h>
#define BASELINE_NAME "sse2"
#define STREAM_FENCE() _mm_sfence()
#define STREAM_f64(out, value) _mm_stream_pd(out, value)
#define STREAM_f32(out, value) _mm_stream_ps(out, value)
/* Spelled out, as GCC compares vectors of 64-bit lanes one by one where SSE4.1 is missing. */
#define BELOW_f64(a, b) _mm_cmplt_pd(a, b)
#define BELOW_f32(a, b) _mm_cmplt_ps(a, b)
#define LESSER_f64(a, b) _mm_min_pd(a, b)
#define SIGNS_f64(lanes) _mm_movemask_pd((__m128d)(lanes))
#else
#define BASELINE_NAME "neon"
#define STREAM_FENCE() ((void)0)
#define STREAM_f64(out, value) (*(vector_f64 *)(out) = (value))
#define STREAM_f32(out, value) (*(vector_f32 *)(out) = (value))
#define BELOW_f64(a, b) ((a) < (b))
#define BELOW_f32(a, b) ((a) < (b))
#define LESSER_f64(a, b) choose(below(a, b), a, b)
#define SIGNS_f64(lanes) (((lanes)[0] < 0) | ((lanes)[1] < 0) << 1)
#endif

FG_METRIC_VECTORS(VECTOR_SIZE);

static bool usable(void)
{
	return true;
}

#include "fg_metric_rows.h"

#include "fg_metric_both.h"

const struct fg_metric_path fg_metric_path_baseline = FG_METRIC_PATH(BASELINE_NAME, usable);
