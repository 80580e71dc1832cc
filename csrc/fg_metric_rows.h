/* Parts of a row of a grid in C, for vectors of VECTOR_SIZE bytes, with STREAM_f64 and STREAM_f32 to write one past the
 * cache: for the paths without a trick of their own.
 * SPDX-License-Identifier: Apache-2.0
 *
 * whole_ takes a multiple of a vector, and an aligned out where it streams; part_ less than a vector. */

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
