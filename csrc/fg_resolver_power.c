/* See fg_resolver.h: power channels, by running integrals of the trapezoid and of the two ends of each step.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fg_resolver_path.h"

#include <math.h>

static inline double lesser(double a, double b)
{
	return a < b ? a : b; /* fmin minds NaN, and is a call */
}

static inline double greater(double a, double b)
{
	return a > b ? a : b;
}

/* The value of a read was taken at some instant of it, so the steps on its two sides each reach to its other end: while
 * a read lasts, both bound the power. The bound at the end of a step is known one sample later, so steps are answered
 * one sample behind. */
static inline struct fg_band joined(struct fg_band a, struct fg_band b)
{
	return (struct fg_band){lesser(a.least, b.least), greater(a.most, b.most)};
}

static struct fg_band unknown_band(const struct fg_resolver *r)
{
	return (struct fg_band){0.0, r->ceiling_per_ns};
}

static struct fg_band band_of(const struct fg_resolver *r, const struct fg_sample *from, const struct fg_sample *to)
{
	struct fg_band value = {(double)from->raw, (double)from->raw};
	struct fg_band band = joined(value, (struct fg_band){(double)to->raw, (double)to->raw});

	return to->flags & FG_SAMPLE_GAP ? (struct fg_band){0.0, joined(band, unknown_band(r)).most} : band;
}

/* Smaller and larger integral over the first part_ns of a step: what bounds it until `first_ns`, then `middle`, and
 * from `last_ns` on. */
struct pieces {
	double first_ns, last_ns;
	struct fg_band first, middle, last;
};

static inline struct fg_band integral(const struct pieces *p, double part_ns)
{
	double first_ns = lesser(part_ns, p->first_ns), last_ns = greater(part_ns - p->last_ns, 0.0);
	double middle_ns = part_ns - first_ns - last_ns;

	return (struct fg_band){
		p->first.least * first_ns + p->middle.least * middle_ns + p->last.least * last_ns,
		p->first.most * first_ns + p->middle.most * middle_ns + p->last.most * last_ns,
	};
}

/* Before the first sample: its value, bounded by nothing and by the ceiling. */
static void answer_before_power(struct fg_resolver *r, struct fg_band next)
{
	const struct fg_sample *first = &r->last;
	struct fg_band band = unknown_band(r), edge = joined(band, next);
	struct pieces back = {(double)first->half_ns, INFINITY, edge, band, band};

	for (unsigned i = r->stream_count; i-- > 0;) {
		struct fg_stream *s = &r->streams[i];

		while (fg_waits(s, first->at_ns)) {
			double before_ns = (double)(first->at_ns - s->at_ns[s->next]);
			struct fg_band sum = integral(&back, before_ns);

			fg_put(s, s->edge, (struct fg_answer){-sum.least, -(double)first->raw * before_ns, -sum.most});
		}
	}
}

static void answer_power(struct fg_resolver *r, struct fg_band next)
{
	const struct fg_sample *from = &r->before, *to = &r->last;
	double step_ns = (double)(to->at_ns - from->at_ns), low = (double)from->raw, rise = (double)to->raw - low;
	double first_ns = lesser((double)from->half_ns, step_ns);
	double last_ns = step_ns - lesser((double)to->half_ns, step_ns);
	struct fg_band first = joined(r->band_before, r->band), last = joined(r->band, next);
	/* Stamps that are not of our own reads may be less certain than they are apart. */
	struct fg_band middle = first_ns <= last_ns ? r->band : joined(first, last);
	struct pieces step = {lesser(first_ns, last_ns), greater(first_ns, last_ns), first, middle, last};

	for (unsigned i = r->stream_count; i-- > 0;) {
		struct fg_stream *s = &r->streams[i];

		while (fg_waits(s, to->at_ns)) {
			double part_ns = (double)(s->at_ns[s->next] - from->at_ns), value = low + rise * (part_ns / step_ns);
			struct fg_band part = integral(&step, part_ns);

			fg_put(s, s->edge,
				   (struct fg_answer){r->low_sum + part.least, r->sum + (low + value) * 0.5 * part_ns,
									  r->high_sum + part.most});
		}
	}

	struct fg_band whole = integral(&step, step_ns);
	r->low_sum += whole.least;
	r->sum += (low + (double)to->raw) * 0.5 * step_ns;
	r->high_sum += whole.most;
}

/* The step that waits, or what lies before the first sample, now that it is known what follows. */
static void answer_waiting_power(struct fg_resolver *r, struct fg_band next)
{
	if (r->fed == 1)
		answer_before_power(r, next);
	else
		answer_power(r, next);
}

void fg_resolver_feed_power(struct fg_resolver *r, const struct fg_sample *now)
{
	if (r->fed == 0) {
		r->band = unknown_band(r);
	} else {
		struct fg_band band = band_of(r, &r->last, now);

		answer_waiting_power(r, band);
		r->band_before = r->band;
		r->band = band;
		r->before = r->last;
	}
	r->last = *now;
	r->fed++;
}

/* Past the last sample its value is held for at most a period, so that a shift of stamps does not lose the tail. */
void fg_resolver_finish_power(struct fg_resolver *r)
{
	double value = fmin((double)r->last.raw, r->ceiling_per_ns), held_ns = (double)r->traits.period_ns;
	struct fg_band band = unknown_band(r);
	struct pieces after = {(double)r->last.half_ns, INFINITY, joined(r->band, band), band, band};

	answer_waiting_power(r, band);
	for (unsigned i = r->stream_count; i-- > 0;) {
		struct fg_stream *s = &r->streams[i];

		while (s->next < s->count) {
			double past_ns = (double)(s->at_ns[s->next] - r->last.at_ns);
			struct fg_band past = integral(&after, past_ns);

			fg_put(s, s->edge,
				   (struct fg_answer){r->low_sum + past.least, r->sum + value * fmin(past_ns, held_ns),
									  r->high_sum + past.most});
		}
	}
}
