/* See fg_share_plain.h. SPDX-License-Identifier: Apache-2.0 */
#include "fg_share_state.h"

#include <stdlib.h>
#include <string.h>

enum { LEAST_EDGES = 256 };

static inline double weight_of(const struct fg_share_plain *p, uint32_t span)
{
	return p->columns->weight != NULL ? (double)p->columns->weight[span] : (double)FG_SHARE_WEIGHT;
}

static inline struct fg_shared *row(const struct fg_share *s, uint32_t span, size_t channel)
{
	return &s->plain->shares[(size_t)span * s->channels + channel];
}

/* ---- memory ---- */

enum fg_status fg_share_columns_attach(struct fg_share *s, const struct fg_share_columns *columns, double *time_ns,
									   struct fg_shared *shares, struct fg_error *err)
{
	struct fg_share_plain *p = calloc(1, sizeof *p);

	for (size_t c = 0; c < s->channels; c++)
		if (s->meters[c].traits.kind != FG_ENERGY || columns->count > INT32_MAX) {
			free(p);
			return fg_error_set(err, FG_INVALID, 0, 0, "channel %zu is no counter, or there are 2^31 spans", c);
		}
	if (p == NULL)
		return fg_error_set(err, FG_NO_MEMORY, 0, 0, "no memory for %zu spans", columns->count);
	p->columns = columns;
	p->time_ns = time_ns;
	p->shares = shares;
	p->edge_mask = LEAST_EDGES - 1;
	p->edges = malloc(LEAST_EDGES * sizeof *p->edges);
	p->begin_node = malloc((columns->count + 1) * sizeof *p->begin_node);
	p->passed = malloc(s->channels * sizeof *p->passed);
	if (p->edges == NULL || p->begin_node == NULL || p->passed == NULL) {
		fg_share_plain_free(p);
		return fg_error_set(err, FG_NO_MEMORY, 0, 0, "no memory for %zu spans", columns->count);
	}
	for (size_t c = 0; c < s->channels; c++)
		p->passed[c] = (struct fg_share_plain_passed){{INT64_MIN, INT64_MIN}, INT64_MIN, INT64_MIN};
	s->plain = p;
	return FG_OK;
}

void fg_share_plain_free(struct fg_share_plain *p)
{
	if (p == NULL)
		return;
	free(p->edges);
	free(p->begin_node);
	free(p->passed);
	free(p);
}

static enum fg_status room_for_edge(struct fg_share *s, struct fg_error *err)
{
	struct fg_share_plain *p = s->plain;

	if (s->edge_end - s->first_edge <= p->edge_mask)
		return FG_OK;
	uint64_t mask = 2 * p->edge_mask + 1;
	struct fg_share_plain_edge *wider = malloc((size_t)(mask + 1) * sizeof *wider);

	if (wider == NULL)
		return fg_error_set(err, FG_NO_MEMORY, 0, 0, "no memory for %zu edges of spans", (size_t)(mask + 1));
	for (uint64_t i = s->first_edge; i < s->edge_end; i++)
		wider[i & mask] = p->edges[i & p->edge_mask];
	free(p->edges);
	p->edges = wider;
	p->edge_mask = mask;
	return FG_OK;
}

/* ---- edges ---- */

/* A begin or an end. Spans of no length and of no weight are charged nothing. */
static enum fg_status add_edge(struct fg_share *s, uint32_t span, bool end, struct fg_error *err)
{
	struct fg_share_plain *p = s->plain;
	const struct fg_share_columns *c = p->columns;
	int64_t begin_ns = c->begin_at_ns[span], end_ns = c->end_at_ns[span];
	uint64_t weight = c->weight != NULL ? c->weight[span] : FG_SHARE_WEIGHT;
	enum fg_status status;

	if (weight == 0 || begin_ns == end_ns)
		return FG_OK;
	if (weight > FG_SHARE_EVER_NS)
		return fg_error_set(err, FG_INVALID, 0, 0, "weight must be at most 2^42, not %g", (double)weight / 0x1p20);
	status = room_for_edge(s, err);
	if (status == FG_OK)
		status = fg_share_change_weight(s, end ? end_ns : begin_ns, end ? 0 : weight, end ? weight : 0, err);
	if (status != FG_OK)
		return status;
	uint64_t node = s->node_end - 1;
	double time_ns = fg_share_node(s, node)->time_ns;

