/* See fg_resolver.h. The trick: for a counter each answer is a step (or a line) between breaks that only
 * changes of the counter make, so a block of samples becomes three short sorted tables of breaks, and instants go along
 * one of them and find their places in the other two within a few comparisons (by what path, see fg_resolver_path.h).
 * One pass over samples in any number of chunks serves any number of windows.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fg_resolver_path.h"

#include <math.h>
#include <string.h>

enum { SINGLY = 24 }; /* samples to take one by one where a path refuses */

static struct fg_stream stream(const int64_t *at_ns, size_t count, enum fg_edge edge, const struct fg_answers *out)
{
	return (struct fg_stream){.at_ns = at_ns, .count = count, .edge = edge, .out = *out};
}

static const struct fg_resolver_path *path(void)
{
#ifdef FG_WIDE
	if (fg_resolver_path_avx512.usable())
		return &fg_resolver_path_avx512;
#endif
	return &fg_resolver_path_baseline;
}

void fg_resolver_init_instants(struct fg_resolver *resolver, const struct fg_traits *traits, double ceiling_per_ns,
							   const int64_t *at_ns, size_t count, const struct fg_answers *out)
{
	memset(resolver, 0, sizeof *resolver);
	resolver->path = path();
	resolver->traits = *traits;
	resolver->ceiling_per_ns = ceiling_per_ns;
	resolver->streams[0] = stream(at_ns, count, FG_INSTANT, out);
	resolver->stream_count = 1;
}

void fg_resolver_init_windows(struct fg_resolver *resolver, const struct fg_traits *traits, double ceiling_per_ns,
							  const int64_t *begin_at_ns, const int64_t *end_at_ns, size_t count,
							  const struct fg_answers *out)
{
	/* An integral of power is subtracted from itself; a counter's two edges are uncertain on their own. */
	struct fg_answers until = *out;

	if (traits->kind == FG_ENERGY) {
		until.low = out->high;
		until.high = out->low;
	}
	fg_resolver_init_instants(resolver, traits, ceiling_per_ns, end_at_ns, count, out);
	resolver->streams[1] = stream(begin_at_ns, count, FG_BEGIN, &until);
	resolver->streams[0].edge = FG_END;
	resolver->stream_count = 2;
}

void fg_resolver_init_edges(struct fg_resolver *resolver, const struct fg_traits *traits, double ceiling_per_ns,
							const int64_t *begin_at_ns, size_t begin_count, const struct fg_answers *begins,
							const int64_t *end_at_ns, size_t end_count, const struct fg_answers *ends)
{
	fg_resolver_init_instants(resolver, traits, ceiling_per_ns, end_at_ns, end_count, ends);
	resolver->streams[1] = stream(begin_at_ns, begin_count, FG_BEGIN, begins);
	resolver->streams[0].edge = FG_BEGIN;
	resolver->stream_count = 2;
}

void fg_resolver_go_on(struct fg_resolver *resolver, const struct fg_resolver *other)
{
	struct fg_stream streams[2] = {resolver->streams[0], resolver->streams[1]};
	unsigned stream_count = resolver->stream_count;

	*resolver = *other;
	resolver->streams[0] = streams[0];
	resolver->streams[1] = streams[1];
	resolver->stream_count = stream_count;
}

size_t fg_windows_sorted(const int64_t *begin_at_ns, const int64_t *end_at_ns, size_t count)
{
	size_t i = count > 0 && begin_at_ns[0] <= end_at_ns[0];

	while (i > 0 && i < count && begin_at_ns[i] <= end_at_ns[i] && begin_at_ns[i - 1] <= begin_at_ns[i] &&
		   end_at_ns[i - 1] <= end_at_ns[i])
		i++;
	return i;
}

/* True when no instant waits any longer: the samples that are left change no answer. */
static inline bool done(const struct fg_resolver *r)
{
	return r->streams[0].next == r->streams[0].count && r->streams[1].next == r->streams[1].count;
}

/* ---- counters: looking up ---- */

static inline int64_t limit_ns(const struct fg_table *t)
{
	int64_t high_ns = t->high_ns[t->count], knot_ns = t->knot_ns[t->count];

	return high_ns < knot_ns ? high_ns : knot_ns;
}

static inline size_t count_until(const int64_t *breaks, size_t count, int64_t at_ns)
{
	size_t n = 0;

	while (n < count && breaks[n + 1] <= at_ns)
		n++;
	return n;
}

