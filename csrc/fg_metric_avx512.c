/* The AVX-512 path.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Its trick: one core's division unit is slower than its memory (on Zen 4 about 23 GB/s of doubles against 27), so
 * every fourth vector of a row is divided on the multiply-add units instead, which are idle meanwhile. That division
 * gives the correctly rounded quotient, hence the same bits (see quotient below). Floats are divided at 35 GB/s and
 * need no trick. */
#include "fg_wide.h"

#ifdef FG_WIDE

#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,prefer-vector-width=512")

#include <float.h>
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "fg_metric_path.h"

#define VECTOR_SIZE 64
#define STREAM_FENCE() _mm_sfence()
#define VECTORS_END() _mm256_zeroupper()
#define STREAM_f64(out, value) _mm512_stream_pd(out, value)
#define STREAM_f32(out, value) _mm512_stream_ps(out, value)
#define BELOW_f64(a, b) ((a) < (b))
#define BELOW_f32(a, b) ((a) < (b))
#define FLOOR_f64(x) _mm512_roundscale_pd(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC)
#define LESSER_f64(a, b) _mm512_min_pd(a, b)
#define SIGNS_f64(lanes) _mm512_movepi64_mask((__m512i)(lanes))
#define FUSED_f64(a, b, c) _mm512_fmadd_pd(a, b, c)
#define FUSED_MINUS_f64(a, b, c) _mm512_fnmadd_pd(a, b, c)

FG_METRIC_VECTORS(VECTOR_SIZE);

static bool usable(void)
{
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
		   __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
}

static inline __m512d denominator_f64(__m512d cost, const struct fg_metric_row_f64 *row)
{
	const __m512d weighted = _mm512_mul_pd(cost, _mm512_set1_pd(row->weight));
	return _mm512_add_pd(_mm512_mul_pd(weighted, _mm512_set1_pd(row->beta)), _mm512_set1_pd(1));
}

/* a / b correctly rounded, without the division unit, for a and b far from overflow and underflow.
 *
 * Markstein, "Computation of elementary functions on the IBM RISC System/6000 processor" (1990): if y is 1/b within one
 * ulp, then y + y*(1 - b*y) by fused multiply-adds is 1/b correctly rounded, unless the mantissa of b is all ones; and
 * if y is 1/b correctly rounded and q is a/b within one ulp, then q + y*(a - b*q) is a/b correctly rounded. From the 14
 * bits that rcp14 gives, two steps lead within one ulp and the third applies the theorem. Mantissas of all ones are
 * divided. */
static inline __m512d quotient(__m512d a, __m512d b)
{
	const __m512d one = _mm512_set1_pd(1);
	const __m512i mantissa = _mm512_set1_epi64((1LL << 52) - 1);
	__m512d y = _mm512_rcp14_pd(b);
	y = _mm512_fmadd_pd(y, _mm512_fnmadd_pd(b, y, one), y);
	y = _mm512_fmadd_pd(y, _mm512_fnmadd_pd(b, y, one), y);
	y = _mm512_fmadd_pd(y, _mm512_fnmadd_pd(b, y, one), y);
	const __m512d q = _mm512_mul_pd(a, y);
	const __m512d exact = _mm512_fmadd_pd(y, _mm512_fnmadd_pd(b, q, a), q);
	const __mmask8 ones = _mm512_cmpeq_epi64_mask(_mm512_and_si512(_mm512_castpd_si512(b), mantissa), mantissa);
	return __builtin_expect(ones != 0, 0) ? _mm512_mask_div_pd(exact, ones, a, b) : exact;
}

static inline void part_f64(double *out, const double *cost, size_t n, const struct fg_metric_row_f64 *row)
{
	const __mmask8 mask = (__mmask8)((1u << n) - 1);
	const __m512d den = denominator_f64(_mm512_maskz_loadu_pd(mask, cost), row);
	_mm512_mask_storeu_pd(out, mask, _mm512_div_pd(_mm512_set1_pd(row->accuracy), den));
}

static inline void put_f64(double *out, __m512d value, bool stream)
{
	if (stream)
		_mm512_stream_pd(out, value);
	else
		_mm512_storeu_pd(out, value);
}

static inline void whole_f64(double *out, const double *cost, size_t n, const struct fg_metric_row_f64 *row,
							 bool stream)
{
	const __m512d accuracy = _mm512_set1_pd(row->accuracy);
	/* Then no step of quotient() leaves the range of normal numbers. */
	const bool tame = row->accuracy >= 0x1p-400 && row->beta * (row->cost_max * row->weight) <= 0x1p400;
	size_t i = 0;
	for (; tame && n - i >= 32; i += 32) {
		for (size_t k = 0; k < 24; k += 8)
			put_f64(out + i + k, _mm512_div_pd(accuracy, denominator_f64(_mm512_loadu_pd(cost + i + k), row)), stream);
		put_f64(out + i + 24, quotient(accuracy, denominator_f64(_mm512_loadu_pd(cost + i + 24), row)), stream);
	}
	for (; i < n; i += 8)
		put_f64(out + i, _mm512_div_pd(accuracy, denominator_f64(_mm512_loadu_pd(cost + i), row)), stream);
}

static inline __m512 score_f32_of(__m512 cost, const struct fg_metric_row_f32 *row)
{
	const __m512 weighted = _mm512_mul_ps(cost, _mm512_set1_ps(row->weight));
	const __m512 den = _mm512_add_ps(_mm512_mul_ps(weighted, _mm512_set1_ps(row->beta)), _mm512_set1_ps(1));
	return _mm512_div_ps(_mm512_set1_ps(row->accuracy), den);
}

static inline void part_f32(float *out, const float *cost, size_t n, const struct fg_metric_row_f32 *row)
{
	const __mmask16 mask = (__mmask16)((1u << n) - 1);
	_mm512_mask_storeu_ps(out, mask, score_f32_of(_mm512_maskz_loadu_ps(mask, cost), row));
}

static inline void whole_f32(float *out, const float *cost, size_t n, const struct fg_metric_row_f32 *row, bool stream)
{
	for (size_t i = 0; i < n; i += 16) {
		const __m512 q = score_f32_of(_mm512_loadu_ps(cost + i), row);
		if (stream)
			_mm512_stream_ps(out + i, q);
		else
			_mm512_storeu_ps(out + i, q);
	}
}

#include "fg_metric_both.h"

const struct fg_metric_path fg_metric_path_avx512 = FG_METRIC_PATH("avx512", usable);

#pragma GCC pop_options
#endif
