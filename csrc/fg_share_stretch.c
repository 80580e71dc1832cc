/* See fg_share.h. One growth of a counter and the spans that were open while it may have been spent.
 *
 * The trick: stretches move to the right, so a piece contains a run of them, whose amounts times the least and the most
 * g are a difference of two running sums. Only the few stretches that hold an edge are looked at edge by edge: from the
 * begin of the stretch forward for the ends of spans, from its end backward for their begins.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fg_share_state.h"

#include <math.h>

static inline double lesser(double a, double b)
{
	return a < b ? a : b;
}

static inline double greater(double a, double b)
{
	return a > b ? a : b;
}

struct fg_share_range fg_share_range(const struct fg_share *share, uint64_t from, uint64_t until)
{
	struct fg_share_range range = {INFINITY, 0.0};

	while (from < until) {
		uint64_t block = from / FG_SHARE_BLOCK, after = from + FG_SHARE_BLOCK;
		bool whole = from % FG_SHARE_BLOCK == 0 && after <= until && after < share->node_end;
		uint64_t place = block & (share->node_mask / FG_SHARE_BLOCK);
		double g = fg_share_node(share, from)->g;

		range.least = lesser(range.least, whole ? share->block_least[place] : g);
		range.most = greater(range.most, whole ? share->block_most[place] : g);
		from = whole ? after : from + 1;
	}
	return range;
}

static void widen(struct fg_share_range *f, double weight, struct fg_share_range g)
{
	if (g.least == INFINITY) /* no time */
		return;
	f->least = lesser(f->least, weight * g.least);
	f->most = greater(f->most, weight * g.most);
}

static struct fg_share_range after(const struct fg_share *share, const struct fg_share_within *s, uint64_t node)
{
	size_t i = node - s->first_node;

	return (struct fg_share_range){s->pieces ? share->after_least[i] : 0.0, share->after_most[i]};
}

/* The least and the most of f over the stretch, for the span of `*number`, the first of its edges that lies inside.
 * `*number` becomes the last of them: a piece that ended before it may have been charged already. */
static struct fg_share_range of_span(const struct fg_share *share, const struct fg_share_within *s, uint64_t *number)
{
	const struct fg_share_edge *edge = fg_share_edge(share, *number);
	struct fg_share_range f = {INFINITY, 0.0};

	if (edge->end)
		widen(&f, edge->weight, s->before);
	else
		f.least = 0.0;
	for (;;) {
		if (edge->end) {
			if (edge->outer)
				break;
			*number = edge->next;
			edge = fg_share_edge(share, *number);
		}
		if (edge->next == FG_SHARE_NONE || edge->next >= s->end_edge) {
			widen(&f, edge->weight, after(share, s, edge->node));
			return f;
		}
		const struct fg_share_edge *end = fg_share_edge(share, edge->next);
		widen(&f, edge->weight, fg_share_range(share, edge->node, end->node));
		*number = edge->next;
		edge = end;
	}
	f.least = 0.0;
	return f;
}

/* From the end of the stretch backward: the least and the most g from each node on. Returns those of all. */
static struct fg_share_range look_back(struct fg_share *share, const struct fg_share_within *s)
{
	struct fg_share_range range = {INFINITY, 0.0};

	for (uint64_t node = s->end_node; node-- > s->first_node;) {
		double g = fg_share_node(share, node)->g;

		range.most = greater(range.most, g);
		range.least = lesser(range.least, g);
		share->after_most[node - s->first_node] = range.most;
		if (s->pieces)
			share->after_least[node - s->first_node] = range.least;
	}
	return range;
}

static void touch_edges(struct fg_share *share, size_t channel, struct fg_share_within *s, double amount, bool proven)
{
	for (uint64_t i = s->first_edge; i < s->end_edge; i++) {
		const struct fg_share_edge *edge = fg_share_edge(share, i);
		struct fg_share_cell *cell = fg_share_cell(share, i, channel);

		for (; s->node < edge->node; s->node++) {
			double g = fg_share_node(share, s->node)->g;

			s->before.least = lesser(s->before.least, g);
			s->before.most = greater(s->before.most, g);
		}
		if (edge->prev != FG_SHARE_NONE && edge->prev >= s->first_edge)
			continue; /* the span was looked at when its first edge inside was */
		if (edge->end && edge->outer) {
			cell->touched_most += amount * (double)edge->weight * s->before.most;
		} else if (!edge->end && edge->next >= s->end_edge) {
			cell->touched_most += amount * (double)edge->weight * share->after_most[edge->node - s->first_node];
		} else {
			uint64_t last = i;
			struct fg_share_range f = of_span(share, s, &last);

			cell = fg_share_cell(share, last, channel);
			cell->touched_most += amount * f.most;
			cell->touched_least += proven && f.least < INFINITY ? amount * f.least : 0.0;
		}
	}
}

