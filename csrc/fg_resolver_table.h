/* Private to the resolver: the changes of a counter, tabled for its two inner loops (fg_resolver_path.h).
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef FG_RESOLVER_TABLE_H
#define FG_RESOLVER_TABLE_H

#include <stddef.h>
#include <stdint.h>

enum {
	FG_TABLE = 128,     /* changes tabled at once: everything stays in the first-level cache */
	FG_TABLE_STEP = 8,  /* it is full where so many more might not fit */
	FG_TABLE_KEPT = 4,  /* how many of them instants that still wait may need */
	FG_TABLE_PAST = 16, /* how many breaks past the last one a look-up may compare with */
	FG_TABLE_ROOM = FG_TABLE + FG_TABLE_PAST + 1
};

/* Private. Change i (from 1) takes the counter from value[i - 1] to value[i]: surely from low_ns[i] on, at the earliest
 * from high_ns[i] on, and likely along the line [i - 1] that ends at knot_ns[i]. Entry 0 is where the table begins. Of
 * those with low_ns[i] <= t, that is the first n, at most 3 more have high_ns <= t and at most 2 more knot_ns <= t. */
struct fg_table {
	size_t count;
	int64_t low_ns[FG_TABLE_ROOM], high_ns[FG_TABLE_ROOM], knot_ns[FG_TABLE_ROOM];
	int64_t total[FG_TABLE_ROOM];
	double value[FG_TABLE_ROOM], quantum; /* the total less what restarts rounded; what may come on top */
	int64_t from_ns[FG_TABLE_ROOM]; /* a line begins at the knot before, or later if samples show the counter still */
	double base[FG_TABLE_ROOM], slope[FG_TABLE_ROOM];
};

#endif
