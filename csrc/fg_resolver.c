/* See fg_energy.h: the resolver. The trick: for a counter each answer is a step (or a line) between breaks that only
 * changes of the counter make, so a block of samples becomes three short sorted tables of breaks, and instants are looked
 * up in them where the breaks' even spacing says, with two comparisons and no branch to mispredict. One pass over
 * samples in any number of chunks serves any number of windows.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fg_energy.h"

#include <math.h>
#include <string.h>

enum { BLOCK = 256 }; /* changes tabled at once: all tables stay in the first-level cache */

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

/* ---- answers ---- */

/* Where one answer of one stream goes. */
struct column {
	double *out;
	double sign, least;
	size_t written; /* the other edge of windows [0, written) has been put: add to it. So no output need be zeroed */
};

/* In a counter's windows the begins' highest answers meet the ends' lowest; other answers meet their like. */
static struct column column(const struct fg_resolver *r, unsigned i, enum fg_answer answer)
{
	const struct fg_stream *s = &r->streams[i];
	unsigned other = r->traits.kind == FG_ENERGY ? FG_HIGH - answer : answer;
	double *const out[] = {s->out.low, s->out.estimate, s->out.high};

	if (r->stream_count == 1)
		return (struct column){out[answer], s->sign, 0.0, 0};
	return (struct column){out[answer], s->sign, out[answer] == r->streams[0].out.low ? 0.0 : -INFINITY,
						   r->streams[1 - i].next[other]};
}

static inline void put(const struct column *c, size_t index, double value)
{
	value *= c->sign;
	if (index < c->written) {
		value += c->out[index];
		value = value < c->least ? c->least : value;
	}
	c->out[index] = value;
}

/* ---- counters: looking up ---- */

/* Sorted breaks at_ns[1 .. count]; at_ns[0] is where the table begins, and no instant that waits lies before it. */
struct breaks {
	int64_t at_ns[BLOCK + 1];
};

/* Change i of the counter takes it from value[i] to value[i + 1]: surely from low.at_ns[i + 1] on, at the earliest from
 * high.at_ns[i + 1] on, and likely along the line that ends at knot.at_ns[i + 1]. */
struct table {
	size_t count;
	struct breaks low, high, knot;
	double value[BLOCK + 1];
	/* The estimate's lines. Each begins at from_ns, the knot before or where the samples between show the counter still. */
	int64_t from_ns[BLOCK];
	double base[BLOCK], slope[BLOCK];
};

/* Where among `count` evenly spaced breaks an instant falls: the upper half of a product. */
static inline size_t place(int64_t at_ns, int64_t begin_ns, uint64_t per_ns)
{
	return (size_t)(((fg_uint128)(uint64_t)(at_ns - begin_ns) * per_ns) >> 64);
}

/* The factor for place(); 0 where it can be more than one off the number of breaks at or before an instant. */
static uint64_t spacing(const struct breaks *b, size_t count)
{
	int64_t begin_ns = b->at_ns[0];
	uint64_t span_ns = (uint64_t)(b->at_ns[count] - begin_ns);
	bool even = true;

	if (span_ns <= count)
		return 0;
	uint64_t per_ns = (uint64_t)(((fg_uint128)count << 64) / span_ns);
	/* Both grow with the instant, so it is enough to look where the number of breaks steps. */
	for (size_t i = 1; i <= count; i++) {
		even &= place(b->at_ns[i], begin_ns, per_ns) + 1 >= i;
		even &= place(later(b->at_ns[i] - 1, begin_ns), begin_ns, per_ns) <= i;
	}
	return even ? per_ns : 0;
}

/* How many breaks lie at or before `at_ns`, which lies before the last; `walked` is the answer for the instant before. */
static inline size_t rank(const struct breaks *b, uint64_t per_ns, int64_t at_ns, size_t walked)
{
	if (per_ns != 0) {
		size_t near = place(at_ns, b->at_ns[0], per_ns);
		return near + (b->at_ns[near] <= at_ns) + (b->at_ns[near + 1] <= at_ns) - 1;
	}
	while (b->at_ns[walked + 1] <= at_ns)
		walked++;
	return walked;
}

