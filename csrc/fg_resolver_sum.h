/* The bounds of the energy of many windows together, from the bounds at their edges.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Pure arithmetic: no clock, no file, no thread, no allocation. Windows come in time order and do not overlap. At each
 * edge t the energy E(t) of a counter lies in low(t) .. high(t) (fg_resolver.h), and E does not fall.
 *
 * Most. E grows in windows wherever it may. Between two windows it grows by what is proven:
 *     most = high(last end) - low(first begin) - sum over the gaps of max(0, low(begin after) - high(end before))
 * Least. E grows in gaps wherever it may, in each by at most the ceiling times its length, or by what is proven if that
 * is more. Let f(x) be the least energy of the windows so far, if E is x now. Then f is constant from its smallest x up
 * to `free` and rises with slope 1 from there to `last`:
 *   - A window makes all x beyond possible, each at its cost: slope 1.
 *   - A gap shifts the rising part by what it can hold.
 *   - The bounds at an edge cut f. If low(t) > `free`, so much was spent in windows.
 * Both are the solutions of the linear program of all admissible E: no tighter bounds follow from the edges. `least`
 * rests on the ceiling, `most` does not. */
#ifndef FG_RESOLVER_SUM_H
#define FG_RESOLVER_SUM_H

#include <stddef.h>
#include <stdint.h>

/* A zeroed one is the sum of no windows. `least` and `most` are those of the windows so far. */
struct fg_sum {
	double least, most;
	/* private */
	double free, last, before_high; /* the high bound of the end of the window before */
	int64_t before_end_ns;
	uint64_t count;
};

/* The bounds at edges, in one unit. */
struct fg_sum_edges {
	const int64_t *at_ns;
	const double *low, *high;
};

/* Add `count` windows after those so far. */
void fg_sum_add(struct fg_sum *sum, double ceiling_per_ns, const struct fg_sum_edges *begins,
				const struct fg_sum_edges *ends, size_t count);

#endif