/* The mean time between two changes, of the three intervals after change `first` (or those there are) and at most T. It
 * is weighted by power, because T and a plain mean also count the time in which a counter stood still for want of
 * energy. */
static double mean_period_ns(const struct fg_resolver *r, size_t first)
{
	const struct fg_table *t = &r->table;
	double grown = 0.0, power = 0.0;

	for (size_t i = first; i < t->count && i < first + FG_TABLE_KEPT - 1; i++) {
		double growth = (double)(t->total[i + 1] - t->total[i]);

		if (growth > 0.0) {
			grown += growth;
			power += growth / (double)fg_clock_later_ns(t->knot_ns[i + 1] - t->knot_ns[i], 1);
		}
	}
	return power > 0.0 ? fmin(grown / power, (double)r->traits.period_ns) : (double)r->traits.period_ns;
}

/* The time after the last change that the next change will show if the load goes on: at most a mean period, and no time
 * at all once the next change is overdue by another or by T, because then there was no load. */
static double unseen_ns(const struct fg_resolver *r)
{
	const struct fg_table *t = &r->table;
	double period_ns = mean_period_ns(r, t->count < FG_TABLE_KEPT ? 1 : t->count - FG_TABLE_KEPT + 1);
	int64_t still_ns = r->last.at_ns - t->knot_ns[t->count];

	if (still_ns >= r->traits.period_ns)
		return 0.0;
	return fmax(fmin(period_ns, 2.0 * (2.0 * period_ns - (double)still_ns)), 0.0);
}

/* One answer by counting: before the first sample, and past the last change. */
static struct fg_answer answer_slowly(const struct fg_resolver *r, int64_t at_ns)
{
	const struct fg_table *t = &r->table;
	size_t low = count_until(t->low_ns, t->count, at_ns), high = count_until(t->high_ns, t->count, at_ns);
	size_t knot = count_until(t->knot_ns, t->count, at_ns);
	struct fg_answer a = {t->value[low], 0.0, t->value[high] + t->quantum};

	if (low == 0 && at_ns < t->low_ns[0])
		a.low = -r->ceiling_per_ns * (double)(t->low_ns[0] - at_ns);
	if (high == t->count)
		a.high += r->ceiling_per_ns * (double)fg_clock_later_ns(at_ns - r->reach_at_ns, 0);
	if (knot < t->count) {
		a.estimate = fg_on_line(t, knot, at_ns);
	} else if (knot > 0) {
		/* The counter lags: until the last sample the estimate goes on at the last mean power, as far as the bound and
		 * the time without a change let it; past the last sample nothing is known and nothing is added. */
		int64_t until_ns = at_ns < r->last.at_ns ? at_ns : r->last.at_ns;
		double more = t->slope[knot - 1] *
					  fmin((double)fg_clock_later_ns(until_ns - t->knot_ns[knot], 0), unseen_ns(r));
		double most = t->quantum + r->ceiling_per_ns * (double)fg_clock_later_ns(until_ns - r->reach_at_ns, 0);

		a.estimate = (double)r->total + fmin(more, most);
	}
	return a;
}

/* Answer what waits, as far as the table goes. Begins before ends; see fg_write_answer. */
static void look_up_all(struct fg_resolver *r)
{
	int64_t until_ns = limit_ns(&r->table), begin_ns = r->table.low_ns[0];

	for (unsigned i = r->stream_count; i-- > 0;) {
		struct fg_stream *s = &r->streams[i];

		while (fg_waits(s, begin_ns < until_ns ? begin_ns : until_ns))
			fg_put(s, s->edge, answer_slowly(r, s->at_ns[s->next]));
		r->path->look_up(&r->table, s, until_ns);
	}
}

/* ---- counters: tabling ---- */

static void open_energy(struct fg_resolver *r, const struct fg_sample *first)
{
	r->sure_at_ns = first->at_ns + first->half_ns;
	r->reach_at_ns = first->at_ns - first->half_ns - r->traits.period_ns;
	r->known_from_ns = r->reach_at_ns;
	r->table.low_ns[0] = r->sure_at_ns;
	r->table.high_ns[0] = r->reach_at_ns + 1;
	r->table.quantum = (double)r->traits.quantum;
	r->first_at_ns = first->at_ns;
}

