/* The loop over a grid, for one element type; a part of the template fg_metric_loops.h, which includes it.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Streaming stores write whole vectors. If a row ends inside a vector of the output, this vector is collected in the
 * first-level cache and written when the next rows have completed it. Two half writes through the cache would first
 * read the line from memory, and the next streaming stores would wait for that. */

/* The vector of the output that contains `next`; its elements from `begin` up to `next` are known. */
struct NAME(seam) {
	VECTOR line;
	REAL *next;
	size_t begin;
};

/* The place of an element in its vector of the output. */
INLINE size_t NAME(place)(const REAL *out)
{
	return (uintptr_t)out % VECTOR_SIZE / sizeof(REAL);
}

/* Write the elements begin..end-1 of the vector that begins at `to`. */
INLINE void NAME(seam_write)(struct NAME(seam) *seam, REAL *to, size_t end)
{
	if (seam->begin == 0 && end == LANES)
		STREAM(to, seam->line);
	else
		memcpy(to + seam->begin, (const REAL *)&seam->line + seam->begin, (end - seam->begin) * sizeof(REAL));
	seam->begin = 0;
}

static void NAME(seam_close)(struct NAME(seam) *seam)
{
	const size_t end = NAME(place)(seam->next);
	if (end > seam->begin)
		NAME(seam_write)(seam, seam->next - end, end);
}

INLINE void NAME(row_stream)(REAL *out, const REAL *cost, size_t n, const struct NAME(fg_metric_row) *row,
							 struct NAME(seam) *seam)
{
	const size_t place = NAME(place)(out);
	size_t done = 0;
	if (out != seam->next) {
		NAME(seam_close)(seam);
		seam->begin = place;
	}
	if (place) {
		done = n < LANES - place ? n : LANES - place;
		NAME(part)((REAL *)&seam->line + place, cost, done, row);
		if (place + done == LANES)
			NAME(seam_write)(seam, out - place, LANES);
	}
	const size_t whole = (n - done) / LANES * LANES;
	NAME(whole)(out + done, cost + done, whole, row, true);
	done += whole;
	if (done < n)
		NAME(part)((REAL *)&seam->line, cost + done, n - done, row);
	seam->next = out + n;
}

INLINE void NAME(row_plain)(REAL *out, const REAL *cost, size_t n, const struct NAME(fg_metric_row) *row)
{
	const size_t whole = n / LANES * LANES;
	NAME(whole)(out, cost, whole, row, false);
	if (whole < n)
		NAME(part)(out + whole, cost + whole, n - whole, row);
}

/* Write the points with costs from..to-1 among the points first..last-1. */
static void NAME(grid_block)(const struct NAME(fg_metric_grid) *grid, size_t first, size_t last, size_t from, size_t to,
							 REAL *out, struct NAME(seam) *seam)
{
	const size_t rows = (last + grid->costs - 1) / grid->costs;
	for (size_t r = first / grid->costs; r < rows; r++) {
		const size_t start = r * grid->costs;
		const size_t begin = start + from < first ? first : start + from, end = start + to > last ? last : start + to;
		const REAL accuracy = grid->accuracy[r % grid->accuracies];
		const REAL alpha = grid->alpha[r / grid->accuracies % grid->alphas];
		const struct NAME(fg_metric_row) row = {accuracy, NAME(weight)(accuracy, alpha),
												grid->beta[r / grid->accuracies / grid->alphas], grid->cost_max};
		if (begin < end && seam)
			NAME(row_stream)(out + (begin - first), grid->cost + (begin - start), end - begin, &row, seam);
		else if (begin < end)
			NAME(row_plain)(out + (begin - first), grid->cost + (begin - start), end - begin, &row);
	}
}

static void NAME(grid)(const struct NAME(fg_metric_grid) *grid, size_t first, size_t last, REAL *out, bool stream)
{
	/* A block of the cost axis stays in the second-level cache while it is used. */
	enum { BLOCK = (128 << 10) / sizeof(REAL) };
	struct NAME(seam) seam = {{0}, NULL, 0};
	for (size_t from = 0; first < last && from < grid->costs; from += BLOCK)
		NAME(grid_block)(grid, first, last, from, grid->costs - from < BLOCK ? grid->costs : from + BLOCK, out,
						 stream ? &seam : NULL);
	if (stream) {
		NAME(seam_close)(&seam);
		STREAM_FENCE();
	}
	VECTORS_END();
}
