/* The AVX-512 path.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Its trick: one core's division unit is slower than its memory (on Zen 4 about 23 GB/s of doubles against 25), so every
 * fourth vector of a row is divided on the multiply-add units instead, which are idle meanwhile. That division gives the
 * correctly rounded quotient, hence the same bits (see quotient below). */
#if defined(__x86_64__)

#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,prefer-vector-width=512")

#include <float.h>
#include <immintrin.h>
#include <math.h>

#include "fg_metric_path.h"

#define VECTOR_SIZE 64
#define STREAM_FENCE() _mm_sfence()
#define VECTORS_END() _mm256_zeroupper()
#define BELOW_f64(a, b) ((a) < (b))
#define BELOW_f32(a, b) ((a) < (b))

FG_METRIC_VECTORS(VECTOR_SIZE);

static bool usable(void)
{
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
		   __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
}

static inline __m512d denominator_f64(__m512d cost, double weight, double beta)
{
	const __m512d weighted = _mm512_mul_pd(cost, _mm512_set1_pd(weight));
	return _mm512_add_pd(_mm512_mul_pd(weighted, _mm512_set1_pd(beta)), _mm512_set1_pd(1));
}

/* a / b correctly rounded, without the division unit, for a and b far from overflow and underflow.
 *
 * Markstein, "Computation of elementary functions on the IBM RISC System/6000 processor" (1990): if y is 1/b within one
 * ulp, then y + y*(1 - b*y) by fused multiply-adds is 1/b correctly rounded, unless the mantissa of b is all ones; and if y
 * is 1/b correctly rounded and q is a/b within one ulp, then q + y*(a - b*q) is a/b correctly rounded. From the 14 bits
 * that rcp14 gives, two steps lead within one ulp and the third applies the theorem. Mantissas of all ones are divided. */
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

static inline void put_f64(double *out, __m512d value, bool stream)
{
	if (stream)
		_mm512_stream_pd(out, value);
	else
		_mm512_storeu_pd(out, value);
}

static inline void part_f64(double *out, const double *cost, size_t n, double accuracy, double weight, double beta)
{
	const __mmask8 mask = (__mmask8)((1u << n) - 1);
	const __m512d den = denominator_f64(_mm512_maskz_loadu_pd(mask, cost), weight, beta);
	_mm512_mask_storeu_pd(out, mask, _mm512_div_pd(_mm512_set1_pd(accuracy), den));
}

/* To the next multiple of 64 bytes, in elements, at most n. */
static inline size_t lead(const void *out, size_t element, size_t n)
{
	const size_t k = (-(uintptr_t)out & 63) / element;
	return k < n ? k : n;
}

static void row_f64(double *out, const double *cost, size_t n, double accuracy, double weight, double beta,
					double cost_max, bool stream)
{
	const __m512d acc = _mm512_set1_pd(accuracy);
	/* Then no step of quotient() leaves the range of normal numbers. */
	const bool tame = accuracy >= 0x1p-400 && beta * (cost_max * weight) <= 0x1p400;
	size_t i = lead(out, sizeof *out, n);
	if (i)
		part_f64(out, cost, i, accuracy, weight, beta);
	for (; tame && n - i >= 32; i += 32) {
		for (size_t k = 0; k < 24; k += 8)
			put_f64(out + i + k, _mm512_div_pd(acc, denominator_f64(_mm512_loadu_pd(cost + i + k), weight, beta)), stream);
		put_f64(out + i + 24, quotient(acc, denominator_f64(_mm512_loadu_pd(cost + i + 24), weight, beta)), stream);
	}
	for (; n - i >= 8; i += 8)
		put_f64(out + i, _mm512_div_pd(acc, denominator_f64(_mm512_loadu_pd(cost + i), weight, beta)), stream);
	if (n > i)
		part_f64(out + i, cost + i, n - i, accuracy, weight, beta);
}

static inline __m512 score_row_f32(__m512 cost, float accuracy, float weight, float beta)
{
	const __m512 weighted = _mm512_mul_ps(cost, _mm512_set1_ps(weight));
	const __m512 den = _mm512_add_ps(_mm512_mul_ps(weighted, _mm512_set1_ps(beta)), _mm512_set1_ps(1));
	return _mm512_div_ps(_mm512_set1_ps(accuracy), den);
}

static inline void part_f32(float *out, const float *cost, size_t n, float accuracy, float weight, float beta)
{
	const __mmask16 mask = (__mmask16)((1u << n) - 1);
	_mm512_mask_storeu_ps(out, mask, score_row_f32(_mm512_maskz_loadu_ps(mask, cost), accuracy, weight, beta));
}

static void row_f32(float *out, const float *cost, size_t n, float accuracy, float weight, float beta, float cost_max,
					bool stream)
{
	size_t i = lead(out, sizeof *out, n);
	(void)cost_max;
	if (i)
		part_f32(out, cost, i, accuracy, weight, beta);
	for (; n - i >= 16; i += 16) {
		const __m512 q = score_row_f32(_mm512_loadu_ps(cost + i), accuracy, weight, beta);
		if (stream)
			_mm512_stream_ps(out + i, q);
		else
			_mm512_storeu_ps(out + i, q);
	}
	if (n > i)
		part_f32(out + i, cost + i, n - i, accuracy, weight, beta);
}

#include "fg_metric_both.h"

const struct fg_metric_path fg_metric_path_avx512 = FG_METRIC_PATH("avx512", usable);

#pragma GCC pop_options
#endif