	p->time_ns[span] = end ? (double)weight * (time_ns - p->time_ns[span]) : time_ns;
	if (!end)
		p->begin_node[span] = (uint32_t)node;
	*fg_share_plain_edge(s, s->edge_end++) =
		(struct fg_share_plain_edge){.node = node, .other_at_ns = end ? begin_ns : end_ns, .span = span, .end = end};
	return FG_OK;
}

enum fg_status fg_share_plain_run(struct fg_share *s, struct fg_share_columns *c, int64_t until_ns,
								  struct fg_error *err)
{
	enum fg_status status = FG_OK;

	while (status == FG_OK && c->closed < c->count) {
		size_t close = c->by_end != NULL ? c->by_end[c->closed] : c->closed;
		size_t open = c->opened == c->count ? 0 : c->by_begin != NULL ? c->by_begin[c->opened] : c->opened;
		int64_t end_ns = c->end_at_ns[close];
		bool opens = c->opened < c->count && c->begin_at_ns[open] <= end_ns;

		if ((opens ? c->begin_at_ns[open] : end_ns) > until_ns)
			break;
		status = add_edge(s, (uint32_t)(opens ? open : close), !opens, err);
		c->opened += opens;
		c->closed += !opens;
	}
	return status;
}

/* ---- the passes over the edges ---- */

void fg_share_plain_settle_edge(struct fg_share *s, size_t channel, uint64_t number)
{
	const struct fg_share_plain_edge *edge = fg_share_plain_edge(s, number);
	const struct fg_share_cell *now = &s->meters[channel].now;
	struct fg_shared *out = row(s, edge->span, channel);
	double weight = weight_of(s->plain, edge->span);

	s->plain->passed[channel].settled_ns = fg_share_node(s, edge->node)->at_ns;
	if (edge->end) {
		out->estimate = weight * (now->curve[0] - out->estimate);
		out->high += weight * now->curve[2];
	} else {
		out->estimate = now->curve[0];
		out->high -= weight * now->curve[2];
	}
}

/* Ends before `until_ns` add the sums until here; begins up to `from_ns` take them off. An end whose begin was not
 * passed contains no stretch, and its begin is left out when its turn comes. */
static void pass_ends(struct fg_share *s, size_t channel, int64_t until_ns)
{
	struct fg_share_meter *m = &s->meters[channel];
	struct fg_share_plain_passed *passed = &s->plain->passed[channel];

	for (; m->ended < s->edge_end; m->ended++) {
		const struct fg_share_plain_edge *edge = fg_share_plain_edge(s, m->ended);

		if (fg_share_node(s, edge->node)->at_ns >= until_ns)
			break;
		if (!edge->end)
			continue;
		struct fg_shared *out = row(s, edge->span, channel);
		double weight = weight_of(s->plain, edge->span);

		for (int l = 0; l < FG_SHARE_LISTS; l++)
			if (edge->other_at_ns <= passed->begun_ns[l]) {
				out->high += weight * m->now.most[l];
				out->low += weight * m->now.least[l];
			}
	}
	passed->ended_ns = fg_clock_later_ns(passed->ended_ns, until_ns);
}

static void pass_begins(struct fg_share *s, size_t channel, int list, int64_t from_ns)
{
	struct fg_share_meter *m = &s->meters[channel];
	struct fg_share_plain_passed *passed = &s->plain->passed[channel];

	for (; m->begun[list] < s->edge_end; m->begun[list]++) {
		const struct fg_share_plain_edge *edge = fg_share_plain_edge(s, m->begun[list]);

		if (fg_share_node(s, edge->node)->at_ns > from_ns)
			break;
		if (edge->end || edge->other_at_ns < passed->ended_ns)
			continue;
		struct fg_shared *out = row(s, edge->span, channel);
		double weight = weight_of(s->plain, edge->span);

		out->high -= weight * m->now.most[list];
		out->low -= weight * m->now.least[list];
	}
	passed->begun_ns[list] = fg_clock_later_ns(passed->begun_ns[list], from_ns);
}

void fg_share_plain_pass(struct fg_share *s, size_t channel, int list, int64_t from_ns, int64_t until_ns)
{
	pass_ends(s, channel, until_ns);
	pass_begins(s, channel, list, from_ns);
}

/* The number of the first node of a span whose end is at `node`. */
static uint64_t begin_node(const struct fg_share *s, const struct fg_share_plain_edge *end)
{
	return end->node - (uint32_t)((uint32_t)end->node - s->plain->begin_node[end->span]);
}