/* Answer by steps: value[rank] + more. `per_ns` is a constant 0 or not where this is inlined. */
static inline __attribute__((always_inline)) void look_up_steps(struct fg_stream *s, struct column c, size_t *next,
																const struct table *t, const struct breaks *b,
																uint64_t per_ns, double more)
{
	size_t i = *next, walked = 0;

	for (; waits(s, i, b->at_ns[t->count]); i++) {
		walked = rank(b, per_ns, s->at_ns[i], walked);
		put(&c, i, t->value[walked] + more);
	}
	*next = i;
}

static inline __attribute__((always_inline)) void look_up_lines(struct fg_stream *s, struct column c, size_t *next,
																const struct table *t, uint64_t per_ns)
{
	size_t i = *next, walked = 0;

	for (; waits(s, i, t->knot.at_ns[t->count]); i++) {
		walked = rank(&t->knot, per_ns, s->at_ns[i], walked);
		put(&c, i, t->base[walked] + t->slope[walked] * (double)later(s->at_ns[i] - t->from_ns[walked], 0));
	}
	*next = i;
}

static void look_up(struct fg_resolver *r, struct table *t)
{
	uint64_t low = spacing(&t->low, t->count), knot = spacing(&t->knot, t->count);
	uint64_t high = spacing(&t->high, t->count);
	double quantum = (double)r->traits.quantum;

	for (unsigned i = 0; i < r->stream_count; i++) {
		struct fg_stream *s = &r->streams[i];
		struct column c = column(r, i, FG_LOW);

		low != 0 ? look_up_steps(s, c, &s->next[FG_LOW], t, &t->low, low, 0.0)
				 : look_up_steps(s, c, &s->next[FG_LOW], t, &t->low, 0, 0.0);
		c = column(r, i, FG_ESTIMATE);
		knot != 0 ? look_up_lines(s, c, &s->next[FG_ESTIMATE], t, knot)
				  : look_up_lines(s, c, &s->next[FG_ESTIMATE], t, 0);
		c = column(r, i, FG_HIGH);
		high != 0 ? look_up_steps(s, c, &s->next[FG_HIGH], t, &t->high, high, quantum)
				  : look_up_steps(s, c, &s->next[FG_HIGH], t, &t->high, 0, quantum);
	}
}

/* ---- counters: tabling ---- */

/* Instants before the first sample. */
static void open_energy(struct fg_resolver *r, const struct fg_sample *first)
{
	r->sure_at_ns = r->low_from_ns = first->at_ns + first->half_ns;
	r->reach_at_ns = first->at_ns - first->half_ns - r->traits.period_ns;
	r->high_from_ns = r->reach_at_ns + 1;
	r->known_from_ns = r->reach_at_ns;
	/* The counter shows what was, on average, half a period ago. Before that the estimate stays 0. */
	r->knot_at_ns = first->at_ns - r->traits.period_ns / 2;
	for (unsigned i = 0; i < r->stream_count; i++) {
		struct fg_stream *s = &r->streams[i];
		struct column c = column(r, i, FG_LOW);

		for (size_t *next = &s->next[FG_LOW]; waits(s, *next, r->sure_at_ns); ++*next)
			put(&c, *next, -r->ceiling_per_ns * (double)(r->sure_at_ns - s->at_ns[*next]));
		c = column(r, i, FG_HIGH);
		for (size_t *next = &s->next[FG_HIGH]; waits(s, *next, r->high_from_ns); ++*next)
			put(&c, *next, (double)r->traits.quantum);
		c = column(r, i, FG_ESTIMATE);
		for (size_t *next = &s->next[FG_ESTIMATE]; waits(s, *next, r->knot_at_ns); ++*next)
			put(&c, *next, 0.0);
	}
}

/* The counter restarted between what the samples before reached and the one that is sure at `sure_at_ns`. */
static void feed_restart(struct fg_resolver *r)
{
	/* What it showed before and what it shows from now on are each rounded down on their own. */
	int64_t quantum = r->restarted && r->total == r->restart_total ? 0 : r->traits.quantum;
	double rounding = 2.0 * (double)quantum;
	int64_t from_ns = later(r->reach_at_ns, r->known_from_ns);

	for (unsigned i = 0; i < r->stream_count; i++) {
		struct fg_stream *s = &r->streams[i];
		double *out = s->out.unknown;

		if (out == NULL)
			continue;
		for (; waits(s, s->next_unknown, from_ns + 1); s->next_unknown++)
			out[s->next_unknown] += s->sign * r->unknown;
		for (; waits(s, s->next_unknown, r->sure_at_ns); s->next_unknown++)
			out[s->next_unknown] +=
				s->sign * (r->unknown + r->ceiling_per_ns * (double)(s->at_ns[s->next_unknown] - from_ns)) +
				(s->sign > 0.0 ? rounding : 0.0);
	}
	r->unknown += rounding + r->ceiling_per_ns * (double)later(r->sure_at_ns - from_ns, 0);
	r->known_from_ns = r->sure_at_ns;
	r->rounded += quantum;
	r->restarted = true;
	r->restart_total = r->total;
}

