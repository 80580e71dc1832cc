/* See fg_share_batch.h. From samples to growths, and the curves from which spans are charged.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fg_share_batch_state.h"
#include "fg_share_growth.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
	PORTION = 2048,       /* samples between two looks at the edges: what is kept of both fits the caches */
	MOST_NODES = 1 << 16, /* so many instants may wait for a change of the counter */
};

static const int64_t ever_ns = INT64_C(1) << 62;

enum fg_status fg_share_batch_new(const struct fg_share_columns *spans, const struct fg_share_channel *channel,
								  double *time_ns, struct fg_shared *shares, size_t stride, struct fg_share_batch **out,
								  struct fg_error *err)
{
	struct fg_share_batch *b = calloc(1, sizeof *b);
	struct fg_answers none = {.low = NULL};
	enum fg_status status = b != NULL ? fg_timeline_init(&b->line, spans, err) : FG_OK;

	if (b == NULL)
		status = fg_error_set(err, FG_NO_MEMORY, 0, 0, "no memory for %zu spans", spans->count);
	if (status != FG_OK) {
		fg_share_batch_free(b);
		return status;
	}
	b->channel = *channel;
	b->time_ns = time_ns;
	b->shares = shares;
	b->stride = stride;
	b->settled = 1;
	b->from_ns[FG_BATCH_BELOW] = b->from_ns[FG_BATCH_MAIN] = b->until_ns = -ever_ns;
	fg_resolver_init_instants(&b->resolver, &channel->traits, channel->ceiling_per_ns, NULL, 0, &none);
	*out = b;
	return FG_OK;
}

void fg_share_batch_free(struct fg_share_batch *b)
{
	if (b == NULL)
		return;
	fg_timeline_destroy(&b->line);
	free(b->reach);
	free(b->unknowns);
	free(b);
}

/* ---- the curves ---- */

/* Have the resolver answer the nodes, and behind them an instant that is never reached: a resolver with nothing to
 * answer would pass samples over. */
static void ask(struct fg_share_batch *b)
{
	struct fg_stream *stream = &b->resolver.streams[0];

	stream->at_ns = b->line.at_ns;
	stream->out.low = fg_timeline_column(&b->line, FG_LINE_LOW);
	stream->out.estimate = fg_timeline_column(&b->line, FG_LINE_ESTIMATE);
	stream->out.high = fg_timeline_column(&b->line, FG_LINE_HIGH);
	stream->next = (size_t)(b->settled - b->line.first);
	stream->count = b->line.count + 1;
}

/* How long the energy was unknown until an instant that is not earlier than the ones asked for before, in ns. */
static double unknown_until(struct fg_share_batch *b, int64_t at_ns)
{
	for (; b->unknown_next < b->unknown_count && b->unknowns[b->unknown_next].until_ns <= at_ns; b->unknown_next++)
		b->unknown_before_ns += (double)(b->unknowns[b->unknown_next].until_ns - b->unknowns[b->unknown_next].from_ns);
	if (b->unknown_next == b->unknown_count)
		return b->unknown_before_ns;
	return b->unknown_before_ns + (double)fg_clock_later_ns(at_ns - b->unknowns[b->unknown_next].from_ns, 0);
}

static enum fg_status add_unknown(struct fg_share_batch *b, int64_t from_ns, int64_t until_ns, struct fg_error *err)
{
	if (from_ns >= until_ns)
		return FG_OK;
	if (b->unknown_next == b->unknown_count)
		b->unknown_next = b->unknown_count = 0;
	if (b->unknown_count == b->unknown_room) {
		size_t room = b->unknown_room ? 2 * b->unknown_room : 16;
		struct fg_batch_unknown *wider = realloc(b->unknowns, room * sizeof *wider);

		if (wider == NULL)
			return fg_error_set(err, FG_NO_MEMORY, 0, 0, "no memory for %zu restarts", room);
		b->unknowns = wider;
		b->unknown_room = room;
	}
	b->unknowns[b->unknown_count++] = (struct fg_batch_unknown){from_ns, until_ns};
	return FG_OK;
}

