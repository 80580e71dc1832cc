/* Parts of a row of a grid, in plain C, for the paths without their own trick. The file that includes this one defines
 * VECTOR_SIZE in bytes, and STREAM_f64 and STREAM_f32, which write a vector past the cache.
 * SPDX-License-Identifier: Apache-2.0
 *
 * whole_ fills a multiple of a vector, and needs an aligned `out` to stream; part_ fills less than a vector. */

#define ROW_FUNCTIONS(REAL, noun)                                                                                      \
	static inline void whole_##noun(REAL *out, const REAL *cost, size_t n, const struct fg_metric_row_##noun *row,     \
									bool stream)                                                                       \
	{                                                                                                                  \
		const vector_##noun accuracy = row->accuracy - (vector_##noun){0};                                             \
		for (size_t i = 0; i < n; i += VECTOR_SIZE / sizeof(REAL)) {                                                   \
			const vector_##noun c = *(const vector_at_##noun *)(cost + i);                                             \
			const vector_##noun q = accuracy / (row->beta * (c * row->weight) + 1);                                    \
			if (stream)                                                                                                \
				STREAM_##noun(out + i, q);                                                                             \
			else                                                                                                       \
				*(vector_at_##noun *)(out + i) = q;                                                                    \
		}                                                                                                              \
	}                                                                                                                  \
                                                                                                                       \
	static inline void part_##noun(REAL *out, const REAL *cost, size_t n, const struct fg_metric_row_##noun *row)      \
	{                                                                                                                  \
		for (size_t i = 0; i < n; i++)                                                                                 \
			out[i] = row->accuracy / (row->beta * (cost[i] * row->weight) + 1);                                        \
	}

ROW_FUNCTIONS(double, f64)
ROW_FUNCTIONS(float, f32)