/* Table the changes that samples make until the table is full. Returns how many samples were taken. */
static size_t tabulate(struct fg_resolver *r, struct table *t, const struct fg_sample *samples, size_t count)
{
	double rise[BLOCK];
	size_t changes = 0, i = 0;

	t->low.at_ns[0] = r->low_from_ns;
	t->high.at_ns[0] = r->high_from_ns;
	t->knot.at_ns[0] = r->knot_at_ns;
	t->value[0] = (double)(r->total - r->rounded);
	for (; i < count && changes < BLOCK; i++) {
		const struct fg_sample *now = &samples[i], *last = &r->last;
		int64_t reach_at_ns = now->at_ns - now->half_ns - r->traits.period_ns;
		int64_t delta = now->raw - last->raw + now->wraps * r->traits.modulus;
		bool restart = now->flags & FG_SAMPLE_RESET;

		r->sure_at_ns = later(r->sure_at_ns, now->at_ns + now->half_ns);
		if (__builtin_expect(restart, 0)) {
			delta = 0;
			feed_restart(r);
		}
		/* A sample without a change is written too, and the next one over it. */
		t->low.at_ns[changes + 1] = r->sure_at_ns;
		t->high.at_ns[changes + 1] = r->reach_at_ns + 1;
		t->knot.at_ns[changes + 1] =
			restart ? now->at_ns : (later(last->at_ns, now->at_ns - r->traits.period_ns) + now->at_ns) / 2;
		t->base[changes] = (double)r->total;
		rise[changes] = (double)delta;
		r->total += delta;
		t->value[changes + 1] = (double)(r->total - r->rounded);
		changes += delta != 0 || restart;
		reach_at_ns = later(reach_at_ns, delta != 0 ? last->at_ns - last->half_ns : reach_at_ns);
		r->reach_at_ns = later(r->reach_at_ns, reach_at_ns);
		r->last = *now;
	}
	for (size_t k = 0; k < changes; k++) {
		t->from_ns[k] = later(t->knot.at_ns[k], t->high.at_ns[k + 1] - 1);
		t->slope[k] = rise[k] / (double)later(t->knot.at_ns[k + 1] - t->from_ns[k], 1);
	}
	t->count = changes;
	return i;
}

static void feed_energy(struct fg_resolver *r, const struct fg_sample *samples, size_t count)
{
	struct table table;

	for (size_t taken = 0; taken < count;) {
		taken += tabulate(r, &table, samples + taken, count - taken);
		if (table.count == 0)
			return;
		look_up(r, &table);
		r->low_from_ns = table.low.at_ns[table.count];
		r->high_from_ns = table.high.at_ns[table.count];
		r->knot_at_ns = table.knot.at_ns[table.count];
		r->slope = table.slope[table.count - 1];
	}
}

static void finish_energy(struct fg_resolver *r, unsigned i)
{
	struct fg_stream *s = &r->streams[i];
	double sure = (double)(r->total - r->rounded), quantum = (double)r->traits.quantum;
	struct column c = column(r, i, FG_LOW);

	for (size_t *next = &s->next[FG_LOW]; *next < s->count; ++*next)
		put(&c, *next, sure);
	c = column(r, i, FG_HIGH);
	for (size_t *next = &s->next[FG_HIGH]; *next < s->count; ++*next)
		put(&c, *next,
			sure + quantum + r->ceiling_per_ns * (double)later(s->at_ns[*next] - r->reach_at_ns, 0));
	c = column(r, i, FG_ESTIMATE);
	for (size_t *next = &s->next[FG_ESTIMATE]; *next < s->count; ++*next) {
		/* The counter lags: until the last sample the estimate goes on at the last mean power, as far as the bound
		 * lets it; past the last sample nothing is known and nothing is added. */
		int64_t at_ns = s->at_ns[*next];
		double most = quantum + r->ceiling_per_ns * (double)later(at_ns - r->reach_at_ns, 0);

		at_ns = at_ns < r->last.at_ns ? at_ns : r->last.at_ns;
		put(&c, *next, (double)r->total + fmin(r->slope * (double)later(at_ns - r->knot_at_ns, 0), most));
	}
	for (; s->out.unknown != NULL && s->next_unknown < s->count; s->next_unknown++)
		s->out.unknown[s->next_unknown] += s->sign * r->unknown;
}

