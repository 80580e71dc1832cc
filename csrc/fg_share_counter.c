/* See fg_share.h. Counters: from samples to growths and the curve of the estimate. What a sample tells is worked out as
 * in fg_resolver.c, one change at a time. SPDX-License-Identifier: Apache-2.0 */
#include "fg_share_growth.h"
#include "fg_share_state.h"

#include <math.h>
#include <string.h>

/* ---- the curve ---- */

static inline const struct fg_share_change *change(const struct fg_share_meter *m, uint64_t number)
{
	return &m->changes[number % FG_SHARE_KEPT];
}

/* The mean time between the changes that are kept; see mean_period_ns() in fg_resolver.c. */
static double mean_period_ns(const struct fg_share_meter *m)
{
	uint64_t last = m->change_count, first = last < FG_SHARE_KEPT ? 1 : last - FG_SHARE_KEPT + 1;
	double grown = 0.0, power = 0.0;

	for (uint64_t i = first; i < last; i++) {
		double growth = (double)(change(m, i + 1)->total - change(m, i)->total);

		if (growth > 0.0) {
			grown += growth;
			power += growth / (double)fg_clock_later_ns(change(m, i + 1)->knot_ns - change(m, i)->knot_ns, 1);
		}
	}
	return power > 0.0 ? fmin(grown / power, (double)m->traits.period_ns) : (double)m->traits.period_ns;
}

/* What the next change will show if the load goes on, up to an instant after the last one: the counter lags. See
 * unseen_ns() and answer_slowly() in fg_resolver.c. */
static double unseen(const struct fg_share_meter *m, const struct fg_share_line *last, int64_t at_ns)
{
	double slope = last->rise / (double)fg_clock_later_ns(last->knot_ns - last->from_ns, 1);
	double period_ns = mean_period_ns(m);
	int64_t still_ns = m->last.at_ns - last->knot_ns, until_ns = at_ns < m->last.at_ns ? at_ns : m->last.at_ns;
	double past_ns = (double)fg_clock_later_ns(until_ns - m->reach_at_ns, 0);

	if (still_ns >= m->traits.period_ns)
		return 0.0;
	double lags_ns = fmax(fmin(period_ns, 2.0 * (2.0 * period_ns - (double)still_ns)), 0.0);
	double more = slope * fmin((double)fg_clock_later_ns(until_ns - last->knot_ns, 0), lags_ns);

	return fmin(more, (double)m->traits.quantum + m->ceiling_per_ns * past_ns);
}

/* The likely energy until an instant that is not earlier than the ones asked for before. Only this function knows how
 * the estimate runs between two changes. */
static double energy_until(struct fg_share_meter *m, int64_t at_ns)
{
	size_t done = 0;

	while (done + 1 < m->line_count && m->lines[done].knot_ns <= at_ns)
		done++;
	if (done > 0) {
		m->line_count -= done;
		memmove(m->lines, m->lines + done, m->line_count * sizeof *m->lines);
	}
	const struct fg_share_line *line = &m->lines[0];

	if (m->line_count == 0)
		return 0.0;
	if (at_ns < line->knot_ns) {
		double length_ns = (double)fg_clock_later_ns(line->knot_ns - line->from_ns, 1);

		return line->base + line->rise / length_ns * (double)fg_clock_later_ns(at_ns - line->from_ns, 0);
	}
	double until = line->base + line->rise;

	return m->finishing && m->line_count == 1 ? until + unseen(m, line, at_ns) : until;
}

/* The lines up to this instant do not change any more: no change that comes later becomes one with the last change. */
static int64_t drawn_until_ns(const struct fg_share_meter *m)
{
	uint64_t n = m->change_count;
	const struct fg_share_change *last = change(m, n);

	if (!m->begun_line) /* before the first line the curve is 0 */
		return n == 0 ? m->reach_at_ns : change(m, 1)->high_ns - 1;
	if ((n < 2 || m->reach_at_ns + 1 >= change(m, n - 2)->low_ns) &&
		(n < 1 || m->last.at_ns >= change(m, n - 1)->low_ns))
		return m->reach_at_ns;
	int64_t before_ns = (last->high_ns < last->knot_ns ? last->high_ns : last->knot_ns) - 1;

	return before_ns < m->reach_at_ns ? before_ns : m->reach_at_ns;
}