void fg_share_plain_touch(struct fg_share *s, size_t channel, int list, struct fg_share_within *within, double amount)
{
	const struct fg_share_plain_passed *passed = &s->plain->passed[channel];
	double before = 0.0;

	for (uint64_t i = within->first_edge; i < within->end_edge; i++) {
		const struct fg_share_plain_edge *edge = fg_share_plain_edge(s, i);
		double most;

		for (; within->node < edge->node; within->node++) {
			double g = fg_share_node(s, within->node)->g;

			before = g > before ? g : before;
		}
		if (!edge->end && edge->other_at_ns >= passed->ended_ns)
			most = s->after_most[edge->node - within->first_node];
		else if (!edge->end)
			continue; /* the span is looked at when its end is */
		else if (edge->other_at_ns <= passed->begun_ns[list])
			most = before;
		else
			most = fg_share_range(s, begin_node(s, edge), edge->node).most;
		row(s, edge->span, channel)->high += amount * weight_of(s->plain, edge->span) * most;
	}
}

/* Drop the edges that no later sample concerns; both passes are over for them. */
void fg_share_plain_retire(struct fg_share *s, uint64_t all_final, int64_t until_ns)
{
	if (all_final < s->edge_end) {
		int64_t at_ns = fg_share_edge_at_ns(s, all_final);

		until_ns = at_ns <= until_ns ? at_ns - 1 : until_ns;
	}
	if (s->first_edge == s->edge_end || fg_share_edge_at_ns(s, s->first_edge) > until_ns)
		return;
	for (size_t c = 0; c < s->channels && until_ns < FG_SHARE_EVER_NS; c++) {
		for (int l = 0; l < FG_SHARE_LISTS; l++)
			pass_begins(s, c, l, until_ns);
		pass_ends(s, c, until_ns + 1);
	}
	while (s->first_edge < s->edge_end && fg_share_edge_at_ns(s, s->first_edge) <= until_ns)
		s->first_edge++;
}

void fg_share_plain_begin_again(struct fg_share *s, size_t channel)
{
	struct fg_share_meter *m = &s->meters[channel];
	const struct fg_share_plain_passed *passed = &s->plain->passed[channel];
	const struct fg_share_columns *c = s->plain->columns;

	for (uint32_t i = 0; i < c->count; i++) {
		struct fg_shared *out = row(s, i, channel);
		double weight = weight_of(s->plain, i);

		if (weight == 0.0 || c->begin_at_ns[i] == c->end_at_ns[i])
			continue;
		if (c->begin_at_ns[i] <= passed->settled_ns && c->end_at_ns[i] > passed->settled_ns) {
			out->estimate -= m->now.curve[0];
			out->high += weight * m->now.curve[2];
		}
		for (int l = 0; l < FG_SHARE_LISTS; l++)
			if (c->begin_at_ns[i] <= passed->begun_ns[l] && c->end_at_ns[i] >= passed->ended_ns) {
				out->high += weight * m->now.most[l];
				out->low += weight * m->now.least[l];
			}
	}
	memset(&m->now, 0, sizeof m->now);
}

/* ---- the end ---- */

void fg_share_plain_finish(struct fg_share *s, size_t channel)
{
	struct fg_share_meter *m = &s->meters[channel];
	const struct fg_share_columns *c = s->plain->columns;
	uint64_t first = m->from_node[FG_SHARE_BELOW];

	pass_ends(s, channel, INT64_MAX);
	while (first + 1 < s->node_end && fg_share_node(s, first + 1)->at_ns <= m->below_from_ns)
		first++;
	for (uint64_t i = s->first_edge; i < s->edge_end; i++) {
		const struct fg_share_plain_edge *edge = fg_share_plain_edge(s, i);

		if (!edge->end || fg_share_node(s, edge->node)->at_ns <= m->below_from_ns)
			continue;
		uint64_t from = edge->other_at_ns > m->below_from_ns ? begin_node(s, edge) : first;
		double most = fg_share_range(s, from, edge->node).most;

		row(s, edge->span, channel)->high += (double)m->traits.quantum * weight_of(s->plain, edge->span) * most;
	}
	for (uint32_t i = 0; i < c->count; i++) {
		struct fg_shared *out = row(s, i, channel);

		out->low = out->low > 0.0 ? out->low : 0.0;
		out->low = out->low < out->estimate ? out->low : out->estimate;
		out->high = out->high > out->estimate ? out->high : out->estimate;
	}
}