/* ---- powers: the three answers of an instant are ready together ---- */

static void put_power(struct fg_resolver *r, unsigned i, double low, double estimate, double high)
{
	struct fg_stream *s = &r->streams[i];
	const double value[] = {low, estimate, high};

	for (enum fg_answer answer = FG_LOW; answer <= FG_HIGH; answer++) {
		struct column c = column(r, i, answer);
		put(&c, s->next[answer]++, value[answer]);
	}
}

/* Before the first power sample: its value, bounded by nothing and by the ceiling. */
static void open_power(struct fg_resolver *r, const struct fg_sample *first)
{
	for (unsigned i = 0; i < r->stream_count; i++) {
		struct fg_stream *s = &r->streams[i];

		while (waits(s, s->next[FG_LOW], first->at_ns)) {
			double before_ns = (double)(first->at_ns - s->at_ns[s->next[FG_LOW]]);
			put_power(r, i, 0.0, -(double)first->raw * before_ns, -r->ceiling_per_ns * before_ns);
		}
	}
}

static void feed_power(struct fg_resolver *r, const struct fg_sample *now)
{
	double from = (double)r->last.raw, to = (double)now->raw;
	double step_ns = (double)(now->at_ns - r->last.at_ns);
	double least = from < to ? from : to, most = from < to ? to : from;

	if (now->flags & FG_SAMPLE_GAP) {
		least = 0.0;
		most = most > r->ceiling_per_ns ? most : r->ceiling_per_ns;
	}
	for (unsigned i = 0; i < r->stream_count; i++) {
		struct fg_stream *s = &r->streams[i];

		while (waits(s, s->next[FG_LOW], now->at_ns)) {
			double part_ns = (double)(s->at_ns[s->next[FG_LOW]] - r->last.at_ns);
			double value = from + (to - from) * (part_ns / step_ns);

			put_power(r, i, r->low_sum + least * part_ns, r->sum + (from + value) * 0.5 * part_ns,
					  r->high_sum + most * part_ns);
		}
	}
	r->low_sum += least * step_ns;
	r->sum += (from + to) * 0.5 * step_ns;
	r->high_sum += most * step_ns;
	r->last = *now;
}

static void finish_power(struct fg_resolver *r, unsigned i)
{
	struct fg_stream *s = &r->streams[i];

	while (s->next[FG_LOW] < s->count) {
		double past_ns = (double)(s->at_ns[s->next[FG_LOW]] - r->last.at_ns);
		put_power(r, i, r->low_sum, r->sum, r->high_sum + r->ceiling_per_ns * past_ns);
	}
}

/* ---- both ---- */

void fg_resolver_feed(struct fg_resolver *resolver, const struct fg_sample *samples, size_t count)
{
	/* A copy on the stack: the compiler sees that no output aliases it and keeps it in registers. */
	struct fg_resolver r = *resolver;
	bool energy = r.traits.kind == FG_ENERGY;

	if (count == 0)
		return;
	if (r.fed == 0) {
		energy ? open_energy(&r, samples) : open_power(&r, samples);
		r.last = samples[0];
	}
	for (size_t i = r.fed == 0; !energy && i < count; i++)
		feed_power(&r, &samples[i]);
	if (energy)
		feed_energy(&r, samples + (r.fed == 0), count - (r.fed == 0));
	r.fed += count;
	*resolver = r;
}

void fg_resolver_finish(struct fg_resolver *resolver)
{
	const struct fg_answers *out = &resolver->streams[0].out;
	size_t count = resolver->streams[0].count;

	for (size_t i = 0; resolver->fed == 0 && i < count; i++)
		out->low[i] = out->estimate[i] = out->high[i] = NAN;
	for (unsigned i = 0; resolver->fed > 0 && i < resolver->stream_count; i++)
		resolver->traits.kind == FG_ENERGY ? finish_energy(resolver, i) : finish_power(resolver, i);
	for (size_t i = 0; resolver->stream_count == 2 && out->unknown != NULL && i < count; i++)
		out->high[i] += out->unknown[i];
}