/* The counter shows what was, on average, half a period ago. Before that the curve stays 0. */
static void place_beginning(struct fg_share_meter *m)
{
	int64_t knot_ns = m->first_at_ns - (int64_t)(mean_period_ns(m) / 2.0);

	size_t first = m->lines[0].knot_ns == -FG_SHARE_EVER_NS; /* the line before it may be gone */

	if (m->line_count > first)
		m->lines[first].from_ns = fg_clock_later_ns(m->lines[first].from_ns, knot_ns);
	m->begun_line = true;
}

/* As append() of the resolver: where reads overlapped, two changes become one. */
static bool joins(const struct fg_share_meter *m, int64_t high_ns, int64_t knot_ns)
{
	uint64_t n = m->change_count + 1;

	return !((n < 3 || high_ns >= change(m, n - 3)->low_ns) && (n < 2 || knot_ns >= change(m, n - 2)->low_ns));
}

static void add_line(struct fg_share_meter *m, int64_t after_ns, int64_t knot_ns, int64_t grown)
{
	struct fg_share_change new = {m->sure_at_ns, after_ns + 1, knot_ns, m->total += grown};
	bool joined = joins(m, new.high_ns, knot_ns);

	if (!joined && !m->begun_line && m->change_count == FG_SHARE_KEPT)
		place_beginning(m);
	if (m->line_count == FG_SHARE_LINES)
		(void)energy_until(m, drawn_until_ns(m)); /* edges up to there are settled */
	struct fg_share_line *last = &m->lines[m->line_count - 1];

	if (joined) {
		new.high_ns = change(m, m->change_count)->high_ns;
		m->changes[m->change_count % FG_SHARE_KEPT] = new;
	} else {
		m->changes[++m->change_count % FG_SHARE_KEPT] = new;
	}
	if (joined || m->line_count == FG_SHARE_LINES) {
		last->knot_ns = joined ? knot_ns : fg_clock_later_ns(last->knot_ns, knot_ns);
		last->rise += (double)grown;
		return;
	}
	m->lines[m->line_count] = (struct fg_share_line){fg_clock_later_ns(last->knot_ns, after_ns), knot_ns,
													 last->base + last->rise, (double)grown};
	m->line_count++;
}

/* How long the energy was unknown until an instant that is not earlier than the ones asked for before, in ns. */
static double unknown_until(struct fg_share_meter *m, int64_t at_ns)
{
	double sum_ns;

	while (m->unknown_count > 0 && m->unknowns[0].until_ns <= at_ns) {
		m->unknown_before_ns += (double)(m->unknowns[0].until_ns - m->unknowns[0].from_ns);
		memmove(m->unknowns, m->unknowns + 1, --m->unknown_count * sizeof *m->unknowns);
	}
	sum_ns = m->unknown_before_ns;
	if (m->unknown_count > 0)
		sum_ns += (double)fg_clock_later_ns(at_ns - m->unknowns[0].from_ns, 0);
	return sum_ns;
}

static void add_unknown(struct fg_share_meter *m, int64_t from_ns, int64_t until_ns)
{
	if (from_ns >= until_ns)
		return;
	if (m->unknown_count == FG_SHARE_LINES)
		(void)unknown_until(m, m->reach_at_ns);
	if (m->unknown_count == FG_SHARE_LINES) {
		m->unknowns[m->unknown_count - 1].until_ns = until_ns;
		return;
	}
	m->unknowns[m->unknown_count++] = (struct fg_share_unknown){from_ns, until_ns};
}

