/* See fg_energy.h: the resolver. The trick: samples drive, instants follow. Each of the three answers of an instant is
 * written by the first sample that decides it, so one pass over samples in any number of chunks serves any number of
 * windows.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fg_energy.h"

#include <math.h>
#include <string.h>

static inline int64_t later(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static struct fg_stream stream(const int64_t *at_ns, size_t count, double sign, const struct fg_answers *out)
{
	return (struct fg_stream){.at_ns = at_ns, .count = count, .sign = sign, .out = *out};
}

void fg_resolver_init_instants(struct fg_resolver *resolver, const struct fg_traits *traits, double ceiling_per_ns,
							   const int64_t *at_ns, size_t count, const struct fg_answers *out)
{
	memset(resolver, 0, sizeof *resolver);
	resolver->traits = *traits;
	resolver->ceiling_per_ns = ceiling_per_ns;
	resolver->streams[0] = stream(at_ns, count, 1.0, out);
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
	resolver->streams[1] = stream(begin_at_ns, count, -1.0, &until);
	resolver->stream_count = 2;
}

/* True while the instant that waits for this answer lies before `until_at_ns`. */
static inline bool waits(const struct fg_stream *s, size_t next, int64_t until_at_ns)
{
	return next < s->count && s->at_ns[next] < until_at_ns;
}

/* ---- counters ---- */

/* Instants before the first sample. */
static void open_energy(struct fg_resolver *r, const struct fg_sample *first)
{
	int64_t sure_at_ns = first->at_ns + first->half_ns;

	r->reach_at_ns = first->at_ns - first->half_ns - r->traits.period_ns;
	/* The counter shows what was, on average, half a period ago. Before that the estimate stays 0. */
	r->knot_at_ns = first->at_ns - r->traits.period_ns / 2;
	for (unsigned i = 0; i < r->stream_count; i++) {
		struct fg_stream *s = &r->streams[i];

		for (; waits(s, s->next_low, sure_at_ns); s->next_low++)
			s->out.low[s->next_low] -= s->sign * r->ceiling_per_ns * (double)(sure_at_ns - s->at_ns[s->next_low]);
		for (; waits(s, s->next_high, r->reach_at_ns + 1); s->next_high++)
			s->out.high[s->next_high] += s->sign * (double)r->traits.quantum;
		while (waits(s, s->next_estimate, r->knot_at_ns))
			s->next_estimate++;
	}
}

/* The counter restarted between what the samples before reached and this one. */
static void feed_restart(struct fg_resolver *r, int64_t sure_at_ns)
{
	for (unsigned i = 0; i < r->stream_count; i++) {
		struct fg_stream *s = &r->streams[i];

		if (s->out.unknown == NULL)
			continue;
		for (; waits(s, s->next_unknown, r->reach_at_ns); s->next_unknown++)
			s->out.unknown[s->next_unknown] += s->sign * r->unknown;
		for (; waits(s, s->next_unknown, sure_at_ns); s->next_unknown++)
			s->out.unknown[s->next_unknown] +=
				s->sign * (r->unknown + r->ceiling_per_ns * (double)(s->at_ns[s->next_unknown] - r->reach_at_ns));
	}
	r->unknown += r->ceiling_per_ns * (double)later(sure_at_ns - r->reach_at_ns, 0);
}

/* A knot of the estimate: the counter reached r->total at about `at_ns`. */
static inline void feed_knot(struct fg_resolver *r, unsigned streams, int64_t at_ns)
{
	double base = (double)r->knot_total;
	double slope = (double)(r->total - r->knot_total) / (double)later(at_ns - r->knot_at_ns, 1);

	for (unsigned i = 0; i < streams; i++) {
		struct fg_stream *s = &r->streams[i];

		for (; waits(s, s->next_estimate, at_ns); s->next_estimate++)
			s->out.estimate[s->next_estimate] +=
				s->sign * (base + slope * (double)(s->at_ns[s->next_estimate] - r->knot_at_ns));
	}
	r->slope = slope;
	r->knot_at_ns = at_ns;
	r->knot_total = r->total;
}

static inline void feed_energy(struct fg_resolver *r, unsigned streams, const struct fg_sample *last,
							   const struct fg_sample *now)
{
	int64_t before = r->total;
	int64_t sure_at_ns = now->at_ns + now->half_ns;
	int64_t reach_at_ns = now->at_ns - now->half_ns - r->traits.period_ns;
	int64_t last_begin_ns = last->at_ns - last->half_ns;

	if (__builtin_expect(now->flags & FG_SAMPLE_RESET, 0))
		feed_restart(r, sure_at_ns);
	else
		r->total += now->raw - last->raw + now->wraps * r->traits.modulus;
	if (r->total != before)
		reach_at_ns = later(reach_at_ns, last_begin_ns);
	reach_at_ns = later(reach_at_ns, r->reach_at_ns);
	r->reach_at_ns = reach_at_ns;
	for (unsigned i = 0; i < streams; i++) {
		struct fg_stream *s = &r->streams[i];

		for (; waits(s, s->next_low, sure_at_ns); s->next_low++)
			s->out.low[s->next_low] += s->sign * (double)before;
		for (; waits(s, s->next_high, reach_at_ns + 1); s->next_high++)
			s->out.high[s->next_high] += s->sign * (double)(r->total + r->traits.quantum);
	}
	if (r->total != before)
		feed_knot(r, streams, (later(last->at_ns, now->at_ns - r->traits.period_ns) + now->at_ns) / 2);
}

