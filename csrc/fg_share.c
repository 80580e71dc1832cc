/* See fg_share.h. Spans, their edges in rings, and the way of an edge from its instant until its span is final. What
 * samples tell is worked out in fg_share_counter.c and fg_share_power.c.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fg_share_state.h"

#include <math.h>
#include <string.h>

/* Past these the running sums begin again from 0, so that they keep their digits over months. */
static const double most_energy = 0x1p46, most_power = 0x1p60;

/* ---- spans and edges ---- */

/* The node is complete: the next one comes. */
static void keep_block(struct fg_share *s, uint64_t node)
{
	uint64_t place = node / FG_SHARE_BLOCK & (s->node_mask / FG_SHARE_BLOCK);
	double g = fg_share_node(s, node)->g;
	bool fresh = node % FG_SHARE_BLOCK == 0;

	s->block_least[place] = fresh || g < s->block_least[place] ? g : s->block_least[place];
	s->block_most[place] = fresh || g > s->block_most[place] ? g : s->block_most[place];
}

enum fg_status fg_share_change_weight(struct fg_share *s, int64_t at_ns, uint64_t more, uint64_t fewer,
									  struct fg_error *err)
{
	struct fg_share_node *last = fg_share_node(s, s->node_end - 1);
	enum fg_status status;

	at_ns = fg_clock_later_ns(at_ns, s->latest_ns);
	at_ns = at_ns < FG_SHARE_EVER_NS ? at_ns : FG_SHARE_EVER_NS - 1;
	s->latest_ns = at_ns;
	if (at_ns > last->at_ns) {
		status = fg_share_room_for_node(s, err);
		if (status != FG_OK)
			return status;
		last = fg_share_node(s, s->node_end - 1);
		keep_block(s, s->node_end - 1);
		*fg_share_node(s, s->node_end++) = (struct fg_share_node){
			at_ns, last->g, last->time_ns + last->g * (double)(at_ns - last->at_ns)};
	}
	s->weight += more;
	s->weight -= fewer;
	fg_share_node(s, s->node_end - 1)->g = s->weight ? 1.0 / (double)s->weight : 0.0;
	return FG_OK;
}

static uint64_t add_edge(struct fg_share *s, uint32_t span, uint64_t prev, uint64_t weight, bool end, bool outer)
{
	uint64_t number = s->edge_end++;

	*fg_share_edge(s, number) = (struct fg_share_edge){
		.at_ns = fg_share_node(s, s->node_end - 1)->at_ns,
		.node = s->node_end - 1,
		.prev = prev,
		.next = FG_SHARE_NONE,
		.weight = weight,
		.span = span,
		.end = end,
		.outer = outer,
	};
	memset(fg_share_cell(s, number, 0), 0, s->channels * sizeof *s->cells);
	if (prev != FG_SHARE_NONE && prev >= s->first_edge)
		fg_share_edge(s, prev)->next = number;
	return number;
}

enum fg_status fg_share_open(struct fg_share *s, int64_t at_ns, uint64_t id, uint64_t weight, bool charged,
							 uint32_t *span, struct fg_error *err)
{
	enum fg_status status = fg_share_room_for_span(s, err);

	if (weight > FG_SHARE_EVER_NS)
		return fg_error_set(err, FG_INVALID, 0, 0, "weight must be at most 2^42, not %g", (double)weight / 0x1p20);
	if (status == FG_OK)
		status = fg_share_room_for_edge(s, err);
	if (status == FG_OK)
		status = fg_share_change_weight(s, at_ns, charged ? weight : 0, 0, err);
	if (status != FG_OK)
		return status;
	struct fg_share_span *it = &s->spans[s->free_span];

	*span = s->free_span;
	s->free_span = it->next_free;
	s->live_spans++;
	*it = (struct fg_share_span){.id = id, .weight = weight, .charged = charged, .open = true};
	it->waits = (uint32_t)s->channels;
	it->begin_time_ns = fg_share_node(s, s->node_end - 1)->time_ns;
	it->edge = add_edge(s, *span, FG_SHARE_NONE, weight, false, true);
	memset(&s->shared[*span * s->channels], 0, s->channels * sizeof *s->shared);
	return FG_OK;
}

