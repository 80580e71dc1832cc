/* Shared by the files of fg_share only: spans that are known beforehand, each of one weight, on counters only.
 * SPDX-License-Identifier: Apache-2.0
 *
 * All samples are there before a result is asked for, so nothing has to become final on the way. Then a span needs no
 * record of its own: its edges add to and take from its row of the result as the running sums pass them, and what a
 * pass found out before follows from the instants of its two edges. */
#ifndef FG_SHARE_PLAIN_H
#define FG_SHARE_PLAIN_H

#include "fg_share_columns.h"

struct fg_share_plain_edge {
	uint64_t node;
	int64_t other_at_ns; /* of the span's other edge */
	uint32_t span;
	bool end;
};

/* Up to where the edges of one channel were passed. */
struct fg_share_plain_passed {
	int64_t begun_ns[2]; /* begins up to here, by list */
	int64_t ended_ns;    /* ends before this */
	int64_t settled_ns;  /* the last edge whose place on the curve is known */
};

struct fg_share_plain {
	const struct fg_share_columns *columns;
	double *time_ns;
	struct fg_shared *shares; /* a row of channels for each span */
	struct fg_share_plain_edge *edges;
	uint64_t edge_mask;
	uint32_t *begin_node; /* by span: the low bits of the number of its first node */
	struct fg_share_plain_passed *passed;
};

#endif