static void settle_until(struct fg_share *share, size_t channel, int64_t until_ns)
{
	struct fg_share_meter *m = &share->meters[channel];

	while (m->settled < share->edge_end && fg_share_edge(share, m->settled)->at_ns <= until_ns) {
		int64_t at_ns = fg_share_edge(share, m->settled)->at_ns;
		double energy = energy_until(m, at_ns), unknown_ns = unknown_until(m, at_ns);
		double grown = m->settled > 0 ? energy - m->energy : 0.0,
			   most = m->ceiling_per_ns * (unknown_ns - m->unknown_ns);

		m->energy = energy;
		m->unknown_ns = unknown_ns;
		fg_share_settle_edge(share, channel, m->settled, grown, 0.0, most);
	}
}

void fg_share_settle_counter(struct fg_share *share, size_t channel)
{
	struct fg_share_meter *m = &share->meters[channel];

	if (m->started)
		settle_until(share, channel, m->finishing ? FG_SHARE_EVER_NS : drawn_until_ns(m));
}

/* ---- samples ---- */

static int64_t first_edge_ns(const struct fg_share *share, int64_t at_ns)
{
	if (share->first_edge == share->edge_end || fg_share_edge(share, share->first_edge)->at_ns >= at_ns)
		return at_ns;
	return fg_share_edge(share, share->first_edge)->at_ns;
}

static void open_counter(struct fg_share *share, struct fg_share_meter *m, const struct fg_sample *first)
{
	m->started = true;
	m->last = *first;
	m->sure_at_ns = m->known_from_ns = first->at_ns + first->half_ns;
	m->reach_at_ns = m->below_from_ns = first->at_ns - first->half_ns - m->traits.period_ns;
	m->until_ns = -FG_SHARE_EVER_NS;
	m->first_at_ns = first->at_ns;
	m->lines[0] = (struct fg_share_line){-FG_SHARE_EVER_NS, -FG_SHARE_EVER_NS, 0.0, 0.0};
	m->line_count = 1;
	m->changes[0] = (struct fg_share_change){m->sure_at_ns, m->reach_at_ns + 1, first->at_ns, 0};
	add_unknown(m, first_edge_ns(share, m->sure_at_ns), m->sure_at_ns);
}

/* What the counter hid below its next step counts until the energy became unknown. */
static enum fg_status feed_restart(struct fg_share *share, size_t channel, int64_t reach_ns, struct fg_error *err)
{
	struct fg_share_meter *m = &share->meters[channel];
	int64_t from_ns = fg_clock_later_ns(m->reach_at_ns, m->known_from_ns);
	int64_t until_ns = fg_clock_later_ns(from_ns, m->until_ns);
	enum fg_status status = fg_share_stretch(share, channel, FG_SHARE_BELOW, m->below_from_ns, until_ns,
											 (double)m->traits.quantum, false, err);

	add_unknown(m, from_ns, m->sure_at_ns);
	m->known_from_ns = fg_clock_later_ns(m->known_from_ns, m->sure_at_ns);
	m->below_from_ns = fg_clock_later_ns(m->below_from_ns, reach_ns);
	m->proven = false;
	return status;
}

static enum fg_status feed_growth(struct fg_share *share, size_t channel, int64_t after_ns, int64_t grown,
								  struct fg_error *err)
{
	struct fg_share_meter *m = &share->meters[channel];
	int64_t quantum = m->traits.quantum, below = grown < quantum ? grown : quantum;
	enum fg_status status = fg_share_stretch(share, channel, FG_SHARE_BELOW, m->below_from_ns, m->sure_at_ns,
											 (double)below, m->proven, err);

	if (status == FG_OK)
		status = fg_share_stretch(share, channel, FG_SHARE_MAIN, after_ns, m->sure_at_ns, (double)(grown - below),
								  !m->forgot, err);
	if (grown >= quantum) {
		m->below_from_ns = fg_clock_later_ns(m->below_from_ns, after_ns);
		m->proven = !m->forgot;
		m->forgot = false;
	}
	return status;
}