/* What the curves grew by before each node that has its answer, times g; the columns then hold the sums. */
static void integrate(struct fg_share_batch *b, size_t until)
{
	const double *g = fg_timeline_column(&b->line, FG_LINE_G);
	bool power = b->channel.traits.kind == FG_POWER;
	double *estimate = fg_timeline_column(&b->line, FG_LINE_ESTIMATE);
	double *low = fg_timeline_column(&b->line, FG_LINE_LOW), *high = fg_timeline_column(&b->line, FG_LINE_HIGH);

	for (size_t i = (size_t)(b->settled - b->line.first); i < until; i++) {
		bool first = b->line.first + i == 1; /* nothing before it: the curve's zero is wherever it is */
		double grown = first ? 0.0 : estimate[i] - b->before[0];

		b->before[0] = estimate[i];
		estimate[i] = b->curve[0] += g[i - 1] * grown;
		b->drawn[g[i - 1] <= 0.0] += grown;
		if (power) {
			b->curve[1] += first ? 0.0 : g[i - 1] * (low[i] - b->before[1]);
			b->curve[2] += first ? 0.0 : g[i - 1] * (high[i] - b->before[2]);
			b->before[1] = low[i];
			b->before[2] = high[i];
			low[i] = b->curve[1];
		} else if (b->unknown_next < b->unknown_count) {
			double unknown_ns = unknown_until(b, b->line.at_ns[i]);

			b->curve[2] += g[i - 1] * b->channel.ceiling_per_ns * (unknown_ns - b->unknown_ns);
			b->unknown_ns = unknown_ns;
		}
		high[i] = b->curve[2];
	}
}

static void charge(struct fg_share_batch *b, uint32_t span, size_t node, double weight)
{
	struct fg_shared *out = fg_batch_share(b, span);

	out->estimate += weight * fg_timeline_column(&b->line, FG_LINE_ESTIMATE)[node];
	out->high += weight * fg_timeline_column(&b->line, FG_LINE_HIGH)[node];
	if (b->channel.traits.kind == FG_POWER)
		out->low += weight * fg_timeline_column(&b->line, FG_LINE_LOW)[node];
	if (b->time_ns != NULL)
		b->time_ns[span] += weight * fg_timeline_column(&b->line, FG_LINE_TIME)[node];
}

/* Charge the spans up to the nodes that have their answers. */
static void settle(struct fg_share_batch *b)
{
	const struct fg_share_columns *s = b->line.spans;
	size_t until = b->resolver.streams[0].next < b->line.count ? b->resolver.streams[0].next : b->line.count;

	integrate(b, until);
	b->settled = b->line.first + until;
	for (; b->begins_settled < b->line.opened; b->begins_settled++) {
		uint32_t span = fg_share_by_begin(s, b->begins_settled);
		size_t node = (size_t)(b->line.kept[span].begin_node - b->line.first);

		if (node >= until)
			break;
		charge(b, span, node, -fg_batch_weight(b, span));
	}
	for (; b->ends_settled < b->line.closed; b->ends_settled++) {
		uint32_t span = fg_share_by_end(s, b->ends_settled);
		size_t node = (size_t)(b->line.kept[span].end_node - b->line.first);

		if (node >= until)
			break;
		charge(b, span, node, fg_batch_weight(b, span));
	}
}

/* ---- counters ---- */

static int64_t first_edge_ns(const struct fg_share_batch *b, int64_t at_ns)
{
	const struct fg_share_columns *s = b->line.spans;
	int64_t first_ns = s->count > 0 ? s->begin_at_ns[fg_share_by_begin(s, 0)] : at_ns;

	return first_ns < at_ns ? first_ns : at_ns;
}

