/* Shared by the files of fg_share only: what is kept of spans, of their edges, and of each channel.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A span is a chain of pieces of constant weight. A piece has two edges, its begin and its end. Edges and the instants
 * at which they lie (nodes) are kept in rings in time order, and have running numbers. For each channel an edge has a
 * cell: the running sums at its instant. A piece is charged the difference between its two cells. An edge that no
 * later sample can concern leaves its ring; the cell of a begin then moves into its span. */
#ifndef FG_SHARE_STATE_H
#define FG_SHARE_STATE_H

#include "fg_clock.h"
#include "fg_resolver.h"
#include "fg_share.h"

#define FG_SHARE_NONE UINT64_MAX
#define FG_SHARE_NO_SPAN UINT32_MAX
#define FG_SHARE_EVER_NS (INT64_C(1) << 62) /* later than any instant; its negative is earlier */

enum {
	FG_SHARE_MAIN = 0,  /* the growth above one quantum */
	FG_SHARE_BELOW = 1, /* the quantum, which may have been spent since the change before */
	FG_SHARE_LISTS = 2,
	FG_SHARE_BLOCK = 64, /* nodes whose least and greatest g are kept together */
	FG_SHARE_LINES = 8,
	FG_SHARE_KEPT = FG_TABLE_KEPT, /* changes that the mean time between two is of */
	FG_SHARE_HELD = 65536,         /* so many edges may wait for a change of a counter */
};

struct fg_share_node {
	int64_t at_ns;
	double g;       /* from here until the next node */
	double time_ns; /* the integral of g dt until here */
};

struct fg_share_edge {
	int64_t at_ns;
	uint64_t node, prev, next; /* numbers; prev and next are the span's own edges */
	uint64_t weight;           /* of the piece that begins or ends here */
	uint32_t span;
	bool end;   /* the end of a piece; else the begin of one */
	bool outer; /* the first begin or the last end of the span */
};

struct fg_share_cell {
	double curve[3];                                    /* integrals of g over the estimate, the least and the most */
	double most[FG_SHARE_LISTS], least[FG_SHARE_LISTS]; /* sums over the stretches that a piece may contain */
	double touched_most, touched_least;                 /* of f over the stretches that hold this edge */
};

struct fg_share_span {
	uint64_t id, edge, weight; /* the begin of the piece that is open */
	double begin_time_ns, time_ns;
	uint32_t waits; /* channels on which it is not final */
	uint32_t next_free;
	bool charged, open;
};

struct fg_share_line {
	int64_t from_ns, knot_ns;
	double base, rise;
};

/* A change of a counter, as in the table of the resolver; changes[n % FG_SHARE_KEPT] is the n-th. */
struct fg_share_change {
	int64_t low_ns, high_ns, knot_ns, total;
};

struct fg_share_unknown {
	int64_t from_ns, until_ns;
};

struct fg_share_meter {
	struct fg_traits traits;
	double ceiling_per_ns;
	bool started, finishing;
	/* Numbers of the first edge that is not yet settled (its place on the curve is not known), final, ended (the sums
	 * at an end) or begun (the sums at a begin). */
	uint64_t settled, final, ended, begun[FG_SHARE_LISTS];
	uint64_t from_node[FG_SHARE_LISTS], until_node; /* the nodes that hold the ends of the last stretches */
	int64_t until_ns;                               /* the end of the last stretch */
	struct fg_share_cell now;                       /* the running sums */
	double energy, unknown_ns;                      /* the curve at the last settled edge */
	double attributed, unattributed;
	/* counters */
	struct fg_sample last;
	int64_t total, sure_at_ns, reach_at_ns, known_from_ns;
	int64_t below_from_ns; /* the next quantum was spent after this, surely so if `proven` */
	bool proven;
	bool forgot;     /* the growth that comes next may have been spent before `reach_at_ns` */
	bool begun_line; /* the curve has its beginning: the first few changes place it */
	int64_t first_at_ns;
	uint64_t change_count;
	struct fg_share_change changes[FG_SHARE_KEPT]; /* the last ones */
	struct fg_share_line lines[FG_SHARE_LINES];
	struct fg_share_unknown unknowns[FG_SHARE_LINES];
	size_t line_count, unknown_count;
	double unknown_before_ns;
	/* powers: a resolver answers the edges, whose instants lie in a column with a last one that is never reached */
	struct fg_resolver *resolver;
	int64_t *query_at_ns;
	double *answers; /* low, estimate, high: a column after the other */
	size_t query_room, queried;
	uint64_t next_query;
	double power[3];
};

