/* The private members of struct fg_resolver that need a type: the table of changes, and the band of a power.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Only fg_resolver.h includes this file, because the resolver lives in its caller's memory and so its size must be
 * known. Only the fg_resolver*.c files use the members. */
#ifndef FG_RESOLVER_TABLE_H
#define FG_RESOLVER_TABLE_H

#include <stddef.h>
#include <stdint.h>

enum {
	FG_TABLE = 128,     /* changes in the table at one time: all columns stay in the first-level cache */
	FG_TABLE_STEP = 8,  /* the table is full if this many more changes might not fit */
	FG_TABLE_KEPT = 4,  /* how many of the changes may still be needed by instants without an answer */
	FG_TABLE_PAST = 16, /* a look-up may compare with this many breaks past the last one */
	FG_TABLE_ROOM = FG_TABLE + FG_TABLE_PAST + 1
};

/* Change i (from 1) takes the counter from value[i - 1] to value[i]: surely from low_ns[i] on, at the earliest from
 * high_ns[i] on, and likely along the line [i - 1] that ends at knot_ns[i]. Entry 0 is the beginning of the table. If
 * the first n changes have low_ns <= t, at most 3 more have high_ns <= t and at most 2 more have knot_ns <= t. */
struct fg_table {
	size_t count;
	int64_t low_ns[FG_TABLE_ROOM], high_ns[FG_TABLE_ROOM], knot_ns[FG_TABLE_ROOM];
	int64_t total[FG_TABLE_ROOM];
	double value[FG_TABLE_ROOM], quantum; /* the total less the rounding of restarts; the energy below the next step */
	int64_t from_ns[FG_TABLE_ROOM]; /* a line begins at the knot before, or later if samples show an unchanged value */
	double base[FG_TABLE_ROOM], slope[FG_TABLE_ROOM];
};

/* The least and the greatest power that a step can have, or the integrals of the two. */
struct fg_band {
	double least, most;
};

#endif