/* The counter restarted between what the samples before reached and the one that is sure at `sure_ns`. */
static void feed_restart(struct fg_resolver *r, int64_t total, int64_t reach_ns, int64_t sure_ns)
{
	/* What it showed before and what it shows from now on are each rounded down on their own. */
	int64_t quantum = r->restarted && total == r->restart_total ? 0 : r->traits.quantum;
	double rounding = 2.0 * (double)quantum;
	int64_t from_ns = fg_clock_later_ns(reach_ns, r->known_from_ns);

	for (unsigned i = 0; i < r->stream_count; i++) {
		struct fg_stream *s = &r->streams[i];
		double sign = s->edge == FG_BEGIN ? -1.0 : 1.0, more = s->edge == FG_BEGIN ? 0.0 : rounding;
		double *out = s->out.unknown;

		for (; out != NULL && s->next_unknown < s->count; s->next_unknown++) {
			int64_t at_ns = s->at_ns[s->next_unknown];

			if (at_ns >= sure_ns)
				break;
			out[s->next_unknown] += sign * r->unknown;
			if (at_ns > from_ns)
				out[s->next_unknown] += sign * r->ceiling_per_ns * (double)(at_ns - from_ns) + more;
			if (at_ns > from_ns && s->out.rounding != NULL)
				s->out.rounding[s->next_unknown] += rounding;
		}
	}
	r->unknown += rounding + r->ceiling_per_ns * (double)fg_clock_later_ns(sure_ns - from_ns, 0);
	r->known_from_ns = sure_ns;
	r->rounded += quantum;
	r->restarted = true;
	r->restart_total = total;
}

/* Make the change that was written behind the last one count. A look-up finds the three breaks of a change within a few
 * of each other; where reads overlapped and they are not, two changes become one, which only widens bounds. Returns how
 * many changes there are. */
static inline size_t append(struct fg_table *t, size_t last)
{
	size_t new = last + 1;

	if ((new < 3 || t->high_ns[new] >= t->low_ns[new - 3]) && (new < 2 || t->knot_ns[new] >= t->low_ns[new - 2]))
		return new;
	t->low_ns[last] = t->low_ns[new];
	t->knot_ns[last] = t->knot_ns[new];
	t->total[last] = t->total[new];
	t->value[last] = t->value[new];
	return last;
}

/* The same as a path's tabulate for samples of any kind: it takes some. */
static size_t tabulate_any(struct fg_resolver *r, const struct fg_sample *samples, size_t count)
{
	struct fg_table *t = &r->table;
	struct fg_sample last = r->last;
	int64_t period_ns = r->traits.period_ns, sure_ns = r->sure_at_ns, reach_ns = r->reach_at_ns, total = r->total;
	size_t taken = 0, changes = t->count;

	for (; taken < count && changes < FG_TABLE; last = samples[taken++]) {
		const struct fg_sample *now = &samples[taken];
		int64_t after_ns = now->at_ns - period_ns, still_ns = after_ns - now->half_ns, delta = now->raw - last.raw;
		bool restart = false;

		sure_ns = fg_clock_later_ns(sure_ns, now->at_ns + now->half_ns);
		if (__builtin_expect(now->wraps | now->flags, 0)) {
			restart = now->flags & FG_SAMPLE_RESET;
			delta = restart ? 0 : delta + now->wraps * r->traits.modulus;
			if (restart)
				feed_restart(r, total, reach_ns, sure_ns);
		}
		if (delta != 0 || restart) {
			size_t new = changes + 1;

			total += delta;
			t->low_ns[new] = sure_ns;
			t->high_ns[new] = reach_ns < sure_ns ? reach_ns + 1 : sure_ns;
			t->knot_ns[new] = restart ? now->at_ns : (fg_clock_later_ns(last.at_ns, after_ns) + now->at_ns) / 2;
			t->total[new] = total;
			t->value[new] = (double)(total - r->rounded);
			changes = append(t, changes);
			still_ns = fg_clock_later_ns(still_ns, last.at_ns - last.half_ns);
		}
		reach_ns = fg_clock_later_ns(reach_ns, still_ns);
	}
	r->last = last;
	r->sure_at_ns = sure_ns;
	r->reach_at_ns = reach_ns;
	r->total = total;
	t->count = changes;
	return taken;
}