/* End the open piece of a span; another one of weight `next` begins, unless it is the last. */
static enum fg_status end_piece(struct fg_share *s, uint32_t span, int64_t at_ns, bool last, uint64_t next,
								struct fg_error *err)
{
	if (span >= s->span_room || !s->spans[span].open)
		return fg_error_set(err, FG_INVALID, 0, 0, "span %u is not open", span);
	struct fg_share_span *it = &s->spans[span];
	enum fg_status status = fg_share_room_for_edge(s, err);

	if (status == FG_OK)
		status = fg_share_change_weight(s, at_ns, it->charged && !last ? next : 0, it->charged ? it->weight : 0, err);
	if (status != FG_OK)
		return status;
	double time_ns = fg_share_node(s, s->node_end - 1)->time_ns;

	it->edge = add_edge(s, span, it->edge, it->weight, true, last);
	it->time_ns += (double)it->weight * (time_ns - it->begin_time_ns);
	it->begin_time_ns = time_ns;
	it->open = !last;
	return FG_OK;
}

enum fg_status fg_share_weigh(struct fg_share *s, uint32_t span, int64_t at_ns, uint64_t weight, struct fg_error *err)
{
	if (weight > FG_SHARE_EVER_NS)
		return fg_error_set(err, FG_INVALID, 0, 0, "weight must be at most 2^42, not %g", (double)weight / 0x1p20);
	if (span < s->span_room && s->spans[span].open && s->spans[span].weight == weight)
		return FG_OK;
	enum fg_status status = end_piece(s, span, at_ns, false, weight, err);

	if (status == FG_OK)
		status = fg_share_room_for_edge(s, err);
	if (status != FG_OK)
		return status;
	s->pieces++;
	s->spans[span].weight = weight;
	s->spans[span].edge = add_edge(s, span, s->spans[span].edge, weight, false, false);
	return FG_OK;
}

enum fg_status fg_share_close(struct fg_share *s, uint32_t span, int64_t at_ns, struct fg_error *err)
{
	return end_piece(s, span, at_ns, true, 0, err);
}

/* ---- from an edge to a share ---- */

void fg_share_settle_edge(struct fg_share *s, size_t channel, uint64_t number, double estimate, double least,
						  double most)
{
	struct fg_share_meter *m = &s->meters[channel];
	uint64_t node = s->plain ? fg_share_plain_edge(s, number)->node : fg_share_edge(s, number)->node;
	double g = fg_share_node(s, node - 1)->g;

	m->now.curve[0] += g * estimate;
	m->now.curve[1] += g * least;
	m->now.curve[2] += g * most;
	*(g > 0.0 ? &m->attributed : &m->unattributed) += estimate;
	if (s->plain != NULL)
		fg_share_plain_settle_edge(s, channel, number);
	else
		memcpy(fg_share_cell(s, number, channel)->curve, m->now.curve, sizeof m->now.curve);
	m->settled = number + 1;
}

/* The end of a piece is settled and nothing later can concern it: add what the piece is charged. */
static void charge(struct fg_share *s, size_t channel, uint64_t number)
{
	struct fg_share_meter *m = &s->meters[channel];
	const struct fg_share_edge *edge = fg_share_edge(s, number);
	const struct fg_share_cell *end = fg_share_cell(s, number, channel);
	bool kept = edge->prev >= s->first_edge;
	const struct fg_share_cell *begin = kept ? fg_share_cell(s, edge->prev, channel)
											 : &s->begun[edge->span * s->channels + channel];
	struct fg_shared *out = &s->shared[edge->span * s->channels + channel];
	double weight = (double)edge->weight;

	out->estimate += weight * (end->curve[0] - begin->curve[0]);
	out->low += weight * (end->curve[1] - begin->curve[1]) + begin->touched_least + end->touched_least;
	out->high += weight * (end->curve[2] - begin->curve[2]) + begin->touched_most + end->touched_most;
	for (int l = 0; l < FG_SHARE_LISTS && m->traits.kind == FG_ENERGY; l++) {
		const struct fg_share_cell *until = number < m->ended ? end : &m->now;
		bool begun = !kept || edge->prev < m->begun[l];

		if (begun && until->most[l] > begin->most[l]) {
			out->high += weight * (until->most[l] - begin->most[l]);
			out->low += weight * (until->least[l] - begin->least[l]);
		}
	}
	if (!edge->outer)
		return;
	if (m->traits.kind == FG_ENERGY && edge->at_ns > m->below_from_ns)
		out->high += (double)m->traits.quantum * fg_share_most_since(s, channel, number);
	if (--s->spans[edge->span].waits == 0)
		s->finished[s->finished_end++ & (s->span_room - 1)] = edge->span;
}