static void finish_energy(struct fg_resolver *r, struct fg_stream *s)
{
	double most = (double)(r->total + r->traits.quantum);

	for (; s->next_low < s->count; s->next_low++)
		s->out.low[s->next_low] += s->sign * (double)r->total;
	for (; s->next_high < s->count; s->next_high++)
		s->out.high[s->next_high] +=
			s->sign * (most + r->ceiling_per_ns * (double)later(s->at_ns[s->next_high] - r->reach_at_ns, 0));
	for (; s->next_estimate < s->count; s->next_estimate++) {
		/* The counter lags: until the last sample the estimate goes on at the last mean power, as far as the bound
		 * lets it; past the last sample nothing is known and nothing is added. */
		int64_t at_ns = s->at_ns[s->next_estimate];
		double bound = most + r->ceiling_per_ns * (double)later(at_ns - r->reach_at_ns, 0);

		at_ns = at_ns < r->last.at_ns ? at_ns : r->last.at_ns;
		s->out.estimate[s->next_estimate] +=
			s->sign * fmin((double)r->knot_total + r->slope * (double)later(at_ns - r->knot_at_ns, 0), bound);
	}
	for (; s->out.unknown != NULL && s->next_unknown < s->count; s->next_unknown++)
		s->out.unknown[s->next_unknown] += s->sign * r->unknown;
}

/* ---- powers ---- */

/* Before the first power sample: its value, bounded by nothing and by the ceiling. */
static void open_power(struct fg_resolver *r, const struct fg_sample *first)
{
	for (unsigned i = 0; i < r->stream_count; i++) {
		struct fg_stream *s = &r->streams[i];

		for (; waits(s, s->next_low, first->at_ns); s->next_low++) {
			double before_ns = (double)(first->at_ns - s->at_ns[s->next_low]);

			s->out.estimate[s->next_low] -= s->sign * (double)first->raw * before_ns;
			s->out.high[s->next_low] -= s->sign * r->ceiling_per_ns * before_ns;
		}
	}
}

static inline void feed_power(struct fg_resolver *r, unsigned streams, const struct fg_sample *last,
							  const struct fg_sample *now)
{
	double from = (double)last->raw, to = (double)now->raw;
	double step_ns = (double)(now->at_ns - last->at_ns);
	double least = from < to ? from : to, most = from < to ? to : from;

	if (now->flags & FG_SAMPLE_GAP) {
		least = 0.0;
		most = most > r->ceiling_per_ns ? most : r->ceiling_per_ns;
	}
	for (unsigned i = 0; i < streams; i++) {
		struct fg_stream *s = &r->streams[i];

		for (; waits(s, s->next_low, now->at_ns); s->next_low++) {
			double part_ns = (double)(s->at_ns[s->next_low] - last->at_ns);
			double value = from + (to - from) * (part_ns / step_ns);

			s->out.low[s->next_low] += s->sign * (r->low_sum + least * part_ns);
			s->out.estimate[s->next_low] += s->sign * (r->sum + (from + value) * 0.5 * part_ns);
			s->out.high[s->next_low] += s->sign * (r->high_sum + most * part_ns);
		}
	}
	r->low_sum += least * step_ns;
	r->sum += (from + to) * 0.5 * step_ns;
	r->high_sum += most * step_ns;
}

static void finish_power(struct fg_resolver *r, struct fg_stream *s)
{
	for (; s->next_low < s->count; s->next_low++) {
		double past_ns = (double)(s->at_ns[s->next_low] - r->last.at_ns);

		s->out.low[s->next_low] += s->sign * r->low_sum;
		s->out.estimate[s->next_low] += s->sign * r->sum;
		s->out.high[s->next_low] += s->sign * (r->high_sum + r->ceiling_per_ns * past_ns);
	}
}

/* ---- both ---- */

/* The stream count is a constant where this is inlined, so that the loops over streams unroll. */
static inline __attribute__((always_inline)) void feed(struct fg_resolver *r, unsigned streams,
													   const struct fg_sample *samples, size_t count)
{
	bool energy = r->traits.kind == FG_ENERGY;
	const struct fg_sample *last = &r->last;

	for (size_t i = 0; energy && i < count; last = &samples[i++])
		feed_energy(r, streams, last, &samples[i]);
	for (size_t i = 0; !energy && i < count; last = &samples[i++])
		feed_power(r, streams, last, &samples[i]);
}

void fg_resolver_feed(struct fg_resolver *resolver, const struct fg_sample *samples, size_t count)
{
	/* A copy on the stack: the compiler sees that no output aliases it and keeps it in registers. */
	struct fg_resolver r = *resolver;
	size_t first = 0;

	if (count == 0)
		return;
	if (r.fed == 0) {
		r.traits.kind == FG_ENERGY ? open_energy(&r, samples) : open_power(&r, samples);
		r.last = samples[first++];
	}
	r.stream_count == 2 ? feed(&r, 2, samples + first, count - first) : feed(&r, 1, samples + first, count - first);
	r.last = samples[count - 1];
	r.fed += count;
	*resolver = r;
}

void fg_resolver_finish(struct fg_resolver *resolver)
{
	const struct fg_answers *out = &resolver->streams[0].out;
	size_t count = resolver->streams[0].count;

	for (size_t i = 0; resolver->fed == 0 && i < count; i++)
		out->low[i] = out->estimate[i] = out->high[i] = NAN;
	for (unsigned i = 0; resolver->fed > 0 && i < resolver->stream_count; i++) {
		if (resolver->traits.kind == FG_ENERGY)
			finish_energy(resolver, &resolver->streams[i]);
		else
			finish_power(resolver, &resolver->streams[i]);
	}
	if (resolver->stream_count < 2)
		return;
	for (size_t i = 0; i < count; i++)
		out->low[i] = out->low[i] < 0.0 ? 0.0 : out->low[i];
	for (size_t i = 0; out->unknown != NULL && i < count; i++)
		out->high[i] += out->unknown[i];
}