static enum fg_status open_counter(struct fg_share_batch *b, const struct fg_sample *first, struct fg_error *err)
{
	b->last = *first;
	b->sure_at_ns = b->known_from_ns = first->at_ns + first->half_ns;
	b->reach_at_ns = b->below_from_ns = first->at_ns - first->half_ns - b->channel.traits.period_ns;
	return add_unknown(b, first_edge_ns(b, b->sure_at_ns), b->sure_at_ns, err);
}

static const struct fg_batch_stretch no_stretch = {INT64_MAX, 0.0, false};

/* What the counter hid below its next step counts until an instant. */
static enum fg_status part_quantum(struct fg_share_batch *b, int64_t until_ns, struct fg_error *err)
{
	struct fg_batch_stretch below = {b->below_from_ns, (double)b->channel.traits.quantum, false};

	until_ns = fg_clock_later_ns(until_ns, b->until_ns);
	if (below.from_ns < until_ns)
		b->until_ns = until_ns;
	b->proven = false;
	return fg_batch_stretches(b, &below, &no_stretch, until_ns, err);
}

static enum fg_status feed_restart(struct fg_share_batch *b, int64_t still_ns, struct fg_error *err)
{
	int64_t from_ns = fg_clock_later_ns(b->reach_at_ns, b->known_from_ns);
	enum fg_status status = part_quantum(b, from_ns, err);

	if (status == FG_OK)
		status = add_unknown(b, from_ns, b->sure_at_ns, err);
	b->known_from_ns = fg_clock_later_ns(b->known_from_ns, b->sure_at_ns);
	b->below_from_ns = fg_clock_later_ns(b->below_from_ns, still_ns);
	return status;
}

static enum fg_status feed_growth(struct fg_share_batch *b, int64_t grown, struct fg_error *err)
{
	int64_t after_ns = b->reach_at_ns < b->sure_at_ns ? b->reach_at_ns : b->sure_at_ns - 1;
	int64_t quantum = b->channel.traits.quantum, least = grown < quantum ? grown : quantum;
	struct fg_batch_stretch below = {b->below_from_ns, (double)least, b->proven};
	struct fg_batch_stretch main = {after_ns, (double)(grown - least), true};
	enum fg_status status = fg_batch_stretches(b, &below, &main, b->sure_at_ns, err);

	b->until_ns = b->sure_at_ns;
	if (grown >= quantum) {
		b->below_from_ns = fg_clock_later_ns(b->below_from_ns, after_ns);
		b->proven = true;
	}
	return status;
}

static enum fg_status feed_counter(struct fg_share_batch *b, const struct fg_sample *samples, size_t count,
								   struct fg_error *err)
{
	int64_t period_ns = b->channel.traits.period_ns;
	enum fg_status status = FG_OK;

	for (size_t i = 0; i < count && status == FG_OK; i++) {
		const struct fg_sample *now = &samples[i];
		int64_t still_ns = now->at_ns - now->half_ns - period_ns, grown;
		bool restart;

		b->sure_at_ns = fg_clock_later_ns(b->sure_at_ns, now->at_ns + now->half_ns);
		grown = fg_share_growth(&b->channel.traits, &b->last, now, &restart);
		if (grown > 0 || restart) {
			still_ns = fg_clock_later_ns(still_ns, b->last.at_ns - b->last.half_ns);
			status = restart ? feed_restart(b, still_ns, err) : feed_growth(b, grown, err);
		}
		b->reach_at_ns = fg_clock_later_ns(b->reach_at_ns, still_ns);
		b->last = *now;
	}
	return status;
}

/* ---- both ---- */

/* Let the nodes go that no later sample concerns, and let none wait for ever for a counter's next change. */
static enum fg_status let_go(struct fg_share_batch *b, struct fg_error *err)
{
	enum fg_status status = FG_OK;
	uint64_t before = b->settled - 1;