/* Write the sums until here for the ends before the stretch's end and the begins up to its begin, which lie outside. */
static void pass_edges(struct fg_share *share, size_t channel, int list, int64_t from_ns, int64_t until_ns)
{
	struct fg_share_meter *m = &share->meters[channel];

	for (; m->ended < share->edge_end && fg_share_edge(share, m->ended)->at_ns < until_ns; m->ended++) {
		struct fg_share_cell *cell = fg_share_cell(share, m->ended, channel);

		for (int l = 0; l < FG_SHARE_LISTS && fg_share_edge(share, m->ended)->end; l++) {
			cell->most[l] = m->now.most[l];
			cell->least[l] = m->now.least[l];
		}
	}
	for (; m->begun[list] < share->edge_end && fg_share_edge(share, m->begun[list])->at_ns <= from_ns;
		 m->begun[list]++) {
		struct fg_share_cell *cell = fg_share_cell(share, m->begun[list], channel);

		if (!fg_share_edge(share, m->begun[list])->end) {
			cell->most[list] = m->now.most[list];
			cell->least[list] = m->now.least[list];
		}
	}
}

enum fg_status fg_share_stretch(struct fg_share *share, size_t channel, int list, int64_t from_ns, int64_t until_ns,
								double amount, bool proven, struct fg_error *err)
{
	struct fg_share_meter *m = &share->meters[channel];
	uint64_t *first = &m->from_node[list];

	if (from_ns >= until_ns || amount <= 0.0)
		return FG_OK;
	m->until_ns = until_ns;
	if (share->plain != NULL)
		fg_share_plain_pass(share, channel, list, from_ns, until_ns);
	else
		pass_edges(share, channel, list, from_ns, until_ns);
	while (*first + 1 < share->node_end && fg_share_node(share, *first + 1)->at_ns <= from_ns)
		++*first;
	if (m->until_node < *first)
		m->until_node = *first;
	while (m->until_node + 1 < share->node_end && fg_share_node(share, m->until_node + 1)->at_ns < until_ns)
		m->until_node++;
	struct fg_share_within s = {*first, m->until_node + 1, m->begun[list], m->ended, {INFINITY, 0.0},
						*first, share->pieces > 0};
	struct fg_share_range all = {fg_share_node(share, *first)->g, fg_share_node(share, *first)->g};

	if (s.first_edge < s.end_edge) {
		enum fg_status status = fg_share_scratch(share, s.end_node - s.first_node, err);

		if (status != FG_OK)
			return status;
		all = look_back(share, &s);
		if (share->plain != NULL)
			fg_share_plain_touch(share, channel, list, &s, amount);
		else
			touch_edges(share, channel, &s, amount, proven);
	}
	m->now.most[list] += amount * all.most;
	m->now.least[list] += proven ? amount * all.least : 0.0;
	return FG_OK;
}

double fg_share_most_since(const struct fg_share *share, size_t channel, uint64_t number)
{
	const struct fg_share_meter *m = &share->meters[channel];
	uint64_t first = m->from_node[FG_SHARE_BELOW];
	double most = 0.0;

	while (first + 1 < share->node_end && fg_share_node(share, first + 1)->at_ns <= m->below_from_ns)
		first++;
	while (number != FG_SHARE_NONE && number >= share->first_edge) {
		const struct fg_share_edge *end = fg_share_edge(share, number);

		if (end->at_ns <= m->below_from_ns)
			break;
		bool kept = end->prev >= share->first_edge;
		const struct fg_share_edge *begin = kept ? fg_share_edge(share, end->prev) : NULL;
		bool inside = kept && begin->at_ns > m->below_from_ns;
		struct fg_share_range g = fg_share_range(share, inside ? begin->node : first, end->node);

		most = greater(most, (double)end->weight * g.most);
		number = inside ? begin->prev : FG_SHARE_NONE;
	}
	return most;
}
