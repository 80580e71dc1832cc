/* The edges of spans that are known beforehand, in the order of time, for fg_share_batch.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Instants at which spans begin or end are nodes. Nodes have running numbers; a node that no later sample concerns is
 * dropped, so the columns stay short. A span's begin and end keep the numbers of their nodes. */
#ifndef FG_SHARE_TIMELINE_H
#define FG_SHARE_TIMELINE_H

#include "fg_share_columns.h"

#include <stdbool.h>

enum { FG_TIMELINE_BLOCK = 64 }; /* nodes whose greatest g is kept together */

enum fg_timeline_column {
	FG_LINE_G,    /* 1 / the sum of the weights from the node until the next one; 0 where no span is open */
	FG_LINE_TIME, /* the integral of g dt until the node */
	FG_LINE_ESTIMATE,
	FG_LINE_LOW,
	FG_LINE_HIGH, /* a resolver's answers at the node; then the integrals of g over them */
	FG_LINE_COLUMNS
};

enum fg_batch_list {
	FG_BATCH_BELOW, /* one quantum, which may have been spent since the change before */
	FG_BATCH_MAIN,  /* the growth above it */
	FG_BATCH_LISTS
};

/* What is kept of a span. */
struct fg_timeline_span {
	/* Sums over all stretches of a list before its begin, of amount times the least and the most g. */
	double least[FG_BATCH_LISTS], most[FG_BATCH_LISTS];
	uint32_t begin_node, end_node;
};

struct fg_timeline {
	const struct fg_share_columns *spans;
	size_t opened, closed; /* edges that have their node */
	fg_uint128 weight;
	uint64_t first; /* the number of the first node that is kept: a multiple of a block */
	size_t count, room;
	int64_t *at_ns;  /* behind the last node an instant that is never reached */
	double *columns; /* FG_LINE_COLUMNS of `room` each */
	double *block_most;
	struct fg_timeline_span *kept;
};

static inline double *fg_timeline_column(const struct fg_timeline *line, enum fg_timeline_column column)
{
	return line->columns + (size_t)column * line->room;
}

FG_MUST_CHECK enum fg_status fg_timeline_init(struct fg_timeline *line, const struct fg_share_columns *spans,
											  struct fg_error *err);
void fg_timeline_destroy(struct fg_timeline *line);

/* Make the nodes of all edges up to an instant. */
FG_MUST_CHECK enum fg_status fg_timeline_advance(struct fg_timeline *line, int64_t until_ns, struct fg_error *err);

/* Nodes before this number may go. */
void fg_timeline_drop(struct fg_timeline *line, uint64_t before);

/* The greatest g from node `from` until the begin of node `until`; 0 if there is no time between. */
double fg_timeline_most(const struct fg_timeline *line, uint64_t from, uint64_t until);

#endif
