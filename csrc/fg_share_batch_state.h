/* Shared by the files of fg_share_batch only. SPDX-License-Identifier: Apache-2.0 */
#ifndef FG_SHARE_BATCH_STATE_H
#define FG_SHARE_BATCH_STATE_H

#include "fg_clock.h"
#include "fg_resolver.h"
#include "fg_share_batch.h"
#include "fg_share_timeline.h"

/* Of the growth `amount` was spent within (from_ns, until_ns]; surely so if `proven`. */
struct fg_batch_stretch {
	int64_t from_ns;
	double amount;
	bool proven;
};

/* Two stretches that end together, their nodes from `from` on (numbers less line.first), and what is known of g. */
struct fg_batch_pair {
	int64_t from_ns[FG_BATCH_LISTS], until_ns;
	double amount[FG_BATCH_LISTS], least[FG_BATCH_LISTS], most[FG_BATCH_LISTS];
	size_t from[FG_BATCH_LISTS], until;
};

/* Of a node of two stretches: the greatest g from the begin of each until the node, and from it until their end. */
struct fg_batch_reach {
	double before[FG_BATCH_LISTS], after;
};

struct fg_share_batch {
	struct fg_share_channel channel;
	struct fg_timeline line;
	double *time_ns;
	struct fg_shared *shares;
	size_t stride;
	/* the curves */
	struct fg_resolver resolver;
	uint64_t settled; /* the first node without an answer */
	size_t begins_settled, ends_settled;
	double before[3], curve[3], drawn[2];
	/* stretches */
	struct fg_timeline_span now;     /* the running sums */
	int64_t from_ns[FG_BATCH_LISTS]; /* begins up to here have their sums */
	uint64_t from_node[FG_BATCH_LISTS], until_node;
	size_t begins_from[FG_BATCH_LISTS]; /* by rank: the first begin after the stretch's begin */
	size_t ends_from[FG_BATCH_LISTS];   /* the first end after it */
	size_t begins_until, ends_until;    /* the first at or after the stretch's end */
	struct fg_batch_reach *reach;
	size_t reach_room;
	/* the counter, as in fg_share_counter.c */
	bool started, proven;
	struct fg_sample last;
	int64_t sure_at_ns, reach_at_ns, known_from_ns, below_from_ns, until_ns;
	struct fg_batch_unknown {
		int64_t from_ns, until_ns;
	} * unknowns;
	size_t unknown_next, unknown_count, unknown_room;
	double unknown_before_ns, unknown_ns;
};

static inline double fg_batch_weight(const struct fg_share_batch *b, uint32_t span)
{
	return b->line.spans->weight != NULL ? (double)b->line.spans->weight[span] : (double)FG_SHARE_WEIGHT;
}

static inline struct fg_shared *fg_batch_share(const struct fg_share_batch *b, uint32_t span)
{
	return &b->shares[span * b->stride];
}

/* fg_share_batch_stretch.c: take two stretches with the same end; an amount of 0 is none. */
FG_MUST_CHECK enum fg_status fg_batch_stretches(struct fg_share_batch *b, const struct fg_batch_stretch *below,
												const struct fg_batch_stretch *main, int64_t until_ns,
												struct fg_error *err);
/* fg_share_batch_usual.c: the same for two with amounts, if the begins up to below->from_ns have their sums. */
FG_MUST_CHECK enum fg_status fg_batch_usual(struct fg_share_batch *b, const struct fg_batch_stretch *below,
											const struct fg_batch_stretch *main, int64_t until_ns,
											struct fg_error *err);
/* Room in `reach` for so many nodes. */
FG_MUST_CHECK enum fg_status fg_batch_room(struct fg_share_batch *b, size_t nodes, struct fg_error *err);
/* The ends that no stretch passed; and up to one quantum more for spans that ended after `below_from_ns`. */
void fg_batch_finish_stretches(struct fg_share_batch *b);

#endif