static enum fg_status feed_change(struct fg_share *share, size_t channel, const struct fg_sample *now, int64_t grown,
								  bool restart, int64_t still_ns, struct fg_error *err)
{
	struct fg_share_meter *m = &share->meters[channel];
	int64_t after_ns = m->reach_at_ns < m->sure_at_ns ? m->reach_at_ns : m->sure_at_ns - 1;
	int64_t early_ns = fg_clock_later_ns(m->last.at_ns, now->at_ns - m->traits.period_ns);
	int64_t knot_ns = restart ? now->at_ns : fg_clock_middle_ns(early_ns, now->at_ns);
	enum fg_status status;

	if (m->settled < share->edge_end)
		settle_until(share, channel, drawn_until_ns(m)); /* on the lines there are */
	status = restart ? feed_restart(share, channel, still_ns, err) : feed_growth(share, channel, after_ns, grown, err);
	add_line(m, after_ns, knot_ns, grown);
	return status;
}

enum fg_status fg_share_feed_counter(struct fg_share *share, size_t channel, const struct fg_sample *samples,
									 size_t count, struct fg_error *err)
{
	struct fg_share_meter *m = &share->meters[channel];
	enum fg_status status = FG_OK;
	size_t i = 0;

	if (!m->started && count > 0)
		open_counter(share, m, &samples[i++]);
	for (; i < count && status == FG_OK; i++) {
		const struct fg_sample *now = &samples[i];
		int64_t still_ns = now->at_ns - now->half_ns - m->traits.period_ns, grown;
		bool restart;

		m->sure_at_ns = fg_clock_later_ns(m->sure_at_ns, now->at_ns + now->half_ns);
		grown = fg_share_growth(&m->traits, &m->last, now, &restart);
		if (grown > 0 || restart) {
			still_ns = fg_clock_later_ns(still_ns, m->last.at_ns - m->last.half_ns);
			status = feed_change(share, channel, now, grown, restart, still_ns, err);
		}
		m->reach_at_ns = fg_clock_later_ns(m->reach_at_ns, still_ns);
		m->last = *now;
	}
	share->latest_ns = fg_clock_later_ns(share->latest_ns, m->started ? m->sure_at_ns : share->latest_ns);
	return status;
}

enum fg_status fg_share_part_quantum(struct fg_share *share, size_t channel, struct fg_error *err)
{
	struct fg_share_meter *m = &share->meters[channel];
	int64_t until_ns = fg_clock_later_ns(m->reach_at_ns, m->until_ns);
	enum fg_status status = fg_share_stretch(share, channel, FG_SHARE_BELOW, m->below_from_ns, until_ns,
											 (double)m->traits.quantum, false, err);

	m->below_from_ns = fg_clock_later_ns(m->below_from_ns, until_ns);
	m->proven = false;
	return status;
}

enum fg_status fg_share_forget_until(struct fg_share *share, size_t channel, int64_t until_ns, struct fg_error *err)
{
	struct fg_share_meter *m = &share->meters[channel];
	enum fg_status status = fg_share_part_quantum(share, channel, err);

	if (!m->begun_line)
		place_beginning(m);
	add_unknown(m, fg_clock_later_ns(m->reach_at_ns, m->known_from_ns), until_ns);
	m->known_from_ns = fg_clock_later_ns(m->known_from_ns, until_ns);
	m->below_from_ns = fg_clock_later_ns(m->below_from_ns, until_ns);
	m->reach_at_ns = until_ns;
	m->forgot = true;
	return status;
}

void fg_share_finish_counter(struct fg_share *share, size_t channel)
{
	struct fg_share_meter *m = &share->meters[channel];

	if (!m->started)
		m->known_from_ns = m->reach_at_ns = m->below_from_ns = first_edge_ns(share, FG_SHARE_EVER_NS - 1);
	if (m->line_count > 0 && !m->begun_line)
		place_beginning(m);
	settle_until(share, channel, drawn_until_ns(m));
	m->started = m->finishing = true;
	add_unknown(m, fg_clock_later_ns(m->reach_at_ns, m->known_from_ns), FG_SHARE_EVER_NS);
	settle_until(share, channel, FG_SHARE_EVER_NS);
}
