/* row_f64 and row_f32 in vectors of VECTOR_SIZE bytes, with STREAM_f64 and STREAM_f32 to write one past the cache.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A row has one accuracy, weight and beta; the scores run along the cost axis. The few elements before the first aligned
 * vector and after the last are done singly. */

#define ROW_FUNCTION(REAL, noun)                                                                                       \
	static void row_##noun(REAL *out, const REAL *cost, size_t n, REAL accuracy, REAL weight, REAL beta, REAL cost_max, \
						   bool stream)                                                                                \
	{                                                                                                                  \
		enum { LANES = VECTOR_SIZE / sizeof(REAL) };                                                                   \
		(void)cost_max;                                                                                                \
		const vector_##noun acc = accuracy - (vector_##noun){0};                                                       \
		const size_t lead = (-(uintptr_t)out & (VECTOR_SIZE - 1)) / sizeof(REAL);                                      \
		size_t i = 0;                                                                                                  \
		for (; i < n && i < lead; i++)                                                                                 \
			out[i] = accuracy / (beta * (cost[i] * weight) + 1);                                                       \
		for (; n - i >= LANES; i += LANES) {                                                                           \
			const vector_##noun c = *(const vector_at_##noun *)(cost + i);                                             \
			const vector_##noun q = acc / (beta * (c * weight) + 1);                                                   \
			if (stream)                                                                                                \
				STREAM_##noun(out + i, q);                                                                             \
			else                                                                                                       \
				*(vector_##noun *)(out + i) = q;                                                                       \
		}                                                                                                              \
		for (; i < n; i++)                                                                                             \
			out[i] = accuracy / (beta * (cost[i] * weight) + 1);                                                       \
	}

ROW_FUNCTION(double, f64)
ROW_FUNCTION(float, f32)