/* Keep what instants past the limit may still need: the last few changes. */
static void compact(struct fg_table *t)
{
	size_t gone = t->count > FG_TABLE_KEPT ? t->count - FG_TABLE_KEPT : 0;

	for (size_t i = 0; gone > 0 && i <= FG_TABLE_KEPT; i++) {
		t->low_ns[i] = t->low_ns[gone + i];
		t->high_ns[i] = t->high_ns[gone + i];
		t->knot_ns[i] = t->knot_ns[gone + i];
		t->total[i] = t->total[gone + i];
		t->value[i] = t->value[gone + i];
	}
	t->count -= gone;
}

/* The counter shows what was, on average, half a period ago. Before that the estimate stays 0. */
static void place_beginning(struct fg_resolver *r)
{
	r->table.knot_ns[0] = r->first_at_ns - (int64_t)(mean_period_ns(r, 1) / 2.0);
	r->begun = true;
}

static void feed_energy(struct fg_resolver *r, const struct fg_sample *samples, size_t count)
{
	struct fg_table *t = &r->table;

	for (size_t taken = 0; taken < count && !done(r); compact(t)) {
		while (taken < count && t->count + FG_TABLE_STEP <= FG_TABLE) {
			size_t left = count - taken, next = r->path->tabulate(r, samples + taken, left);

			taken += next > 0 ? next : tabulate_any(r, samples + taken, left < SINGLY ? left : SINGLY);
		}
		if (!r->begun && t->count > FG_TABLE_KEPT) /* the last change may still become one with the next */
			place_beginning(r);
		if (r->begun && (fg_waits(&r->streams[0], limit_ns(t)) || fg_waits(&r->streams[1], limit_ns(t)))) {
			r->path->draw(t);
			look_up_all(r);
		}
	}
}

static void finish_energy(struct fg_resolver *r, struct fg_stream *s)
{
	struct fg_table *t = &r->table;
	int64_t last_ns = fg_clock_later_ns(t->low_ns[t->count], fg_clock_later_ns(r->last.at_ns, r->reach_at_ns));

	if (!r->begun)
		place_beginning(r);
	r->path->draw(t);
	while (fg_waits(s, last_ns))
		fg_put(s, s->edge, answer_slowly(r, s->at_ns[s->next]));
	/* From here on only the ceiling goes on. */
	for (struct fg_answer a = answer_slowly(r, last_ns); s->next < s->count;) {
		double past = r->ceiling_per_ns * (double)(s->at_ns[s->next] - last_ns);
		fg_put(s, s->edge, (struct fg_answer){a.low, a.estimate, a.high + past});
	}
	for (; s->out.unknown != NULL && s->next_unknown < s->count; s->next_unknown++)
		s->out.unknown[s->next_unknown] += s->edge == FG_BEGIN ? -r->unknown : r->unknown;
}

/* ---- both ---- */

void fg_resolver_feed(struct fg_resolver *resolver, const struct fg_sample *samples, size_t count)
{
	size_t first = resolver->fed == 0;

	if (count == 0)
		return;
	if (resolver->traits.kind == FG_POWER) {
		for (size_t i = 0; i < count && !done(resolver); i++)
			fg_resolver_feed_power(resolver, &samples[i]);
		return;
	}
	if (first) {
		open_energy(resolver, samples);
		resolver->last = samples[0];
	}
	resolver->fed += count;
	feed_energy(resolver, samples + first, count - first);
}

bool fg_resolver_done(const struct fg_resolver *resolver)
{
	return done(resolver);
}

void fg_resolver_finish(struct fg_resolver *resolver)
{
	const struct fg_answers *out = &resolver->streams[0].out;
	size_t count = resolver->streams[0].count;

	for (unsigned s = 0; resolver->fed == 0 && s < resolver->stream_count; s++)
		for (size_t i = 0; i < resolver->streams[s].count; i++) {
			const struct fg_answers *unknown = &resolver->streams[s].out;

			unknown->low[i] = unknown->estimate[i] = unknown->high[i] = NAN;
		}
	if (resolver->fed == 0)
		return;
	if (resolver->traits.kind == FG_POWER)
		fg_resolver_finish_power(resolver);
	for (unsigned i = resolver->stream_count; resolver->traits.kind == FG_ENERGY && i-- > 0;)
		finish_energy(resolver, &resolver->streams[i]);
	for (size_t i = 0; resolver->streams[0].edge == FG_END && out->unknown != NULL && i < count; i++)
		out->high[i] += out->unknown[i];
}
