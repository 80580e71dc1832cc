/* The states of a load over time, from the edges of its windows; see fg_follow.h for what they are for.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Pure arithmetic, as fg_follow. */
#ifndef FG_FOLLOW_LOAD_H
#define FG_FOLLOW_LOAD_H

#include "fg_follow.h"

/* The edges of all windows, sorted. */
struct fg_window_edges {
	const int64_t *at_ns;
	const int32_t *names; /* name n of a window that begins, ~n of one that ends */
	size_t count;
	const uint64_t *marks; /* a large random number for each name: their sum recognises what is open */
};

enum { FG_LOAD_REST = 0, FG_LOAD_SHORT_REST = 1, FG_LOAD_SLOTS = 4096, FG_LOAD_MOST = FG_LOAD_SLOTS / 2 };

/* What fg_load_states fills: columns of as many numbers as there are window edges, and of FG_LOAD_MOST + 1. */
struct fg_load {
	int64_t *edges_ns; /* the distinct instants; may be the column of the window edges itself */
	int32_t *states;   /* from each of them on */
	size_t edges, state_count;
	double *time_ns;    /* in each state, up to the last edge */
	int64_t *stretches; /* of each state, up to the last edge */
	int64_t *first;     /* the window edge that led to the state first */
};

/* States are numbered: 0 while no window is open, 1 for such a rest that is no longer than `apart_ns` and between two
 * windows, then by what is open, in the order of first sight. Those past FG_LOAD_MOST share the number FG_LOAD_MOST,
 * which `state_count` leaves out. */
void fg_load_states(const struct fg_window_edges *windows, int64_t apart_ns, struct fg_load *load);

/* How stretches of each state are divided: cell c of state s, first[s] <= c < first[s + 1], lasts until `ends_ns[c]` after
 * the begin of the stretch, and is state states[c] of the divided timeline. The last cell of a state has no end. */
struct fg_load_cells {
	const size_t *first;
	const int64_t *ends_ns;
	const int32_t *states;
};

/* Returns the number of edges of the divided timeline, and writes them if `edges_ns` is not NULL. */
size_t fg_load_divide(const struct fg_timeline *timeline, const struct fg_load_cells *cells, int64_t *edges_ns,
					  int32_t *states);

/* out[i] becomes the value at end_ns[i] less that at begin_ns[i]: that of the first edge at the instant or later, or of the
 * last edge. Fast where the instants are sorted. */
void fg_load_between(const int64_t *edges_ns, const double *values, size_t edges, const int64_t *begin_ns,
					 const int64_t *end_ns, size_t asked, double *out);

#endif
