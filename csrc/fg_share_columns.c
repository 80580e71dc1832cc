/* See fg_share_columns.h. SPDX-License-Identifier: Apache-2.0 */
#include "fg_share_columns.h"

#include <stdlib.h>
#include <string.h>

enum { DIGIT = 11, DIGITS = 1 << DIGIT };

static bool sorted(const int64_t *at_ns, size_t count)
{
	size_t i = 1;

	while (i < count && at_ns[i - 1] <= at_ns[i])
		i++;
	return i >= count;
}

struct key {
	uint64_t at;
	uint32_t place;
};

/* One pass of a radix sort: by one digit, keeping the order of equals. */
static void by_digit(const struct key *from, struct key *to, size_t count, unsigned shift)
{
	size_t place[DIGITS] = {0}, sum = 0;

	for (size_t i = 0; i < count; i++)
		place[from[i].at >> shift & (DIGITS - 1)]++;
	for (size_t d = 0; d < DIGITS; d++) {
		size_t here = place[d];

		place[d] = sum;
		sum += here;
	}
	for (size_t i = 0; i < count; i++)
		to[place[from[i].at >> shift & (DIGITS - 1)]++] = from[i];
}

/* The places of a column in the order of its instants. */
static enum fg_status sort(const int64_t *at_ns, size_t count, uint32_t *out, struct fg_error *err)
{
	struct key *keys = malloc(2 * count * sizeof *keys), *from = keys, *to = keys + count;
	int64_t least_ns = at_ns[0], most_ns = at_ns[0];

	if (keys == NULL)
		return fg_error_set(err, FG_NO_MEMORY, 0, 0, "no memory to sort %zu spans", count);
	for (size_t i = 0; i < count; i++) {
		least_ns = at_ns[i] < least_ns ? at_ns[i] : least_ns;
		most_ns = at_ns[i] > most_ns ? at_ns[i] : most_ns;
	}
	for (size_t i = 0; i < count; i++)
		keys[i] = (struct key){(uint64_t)at_ns[i] - (uint64_t)least_ns, (uint32_t)i};
	for (unsigned shift = 0; shift < 64 && ((uint64_t)most_ns - (uint64_t)least_ns) >> shift > 0; shift += DIGIT) {
		struct key *done = to;

		by_digit(from, to, count, shift);
		to = from;
		from = done;
	}
	for (size_t i = 0; i < count; i++)
		out[i] = from[i].place;
	free(keys);
	return FG_OK;
}

enum fg_status fg_share_columns_init(struct fg_share_columns *columns, const int64_t *begin_at_ns,
									 const int64_t *end_at_ns, const uint64_t *weight, size_t count,
									 struct fg_error *err)
{
	enum fg_status status = FG_OK;

	memset(columns, 0, sizeof *columns);
	if (count > INT32_MAX)
		return fg_error_set(err, FG_INVALID, 0, 0, "there must be fewer than 2^31 spans, not %zu", count);
	for (size_t i = 0; i < count; i++)
		if (end_at_ns[i] < begin_at_ns[i])
			return fg_error_set(err, FG_INVALID, 0, 0, "row %zu: the end, %lld, must not be before the begin, %lld", i,
								(long long)end_at_ns[i], (long long)begin_at_ns[i]);
	struct fg_share_columns out = {
		.begin_at_ns = begin_at_ns, .end_at_ns = end_at_ns, .weight = weight, .count = count};

	if (!sorted(begin_at_ns, count))
		out.by_begin = malloc(count * sizeof *out.by_begin);
	if (!sorted(end_at_ns, count))
		out.by_end = malloc(count * sizeof *out.by_end);
	if (out.by_begin != NULL)
		status = sort(begin_at_ns, count, out.by_begin, err);
	if (status == FG_OK && out.by_end != NULL)
		status = sort(end_at_ns, count, out.by_end, err);
	if ((out.by_begin == NULL && !sorted(begin_at_ns, count)) ||
		(out.by_end == NULL && !sorted(end_at_ns, count)))
		status = fg_error_set(err, FG_NO_MEMORY, 0, 0, "no memory to sort %zu spans", count);
	*columns = out;
	if (status != FG_OK)
		fg_share_columns_destroy(columns);
	return status;
}

void fg_share_columns_destroy(struct fg_share_columns *columns)
{
	free(columns->by_begin);
	free(columns->by_end);
	memset(columns, 0, sizeof *columns);
}