/* An edge leaves the ring: a begin moves into its span, if that still waits for it. */
static void let_go(struct fg_share *s, uint64_t number, uint64_t all_final)
{
	const struct fg_share_edge *edge = fg_share_edge(s, number);
	bool keep = !edge->end && (edge->next == FG_SHARE_NONE || edge->next >= all_final);

	if (!edge->end && !edge->outer)
		s->pieces--;
	for (size_t c = 0; c < s->channels; c++) {
		struct fg_share_meter *m = &s->meters[c];
		struct fg_share_cell *cell = fg_share_cell(s, number, c);

		for (int l = 0; l < FG_SHARE_LISTS; l++) {
			if (number < m->begun[l])
				continue;
			m->begun[l] = number + 1;
			if (!edge->end) {
				cell->most[l] = m->now.most[l];
				cell->least[l] = m->now.least[l];
			}
		}
		if (m->ended <= number)
			m->ended = number + 1;
		if (keep)
			s->begun[edge->span * s->channels + c] = *cell;
	}
}

/* Drop the edges and nodes that no later sample concerns. */
static void retire(struct fg_share *s)
{
	uint64_t all_final = s->edge_end, until_node = s->node_end - 1;
	int64_t until_ns = FG_SHARE_EVER_NS;

	for (size_t c = 0; c < s->channels; c++) {
		struct fg_share_meter *m = &s->meters[c];
		int64_t known_ns = m->below_from_ns < m->reach_at_ns ? m->below_from_ns : m->reach_at_ns;

		all_final = m->final < all_final ? m->final : all_final;
		if (m->traits.kind == FG_ENERGY && !m->finishing)
			until_ns = m->started && known_ns < until_ns ? known_ns : m->started ? until_ns : -FG_SHARE_EVER_NS;
	}
	if (s->plain != NULL)
		fg_share_plain_retire(s, all_final, until_ns);
	while (s->plain == NULL && s->first_edge < all_final && fg_share_edge(s, s->first_edge)->at_ns <= until_ns) {
		let_go(s, s->first_edge, all_final);
		s->first_edge++;
	}
	if (s->first_edge < s->edge_end)
		until_node = (s->plain ? fg_share_plain_edge(s, s->first_edge)->node : fg_share_edge(s, s->first_edge)->node) - 1;
	while (s->first_node < until_node && fg_share_node(s, s->first_node + 1)->at_ns <= until_ns)
		s->first_node++;
	for (size_t c = 0; c < s->channels; c++) {
		struct fg_share_meter *m = &s->meters[c];

		for (int l = 0; l < FG_SHARE_LISTS; l++)
			m->from_node[l] = m->from_node[l] < s->first_node ? s->first_node : m->from_node[l];
		m->until_node = m->until_node < s->first_node ? s->first_node : m->until_node;
	}
}

static void begin_sums_again(struct fg_share *s, size_t channel)
{
	struct fg_share_meter *m = &s->meters[channel];
	struct fg_share_cell by = m->now;

	if (s->plain != NULL) {
		fg_share_plain_begin_again(s, channel);
		return;
	}
	size_t kept = (size_t)(s->edge_end - s->first_edge), all = kept + s->span_room;

	for (size_t i = 0; i < all; i++) {
		struct fg_share_cell *cell = i < kept ? fg_share_cell(s, s->first_edge + i, channel)
											  : &s->begun[(i - kept) * s->channels + channel];

		for (int j = 0; j < 3; j++)
			cell->curve[j] -= by.curve[j];
		for (int l = 0; l < FG_SHARE_LISTS; l++) {
			cell->most[l] -= by.most[l];
			cell->least[l] -= by.least[l];
		}
	}
	memset(&m->now, 0, sizeof m->now);
}