struct fg_share {
	size_t channels;
	struct fg_share_meter *meters;
	fg_uint128 weight; /* of the charged spans that are open */
	uint64_t pieces;   /* pieces beyond the first of their spans that are kept */
	/* rings */
	struct fg_share_edge *edges;
	struct fg_share_cell *cells; /* a row of channels for each edge */
	uint64_t first_edge, edge_end, edge_mask;
	struct fg_share_node *nodes;
	double *block_least, *block_most;
	uint64_t first_node, node_end, node_mask;
	/* spans */
	struct fg_share_span *spans;
	struct fg_share_cell *begun; /* a row for each span: the cells of a begin that left the ring */
	struct fg_shared *shared;    /* a row for each span */
	uint32_t span_room, free_span, live_spans;
	uint32_t *finished; /* a ring with room for all spans */
	uint64_t finished_first, finished_end;
	/* scratch: from each node of a stretch until the end of the stretch */
	double *after_most, *after_least;
	size_t scratch_room;
	int64_t latest_ns; /* no edge may come before this */
};

static inline struct fg_share_edge *fg_share_edge(const struct fg_share *s, uint64_t edge)
{
	return &s->edges[edge & s->edge_mask];
}

static inline struct fg_share_node *fg_share_node(const struct fg_share *s, uint64_t node)
{
	return &s->nodes[node & s->node_mask];
}

static inline struct fg_share_cell *fg_share_cell(const struct fg_share *s, uint64_t edge, size_t channel)
{
	return &s->cells[(edge & s->edge_mask) * s->channels + channel];
}

/* The least and the greatest g from node `from` until the begin of node `until`. Nothing if there is no time between. */
struct fg_share_range {
	double least, most;
};

struct fg_share_range fg_share_range(const struct fg_share *share, uint64_t from, uint64_t until);

/* fg_share_memory.c: room for one more. */
FG_MUST_CHECK enum fg_status fg_share_room_for_edge(struct fg_share *share, struct fg_error *err);
FG_MUST_CHECK enum fg_status fg_share_room_for_node(struct fg_share *share, struct fg_error *err);
FG_MUST_CHECK enum fg_status fg_share_room_for_span(struct fg_share *share, struct fg_error *err);
/* Room for the nodes of a stretch in the scratch columns. */
FG_MUST_CHECK enum fg_status fg_share_scratch(struct fg_share *share, size_t nodes, struct fg_error *err);

/* Add what the curve grew by until an edge, and write the edge's cell. */
void fg_share_settle_edge(struct fg_share *share, size_t channel, uint64_t edge, double estimate, double least,
						  double most);

/* fg_share_counter.c */
FG_MUST_CHECK enum fg_status fg_share_feed_counter(struct fg_share *share, size_t channel,
												   const struct fg_sample *samples, size_t count, struct fg_error *err);
void fg_share_settle_counter(struct fg_share *share, size_t channel);
/* What was spent up to an instant is bounded by the ceiling alone. */
FG_MUST_CHECK enum fg_status fg_share_forget_until(struct fg_share *share, size_t channel, int64_t until_ns,
												   struct fg_error *err);
void fg_share_finish_counter(struct fg_share *share, size_t channel);
/* Let no edge up to now wait for the next change: what is below the next step counts before and after. */
FG_MUST_CHECK enum fg_status fg_share_part_quantum(struct fg_share *share, size_t channel, struct fg_error *err);

/* fg_share_stretch.c: of the growth `amount` was spent within (from_ns, until_ns]. */
FG_MUST_CHECK enum fg_status fg_share_stretch(struct fg_share *share, size_t channel, int list, int64_t from_ns,
											  int64_t until_ns, double amount, bool proven, struct fg_error *err);
/* The most of f over the stretch since `below_from_ns` for the span whose last end is `edge`. */
double fg_share_most_since(const struct fg_share *share, size_t channel, uint64_t edge);

/* fg_share_power.c */
FG_MUST_CHECK enum fg_status fg_share_init_power(struct fg_share_meter *meter, struct fg_error *err);
void fg_share_free_power(struct fg_share_meter *meter);
FG_MUST_CHECK enum fg_status fg_share_feed_power(struct fg_share *share, size_t channel,
												 const struct fg_sample *samples, size_t count, struct fg_error *err);
FG_MUST_CHECK enum fg_status fg_share_finish_power(struct fg_share *share, size_t channel, struct fg_error *err);

#endif
