/* See fg_share_columns.h. SPDX-License-Identifier: Apache-2.0 */
#include "fg_share_columns.h"

#include "fg_big.h"

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

/* A key is an instant less the earliest one, and below it, in `place_bits`, the place. */
static void by_digit(const uint64_t *from, uint64_t *to, size_t count, unsigned shift)
{
	size_t place[DIGITS] = {0}, sum = 0;

	for (size_t i = 0; i < count; i++)
		place[from[i] >> shift & (DIGITS - 1)]++;
	for (size_t d = 0; d < DIGITS; d++) {
		size_t here = place[d];

		place[d] = sum;
		sum += here;
	}
	for (size_t i = 0; i < count; i++)
		to[place[from[i] >> shift & (DIGITS - 1)]++] = from[i];
}

static unsigned bits_of(uint64_t most)
{
	unsigned bits = 0;

	while (bits < 64 && most >> bits > 0)
		bits++;
	return bits;
}

/* By radix, if an instant and a place fit in 64 bits together. */
static void sort_keys(uint64_t *keys, const int64_t *at_ns, int64_t least_ns, size_t count, unsigned place_bits,
					  unsigned bits, uint32_t *out)
{
	uint64_t *from = keys, *to = keys + count;

	for (size_t i = 0; i < count; i++)
		keys[i] = ((uint64_t)at_ns[i] - (uint64_t)least_ns) << place_bits | i;
	for (unsigned shift = place_bits; shift < bits; shift += DIGIT) {
		uint64_t *done = to;

		by_digit(from, to, count, shift);
		to = from;
		from = done;
	}
	for (size_t i = 0; i < count; i++)
		out[i] = (uint32_t)(from[i] & ((UINT64_C(1) << place_bits) - 1));
}

/* Merge sort, for instants that lie more than 2^64 / count apart. */
static void sort_places(uint32_t *places, uint32_t *other, const int64_t *at_ns, size_t count)
{
	for (size_t i = 0; i < count; i++)
		places[i] = (uint32_t)i;
	for (size_t width = 1; width < count; width *= 2) {
		for (size_t begin = 0; begin < count; begin += 2 * width) {
			size_t middle = begin + width < count ? begin + width : count;
			size_t end = middle + width < count ? middle + width : count, a = begin, b = middle;

			for (size_t i = begin; i < end; i++) {
				bool first = b == end || (a < middle && at_ns[places[a]] <= at_ns[places[b]]);

				other[i] = first ? places[a++] : places[b++];
			}
		}
		memcpy(places, other, count * sizeof *places);
	}
}

/* The places of a column in the order of its instants; equals keep theirs. */
static enum fg_status sort(const int64_t *at_ns, size_t count, uint32_t *out, struct fg_error *err)
{
	uint64_t *keys = fg_big_alloc(2 * count, sizeof *keys);
	int64_t least_ns = at_ns[0], most_ns = at_ns[0];

	if (keys == NULL)
		return fg_error_set(err, FG_NO_MEMORY, 0, 0, "no memory to sort %zu spans", count);
	for (size_t i = 0; i < count; i++) {
		least_ns = at_ns[i] < least_ns ? at_ns[i] : least_ns;
		most_ns = at_ns[i] > most_ns ? at_ns[i] : most_ns;
	}
	unsigned place_bits = bits_of(count), bits = bits_of((uint64_t)most_ns - (uint64_t)least_ns) + place_bits;

	if (bits <= 64)
		sort_keys(keys, at_ns, least_ns, count, place_bits, bits, out);
	else
		sort_places(out, (uint32_t *)keys, at_ns, count);
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
		out.by_begin = fg_big_alloc(count, sizeof *out.by_begin);
	if (!sorted(end_at_ns, count))
		out.by_end = fg_big_alloc(count, sizeof *out.by_end);
	if (out.by_begin != NULL)
		status = sort(begin_at_ns, count, out.by_begin, err);
	if (status == FG_OK && out.by_end != NULL)
		status = sort(end_at_ns, count, out.by_end, err);
	if ((out.by_begin == NULL && !sorted(begin_at_ns, count)) || (out.by_end == NULL && !sorted(end_at_ns, count)))
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
