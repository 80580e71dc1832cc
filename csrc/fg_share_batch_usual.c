/* See fg_share_batch.h. The usual growth: more than a quantum, and the stretch of the quantum begins where the stretch
 * of the growth before it began. It gives what fg_share_batch_stretch.c gives, in fewer loops, because nearly all time
 * goes into loops of a few turns whose number the CPU cannot foresee.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fg_share_batch_state.h"

#include <math.h>

static inline double greater(double a, double b)
{
	return a > b ? a : b;
}

static inline double lesser(double a, double b)
{
	return a < b ? a : b;
}

/* Along the nodes of both stretches, forward and back. */
static enum fg_status look_along(struct fg_share_batch *b, struct fg_batch_pair *p, struct fg_error *err)
{
	size_t first = (size_t)(b->from_node[FG_BATCH_BELOW] - b->line.first), room = b->reach_room, i = 0;
	const double *g = fg_timeline_column(&b->line, FG_LINE_G) + first;
	const int64_t *at_ns = b->line.at_ns + first;
	struct fg_batch_reach *reach = b->reach;
	double below = 0.0, below_least = INFINITY, main = 0.0, main_least = INFINITY, most = 0.0;

	for (; at_ns[i + 1] <= p->from_ns[FG_BATCH_MAIN] && i < room; i++) {
		reach[i].before[FG_BATCH_BELOW] = below;
		below = greater(below, g[i]);
		below_least = lesser(below_least, g[i]);
	}
	p->from[FG_BATCH_MAIN] = first + i;
	do {
		if (i >= room) {
			enum fg_status status = fg_batch_room(b, i + 1, err);

			return status == FG_OK ? look_along(b, p, err) : status;
		}
		reach[i].before[FG_BATCH_BELOW] = below;
		reach[i].before[FG_BATCH_MAIN] = main;
		below = greater(below, g[i]);
		below_least = lesser(below_least, g[i]);
		main = greater(main, g[i]);
		main_least = lesser(main_least, g[i]);
		i++;
	} while (at_ns[i] < p->until_ns);
	p->until = first + i - 1;
	while (i-- > 0)
		reach[i].after = most = greater(most, g[i]);
	p->from[FG_BATCH_BELOW] = first;
	p->most[FG_BATCH_BELOW] = below;
	p->most[FG_BATCH_MAIN] = main;
	p->least[FG_BATCH_BELOW] = below_least;
	p->least[FG_BATCH_MAIN] = main_least;
	return FG_OK;
}

/* Begins inside. Those up to the begin of the shorter stretch get their sums: no later stretch holds them. */
static void take_begins(struct fg_share_batch *b, const struct fg_batch_pair *p, const struct fg_timeline_span *sums)
{
	const struct fg_share_columns *s = b->line.spans;
	size_t i = b->begins_from[FG_BATCH_BELOW], early = i, end = b->line.opened;
	uint64_t first = b->line.first + p->from[FG_BATCH_BELOW];

	for (; i < end; i++) {
		uint32_t span = fg_share_by_begin(s, i);
		struct fg_timeline_span *kept = &b->line.kept[span];
		int64_t at_ns = s->begin_at_ns[span];
		double amount = p->amount[FG_BATCH_BELOW], most;

		if (at_ns >= p->until_ns)
			break;
		if (at_ns <= p->from_ns[FG_BATCH_MAIN]) {
			early++;
			for (int l = 0; l < FG_BATCH_LISTS; l++) {
				kept->most[l] = sums->most[l];
				kept->least[l] = sums->least[l];
			}
		} else {
			amount += p->amount[FG_BATCH_MAIN];
		}
		most = b->reach[kept->begin_node - (uint32_t)first].after;
		if (s->end_at_ns[span] < p->until_ns)
			most = fg_timeline_most(&b->line, kept->begin_node, kept->end_node);
		fg_batch_share(b, span)->high += fg_batch_weight(b, span) * amount * most;
	}
	b->begins_until = i;
	b->begins_from[FG_BATCH_BELOW] = b->begins_from[FG_BATCH_MAIN] = early;
}

/* Ends inside. The new ones get the sums of the stretches that their spans contain. */
static void take_ends(struct fg_share_batch *b, const struct fg_batch_pair *p)
{
	const struct fg_share_columns *s = b->line.spans;
	size_t i = b->ends_from[FG_BATCH_BELOW], early = i, end = b->line.closed, passed = b->ends_until;
	uint64_t first = b->line.first + p->from[FG_BATCH_BELOW];

	for (; i < end; i++) {
		uint32_t span = fg_share_by_end(s, i);
		const struct fg_timeline_span *kept = &b->line.kept[span];
		int64_t end_ns = s->end_at_ns[span], begin_ns = s->begin_at_ns[span];
		double sum = 0.0, low = 0.0;

		if (end_ns >= p->until_ns)
			break;
		const struct fg_batch_reach *reach = &b->reach[kept->end_node - (uint32_t)first];

		if (begin_ns <= p->from_ns[FG_BATCH_BELOW])
			sum = p->amount[FG_BATCH_BELOW] * reach->before[FG_BATCH_BELOW];
		if (end_ns <= p->from_ns[FG_BATCH_MAIN])
			early++;
		else if (begin_ns <= p->from_ns[FG_BATCH_MAIN])
			sum += p->amount[FG_BATCH_MAIN] * reach->before[FG_BATCH_MAIN];
		for (int l = 0; l < FG_BATCH_LISTS && i >= passed; l++) {
			if (begin_ns <= b->from_ns[l] && b->now.most[l] > kept->most[l]) {
				sum += b->now.most[l] - kept->most[l];
				low += b->now.least[l] - kept->least[l];
			}
		}
		fg_batch_share(b, span)->high += fg_batch_weight(b, span) * sum;
		fg_batch_share(b, span)->low += fg_batch_weight(b, span) * low;
	}
	b->ends_until = i;
	b->ends_from[FG_BATCH_BELOW] = b->ends_from[FG_BATCH_MAIN] = early;
}

enum fg_status fg_batch_usual(struct fg_share_batch *b, const struct fg_batch_stretch *below,
							  const struct fg_batch_stretch *main, int64_t until_ns, struct fg_error *err)
{
	struct fg_batch_pair p = {
		.from_ns = {below->from_ns, main->from_ns}, .until_ns = until_ns, .amount = {below->amount, main->amount}};
	enum fg_status status = look_along(b, &p, err);
	struct fg_timeline_span sums = b->now;

	if (status != FG_OK)
		return status;
	sums.most[FG_BATCH_BELOW] += p.amount[FG_BATCH_BELOW] * p.most[FG_BATCH_BELOW];
	sums.least[FG_BATCH_BELOW] += below->proven ? p.amount[FG_BATCH_BELOW] * p.least[FG_BATCH_BELOW] : 0.0;
	take_ends(b, &p);
	take_begins(b, &p, &sums);
	sums.most[FG_BATCH_MAIN] += p.amount[FG_BATCH_MAIN] * p.most[FG_BATCH_MAIN];
	sums.least[FG_BATCH_MAIN] += main->proven ? p.amount[FG_BATCH_MAIN] * p.least[FG_BATCH_MAIN] : 0.0;
	b->now = sums;
	b->until_node = b->line.first + p.until;
	for (int l = 0; l < FG_BATCH_LISTS; l++) {
		b->from_ns[l] = main->from_ns;
		b->from_node[l] = b->line.first + p.from[FG_BATCH_MAIN];
	}
	return FG_OK;
}
