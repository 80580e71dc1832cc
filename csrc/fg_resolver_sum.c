/* See fg_resolver_sum.h.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fg_resolver_sum.h"

static inline double lesser(double a, double b)
{
	return a < b ? a : b;
}

static inline double greater(double a, double b)
{
	return a > b ? a : b;
}

/* E is at least `low` now. What lies beyond the free part was spent in windows. */
static inline void rise(struct fg_sum *sum, double low)
{
	if (low > sum->free) {
		sum->least += low - sum->free;
		sum->free = low;
	}
}

static void open_window(struct fg_sum *sum, double ceiling_per_ns, int64_t at_ns, double low, double high)
{
	if (sum->count++ == 0) {
		sum->free = sum->last = high;
		sum->most = -low;
		return;
	}
	double proven = greater(low - sum->before_high, 0.0);
	double room = greater(ceiling_per_ns * (double)(at_ns - sum->before_end_ns), proven);

	sum->most -= sum->before_high + proven;
	sum->free = lesser(sum->free, sum->last) + room;
	sum->last = greater(lesser(sum->last + room, high), low);
	rise(sum, low);
}

static void close_window(struct fg_sum *sum, int64_t at_ns, double low, double high)
{
	sum->free = lesser(sum->free, sum->last);
	rise(sum, low);
	sum->last = sum->before_high = high;
	sum->most += high;
	sum->before_end_ns = at_ns;
}

void fg_sum_add(struct fg_sum *sum, double ceiling_per_ns, const struct fg_sum_edges *begins,
				const struct fg_sum_edges *ends, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		open_window(sum, ceiling_per_ns, begins->at_ns[i], begins->low[i], begins->high[i]);
		close_window(sum, ends->at_ns[i], ends->low[i], ends->high[i]);
	}
}