/* Charge the pieces whose ends are settled. */
static void charge_settled(struct fg_share *s, size_t channel)
{
	struct fg_share_meter *m = &s->meters[channel];

	if (m->traits.kind == FG_ENERGY)
		fg_share_settle_counter(s, channel);
	if (s->plain != NULL)
		m->final = m->settled;
	for (; m->final < m->settled; m->final++)
		if (fg_share_edge(s, m->final)->end)
			charge(s, channel, m->final);
	if (fmax(m->now.curve[0], fmax(m->now.most[0], m->now.most[1])) * FG_SHARE_WEIGHT >
		(m->traits.kind == FG_POWER ? most_power : most_energy))
		begin_sums_again(s, channel);
}

enum fg_status fg_share_feed(struct fg_share *s, size_t channel, const struct fg_sample *samples, size_t count,
							 struct fg_error *err)
{
	struct fg_share_meter *m = &s->meters[channel];
	enum fg_status status;

	if (channel >= s->channels || m->finishing)
		return fg_error_set(err, FG_INVALID, 0, 0, "there is no channel %zu to feed", channel);
	status = m->traits.kind == FG_POWER ? fg_share_feed_power(s, channel, samples, count, err)
										: fg_share_feed_counter(s, channel, samples, count, err);
	if (status != FG_OK)
		return status;
	charge_settled(s, channel);
	retire(s);
	if (m->traits.kind == FG_ENERGY && s->plain == NULL && m->started && m->below_from_ns < m->reach_at_ns &&
		s->edge_end - s->first_edge > FG_SHARE_HELD + 4 * (uint64_t)s->live_spans) {
		status = fg_share_part_quantum(s, channel, err);
		retire(s);
	}
	return status;
}

void fg_share_set_period(struct fg_share *s, size_t channel, int64_t period_ns)
{
	s->meters[channel].traits.period_ns = period_ns;
	if (s->meters[channel].resolver != NULL)
		s->meters[channel].resolver->traits.period_ns = period_ns;
}

enum fg_status fg_share_stand_still(struct fg_share *s, size_t channel, int64_t until_at_ns, struct fg_error *err)
{
	struct fg_share_meter *m = &s->meters[channel];
	enum fg_status status = FG_OK;

	if (m->traits.kind != FG_ENERGY || !m->started || m->finishing || until_at_ns <= m->reach_at_ns)
		return FG_OK;
	charge_settled(s, channel);
	status = fg_share_forget_until(s, channel, until_at_ns, err);
	charge_settled(s, channel);
	retire(s);
	return status;
}

enum fg_status fg_share_finish(struct fg_share *s, struct fg_error *err)
{
	for (size_t c = 0; c < s->channels; c++) {
		struct fg_share_meter *m = &s->meters[c];
		enum fg_status status = FG_OK;

		if (m->finishing)
			continue;
		if (m->traits.kind == FG_POWER)
			status = fg_share_finish_power(s, c, err);
		else
			fg_share_finish_counter(s, c);
		if (status != FG_OK)
			return status;
		charge_settled(s, c);
		if (s->plain != NULL)
			fg_share_plain_finish(s, c);
	}
	retire(s);
	return FG_OK;
}

/* Where reads overlap, the curve has one line for two changes, and can leave the bounds of a short span by a little. */
static void hold_estimates(struct fg_shared *shares, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		shares[i].low = fmin(shares[i].low, shares[i].estimate);
		shares[i].high = fmax(shares[i].high, shares[i].estimate);
	}
}

size_t fg_share_take(struct fg_share *s, struct fg_shared_span *spans, struct fg_shared *shares, size_t max)
{
	size_t taken = 0;

	for (; taken < max && s->finished_first < s->finished_end; taken++) {
		uint32_t span = s->finished[s->finished_first++ & (s->span_room - 1)];
		struct fg_share_span *it = &s->spans[span];

		spans[taken] = (struct fg_shared_span){it->id, it->time_ns};
		memcpy(&shares[taken * s->channels], &s->shared[span * s->channels], s->channels * sizeof *shares);
		it->next_free = s->free_span;
		s->free_span = span;
		s->live_spans--;
	}
	hold_estimates(shares, taken * s->channels);
	return taken;
}

double fg_share_attributed(const struct fg_share *s, size_t channel)
{
	return s->meters[channel].attributed;
}

double fg_share_unattributed(const struct fg_share *s, size_t channel)
{
	return s->meters[channel].unattributed;
}

size_t fg_share_spans(const struct fg_share *s)
{
	return s->live_spans;
}

size_t fg_share_edges(const struct fg_share *s)
{
	return (size_t)(s->edge_end - s->first_edge);
}
