/* See fg_share_batch.h. Growths of a counter and the spans that were open while they may have been spent.
 * SPDX-License-Identifier: Apache-2.0
 *
 * As in fg_share_stretch.c a span gets a difference of two running sums for the stretches that it contains; edges that
 * lie inside a stretch are looked at one by one. Both stretches of a growth end at the same instant, so one look at
 * their nodes serves both. */
#include "fg_share_batch_state.h"

#include <math.h>
#include <stdlib.h>

static inline double greater(double a, double b)
{
	return a > b ? a : b;
}

static inline double lesser(double a, double b)
{
	return a < b ? a : b;
}

/* Ends before the stretch's end that have been passed by none before: the sums of all stretches until here. */
static void pass_ends(struct fg_share_batch *b, int64_t until_ns)
{
	const struct fg_share_columns *s = b->line.spans;

	for (; b->ends_until < b->line.closed; b->ends_until++) {
		uint32_t span = fg_share_by_end(s, b->ends_until);

		if (s->end_at_ns[span] >= until_ns)
			break;
		struct fg_shared *out = fg_batch_share(b, span);
		double weight = fg_batch_weight(b, span);

		for (int l = 0; l < FG_BATCH_LISTS; l++) {
			const struct fg_timeline_span *begun = &b->line.kept[span];

			if (s->begin_at_ns[span] <= b->from_ns[l] && b->now.most[l] > begun->most[l]) {
				out->high += weight * (b->now.most[l] - begun->most[l]);
				out->low += weight * (b->now.least[l] - begun->least[l]);
			}
		}
	}
}

/* Begins up to the stretch's begin: their sums are those until here. The ends up to there cannot be inside. */
static void pass_begins(struct fg_share_batch *b, int l, int64_t from_ns)
{
	const struct fg_share_columns *s = b->line.spans;
	const int64_t *at_ns = b->line.at_ns;
	size_t node = (size_t)(b->from_node[l] - b->line.first);

	b->from_ns[l] = fg_clock_later_ns(b->from_ns[l], from_ns);
	for (; b->begins_from[l] < b->line.opened; b->begins_from[l]++) {
		uint32_t span = fg_share_by_begin(s, b->begins_from[l]);

		if (s->begin_at_ns[span] > from_ns)
			break;
		b->line.kept[span].most[l] = b->now.most[l];
		b->line.kept[span].least[l] = b->now.least[l];
	}
	while (b->ends_from[l] < b->line.closed && s->end_at_ns[fg_share_by_end(s, b->ends_from[l])] <= from_ns)
		b->ends_from[l]++;
	while (at_ns[node + 1] <= from_ns)
		node++;
	b->from_node[l] = b->line.first + node;
}

enum fg_status fg_batch_room(struct fg_share_batch *b, size_t nodes, struct fg_error *err)
{
	if (nodes <= b->reach_room)
		return FG_OK;
	struct fg_batch_reach *reach = realloc(b->reach, 2 * nodes * sizeof *reach);

	if (reach == NULL)
		return fg_error_set(err, FG_NO_MEMORY, 0, 0, "no memory for %zu instants", nodes);
	b->reach = reach;
	b->reach_room = 2 * nodes;
	return FG_OK;
}

/* From the end backward: the greatest g from each node on. */
static void look_back(struct fg_share_batch *b, struct fg_batch_pair *p)
{
	const double *g = fg_timeline_column(&b->line, FG_LINE_G);
	size_t first = p->from[FG_BATCH_BELOW], half = p->from[FG_BATCH_MAIN];
	double least = INFINITY, most = 0.0;

	for (size_t node = p->until + 1; node-- > half;) {
		most = greater(most, g[node]);
		least = lesser(least, g[node]);
		b->reach[node - first].after = most;
	}
	p->least[FG_BATCH_MAIN] = least;
	p->most[FG_BATCH_MAIN] = most;
	for (size_t node = half; node-- > first;) {
		most = greater(most, g[node]);
		least = lesser(least, g[node]);
		b->reach[node - first].after = most;
	}
	p->least[FG_BATCH_BELOW] = least;
	p->most[FG_BATCH_BELOW] = most;
}

/* The first rank of those of the lists that have a stretch. */
static size_t first_of(const struct fg_batch_pair *p, const size_t ranks[FG_BATCH_LISTS])
{
	bool below = p->amount[FG_BATCH_BELOW] > 0.0, main = p->amount[FG_BATCH_MAIN] > 0.0;

	if (below && main)
		return ranks[0] < ranks[1] ? ranks[0] : ranks[1];
	return ranks[below ? FG_BATCH_BELOW : FG_BATCH_MAIN];
}

/* Spans that begin inside: f is 0 somewhere, so only the most counts. */
static void touch_begins(struct fg_share_batch *b, const struct fg_batch_pair *p)
{
	const struct fg_share_columns *s = b->line.spans;
	size_t first = first_of(p, b->begins_from);
	size_t from = p->from[FG_BATCH_BELOW] + (size_t)b->line.first;

	for (size_t i = first; i < b->begins_until; i++) {
		uint32_t span = fg_share_by_begin(s, i);
		uint32_t node = b->line.kept[span].begin_node;
		double amount = s->begin_at_ns[span] > p->from_ns[FG_BATCH_MAIN] ? p->amount[FG_BATCH_MAIN] : 0.0;
		double most = b->reach[node - from].after;

		amount += s->begin_at_ns[span] > p->from_ns[FG_BATCH_BELOW] ? p->amount[FG_BATCH_BELOW] : 0.0;
		if (s->end_at_ns[span] < p->until_ns)
			most = fg_timeline_most(&b->line, node, b->line.kept[span].end_node);
		fg_batch_share(b, span)->high += fg_batch_weight(b, span) * amount * most;
	}
}