	if (b->channel.traits.kind == FG_ENERGY) {
		if (b->line.first + b->line.count - b->from_node[FG_BATCH_BELOW] > MOST_NODES &&
			b->below_from_ns < b->reach_at_ns) {
			status = part_quantum(b, b->reach_at_ns, err);
			b->below_from_ns = fg_clock_later_ns(b->below_from_ns, b->until_ns);
		}
		for (int l = 0; l < FG_BATCH_LISTS; l++)
			before = b->from_node[l] < before ? b->from_node[l] : before;
	}
	fg_timeline_drop(&b->line, before);
	return status;
}

static int64_t sure_ns(const struct fg_sample *samples, size_t count)
{
	int64_t latest_ns = samples[0].at_ns + samples[0].half_ns;

	for (size_t i = 1; i < count; i++)
		latest_ns = fg_clock_later_ns(latest_ns, samples[i].at_ns + samples[i].half_ns);
	return latest_ns;
}

static enum fg_status feed_portion(struct fg_share_batch *b, const struct fg_sample *samples, size_t count,
								   struct fg_error *err)
{
	enum fg_status status = fg_timeline_advance(&b->line, sure_ns(samples, count), err);

	if (status != FG_OK)
		return status;
	ask(b);
	fg_resolver_feed(&b->resolver, samples, count);
	if (b->channel.traits.kind == FG_ENERGY)
		status = feed_counter(b, samples, count, err);
	settle(b);
	return status == FG_OK ? let_go(b, err) : status;
}

enum fg_status fg_share_batch_feed(struct fg_share_batch *b, const struct fg_sample *samples, size_t count,
								   struct fg_error *err)
{
	enum fg_status status = FG_OK;

	if (count == 0)
		return FG_OK;
	if (!b->started && b->channel.traits.kind == FG_ENERGY)
		status = open_counter(b, samples, err);
	b->started = true;
	for (size_t taken = 0; taken < count && status == FG_OK; taken += PORTION)
		status = feed_portion(b, samples + taken, count - taken < PORTION ? count - taken : PORTION, err);
	return status;
}

/* No sample came at all: nothing is known but the ceiling. */
static void answer_unknown(struct fg_share_batch *b)
{
	double *estimate = fg_timeline_column(&b->line, FG_LINE_ESTIMATE);
	double *low = fg_timeline_column(&b->line, FG_LINE_LOW), *high = fg_timeline_column(&b->line, FG_LINE_HIGH);

	for (size_t i = 1; i < b->line.count; i++) {
		estimate[i] = low[i] = 0.0;
		high[i] = b->channel.ceiling_per_ns * (double)(b->line.at_ns[i] - b->line.at_ns[1]);
	}
	b->resolver.streams[0].next = b->line.count;
}

enum fg_status fg_share_batch_finish(struct fg_share_batch *b, double drawn[2], struct fg_error *err)
{
	enum fg_status status = fg_timeline_advance(&b->line, INT64_MAX, err);

	if (!b->started)
		b->known_from_ns = b->reach_at_ns = b->below_from_ns = first_edge_ns(b, ever_ns - 1);
	if (status == FG_OK)
		status = add_unknown(b, fg_clock_later_ns(b->reach_at_ns, b->known_from_ns), ever_ns, err);
	if (status != FG_OK)
		return status;
	ask(b);
	if (b->started)
		fg_resolver_finish(&b->resolver);
	else
		answer_unknown(b);
	settle(b);
	if (b->channel.traits.kind == FG_ENERGY)
		fg_batch_finish_stretches(b);
	for (size_t i = 0; i < b->line.spans->count; i++) {
		struct fg_shared *out = &b->shares[i * b->stride];

		/* Where reads overlap, the curve has one line for two changes, and can leave the bounds of a short span. */
		out->low = fmin(out->low, out->estimate);
		out->high = fmax(out->high, out->estimate);
	}
	drawn[0] = b->drawn[0];
	drawn[1] = b->drawn[1];
	return FG_OK;
}
