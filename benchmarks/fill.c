/* The base of the sweep's benchmark: fill a buffer with streaming stores, as fast as one core can write memory.
 * SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>

#if defined(__AVX512F__)
#include <immintrin.h>
void fill(double *out, size_t n, double value)
{
	const __m512d v = _mm512_set1_pd(value);
	for (size_t i = 0; i + 8 <= n; i += 8)
		_mm512_stream_pd(out + i, v);
	_mm_sfence();
}
#elif defined(__SSE2__)
#include <emmintrin.h>
void fill(double *out, size_t n, double value)
{
	const __m128d v = _mm_set1_pd(value);
	for (size_t i = 0; i + 2 <= n; i += 2)
		_mm_stream_pd(out + i, v);
	_mm_sfence();
}
#else
void fill(double *out, size_t n, double value)
{
	for (size_t i = 0; i < n; i++)
		out[i] = value;
}
#endif