/* Spans that end inside and began before. */
static void touch_ends(struct fg_share_batch *b, const struct fg_batch_pair *p)
{
	const struct fg_share_columns *s = b->line.spans;
	const double *g = fg_timeline_column(&b->line, FG_LINE_G);
	size_t first = first_of(p, b->ends_from);
	size_t node = p->from[FG_BATCH_BELOW], half = p->from[FG_BATCH_MAIN];
	double most = 0.0, main_most = 0.0;

	for (size_t i = first; i < b->ends_until; i++) {
		uint32_t span = fg_share_by_end(s, i);
		size_t end = (size_t)(b->line.kept[span].end_node - b->line.first);
		int64_t begin_ns = s->begin_at_ns[span];
		double sum;

		for (; node < end; node++) {
			most = greater(most, g[node]);
			main_most = node >= half ? greater(main_most, g[node]) : 0.0;
		}
		sum = begin_ns <= p->from_ns[FG_BATCH_BELOW] ? p->amount[FG_BATCH_BELOW] * most : 0.0;
		sum += begin_ns <= p->from_ns[FG_BATCH_MAIN] ? p->amount[FG_BATCH_MAIN] * main_most : 0.0;
		fg_batch_share(b, span)->high += fg_batch_weight(b, span) * sum;
	}
}

enum fg_status fg_batch_stretches(struct fg_share_batch *b, const struct fg_batch_stretch *below,
								  const struct fg_batch_stretch *main, int64_t until_ns, struct fg_error *err)
{
	const struct fg_share_columns *s = b->line.spans;
	const struct fg_batch_stretch *both[FG_BATCH_LISTS] = {below, main};
	struct fg_batch_pair p = {.until_ns = until_ns};
	bool any = false;

	if (below->amount > 0.0 && main->amount > 0.0 && below->from_ns == b->from_ns[FG_BATCH_BELOW] &&
		below->from_ns == b->from_ns[FG_BATCH_MAIN] && below->from_ns <= main->from_ns && main->from_ns < until_ns)
		return fg_batch_usual(b, below, main, until_ns, err);
	for (int l = 0; l < FG_BATCH_LISTS; l++) {
		bool some = both[l]->amount > 0.0 && both[l]->from_ns < until_ns;

		if (some && !any)
			pass_ends(b, until_ns);
		if (some)
			pass_begins(b, l, both[l]->from_ns);
		any = any || some;
		p.amount[l] = some ? both[l]->amount : 0.0;
		p.from_ns[l] = some ? both[l]->from_ns : until_ns;
	}
	if (!any)
		return FG_OK;
	size_t node = (size_t)(b->until_node - b->line.first);

	while (b->line.at_ns[node + 1] < until_ns)
		node++;
	b->until_node = b->line.first + node;
	while (b->begins_until < b->line.opened && s->begin_at_ns[fg_share_by_begin(s, b->begins_until)] < until_ns)
		b->begins_until++;
	p.until = node;
	for (int l = 0; l < FG_BATCH_LISTS; l++)
		p.from[l] = p.amount[l] > 0.0 ? (size_t)(b->from_node[l] - b->line.first) : node + 1;
	if (p.from[FG_BATCH_BELOW] > p.from[FG_BATCH_MAIN])
		p.from[FG_BATCH_BELOW] = p.from[FG_BATCH_MAIN];
	enum fg_status status = fg_batch_room(b, node + 1 - p.from[FG_BATCH_BELOW], err);

	if (status != FG_OK)
		return status;
	look_back(b, &p);
	touch_begins(b, &p);
	touch_ends(b, &p);
	for (int l = 0; l < FG_BATCH_LISTS; l++) {
		if (p.amount[l] <= 0.0)
			continue;
		b->now.most[l] += p.amount[l] * p.most[l];
		b->now.least[l] += both[l]->proven ? p.amount[l] * p.least[l] : 0.0;
	}
	if (p.amount[FG_BATCH_MAIN] > 0.0) /* the next stretch of a quantum begins no earlier */
		pass_begins(b, FG_BATCH_BELOW, main->from_ns);
	return FG_OK;
}

void fg_batch_finish_stretches(struct fg_share_batch *b)
{
	const struct fg_share_columns *s = b->line.spans;
	double quantum = (double)b->channel.traits.quantum;

	pass_ends(b, INT64_MAX);
	pass_begins(b, FG_BATCH_BELOW, b->below_from_ns);
	for (size_t i = b->ends_from[FG_BATCH_BELOW]; i < s->count; i++) {
		uint32_t span = fg_share_by_end(s, i);
		bool inside = s->begin_at_ns[span] > b->below_from_ns;
		uint64_t node = inside ? b->line.kept[span].begin_node : b->from_node[FG_BATCH_BELOW];

		fg_batch_share(b, span)->high += fg_batch_weight(b, span) * quantum *
										 fg_timeline_most(&b->line, node, b->line.kept[span].end_node);
	}
}
