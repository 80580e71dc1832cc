/* See fg_follow.h. The trick: F_(k-1) - F_k needs no pair of densities. Before u_k, change k takes the time; after it,
 * change k + 1 does. So one walk over brackets and stretches of the timeline, with one integral of 1 - F_k for each
 * bracket, shares each stretch between two changes.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fg_follow.h"

#include "fg_clock.h"

#include <string.h>

/* ---- changes ---- */

/* A value shown at a sample was no older than a period. */
static inline void narrow(struct fg_change *change, int64_t unchanged_ns, int64_t period_ns)
{
	change->after_ns = fg_clock_later_ns(change->after_ns, unchanged_ns - period_ns);
	if (change->after_ns > change->at_ns)
		change->after_ns = change->at_ns;
}

static inline struct fg_change change_at(const struct fg_sample *sample, int64_t after_ns, int64_t period_ns)
{
	struct fg_change change = {.after_ns = after_ns, .at_ns = sample->at_ns};

	narrow(&change, sample->at_ns, period_ns);
	return change;
}

size_t fg_follow_changes(struct fg_follow_reader *reader, const struct fg_traits *traits,
						 const struct fg_sample *samples, size_t count, struct fg_change *out)
{
	int64_t period_ns = traits->period_ns, modulus = traits->modulus;
	size_t i = 0, written = 0;
	struct fg_change change = reader->change;
	const struct fg_sample *last = &reader->last;

	if (count == 0)
		return 0;
	if (reader->fed == 0) {
		change = change_at(samples, samples->at_ns - period_ns, period_ns);
		last = samples;
		reader->fed = 1;
		i = 1;
	}
	for (; i < count; last = &samples[i++]) {
		const struct fg_sample *now = &samples[i];
		bool restart = now->flags & FG_SAMPLE_RESET;
		int64_t grown = now->raw - last->raw + now->wraps * modulus, still_ns = last->at_ns - period_ns;

		if (grown == 0 && !restart)
			continue;
		narrow(&change, last->at_ns, period_ns);
		out[written++] = change;
		if (still_ns > change.at_ns) /* an update without growth: nothing was spent until then */
			out[written++] = (struct fg_change){.after_ns = still_ns, .at_ns = still_ns};
		change = change_at(now, last->at_ns, period_ns);
		change.grown = restart ? 0 : grown;
		change.linked = !restart && (now->flags & FG_SAMPLE_GAP) == 0;
	}
	reader->change = change;
	reader->last = *last;
	return written;
}

size_t fg_follow_last_change(const struct fg_follow_reader *reader, const struct fg_traits *traits,
							 struct fg_change *out)
{
	if (reader->fed == 0)
		return 0;
	*out = reader->change;
	narrow(out, reader->last.at_ns, traits->period_ns);
	return 1;
}

/* ---- the walk ---- */

/* The density of an instant within its bracket, by its integrals. */
struct bracket {
	double width_ns, cell_ns, cells_per_ns;
	size_t cells;
	const float *from;
	double chance[FG_FOLLOW_CELLS + 1];    /* F at the begin of each cell */
	double before_ns[FG_FOLLOW_CELLS + 1]; /* the integral of 1 - F up to it */
};

static void load_new(struct bracket *b, double width_ns, const float *cells)
{
	b->width_ns = width_ns;
	b->from = cells;
	b->cells = cells != NULL ? FG_FOLLOW_CELLS : 1;
	b->cell_ns = width_ns / (double)b->cells;
	b->cells_per_ns = (double)b->cells / width_ns;
	b->chance[0] = b->before_ns[0] = 0.0;
	for (size_t i = 0; i < b->cells; i++) {
		double chance = cells != NULL ? (double)cells[i] : 1.0;

		b->chance[i + 1] = b->chance[i] + chance;
		b->before_ns[i + 1] = b->before_ns[i] + b->cell_ns * (1.0 - b->chance[i] - 0.5 * chance);
	}
}

/* The density of bracket k. Brackets of one width and one density follow each other where readings are slow. */
static inline void load(struct bracket *b, const struct fg_instants *instants, size_t k)
{
	const struct fg_change *change = &instants->changes[k];
	const float *cells = instants->cells != NULL ? instants->cells + k * instants->step : NULL;
	double width_ns = (double)(change->at_ns - change->after_ns);

	if (width_ns != b->width_ns || cells != b->from)
		load_new(b, width_ns, cells);
}

/* The expected time before the instant, of the first `part_ns` of its bracket. */
static inline double before_ns(const struct bracket *b, double part_ns)
{
	double place = part_ns * b->cells_per_ns;
	size_t cell = (size_t)place;

	if (cell >= b->cells)
		return b->before_ns[b->cells];
	double part = place - (double)cell, chance = b->chance[cell + 1] - b->chance[cell];
	return b->before_ns[cell] + part * b->cell_ns * (1.0 - b->chance[cell] - 0.5 * chance * part);
}

struct walk {
	const struct fg_timeline *timeline;
	size_t next; /* the first edge after the present */
};

static struct walk walk_from(const struct fg_timeline *timeline, int64_t at_ns)
{
	size_t low = 0, high = timeline->edges;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (timeline->edges_ns[middle] <= at_ns)
			low = middle + 1;
		else
			high = middle;
	}
	return (struct walk){timeline, low};
}

static inline size_t state(const struct walk *w)
{
	return w->next > 0 ? (size_t)w->timeline->states[w->next - 1] : 0;
}

/* The end of the stretch at the present, at most `until_ns`; steps past edges that lie there. */
static inline int64_t stretch_end(const struct walk *w, int64_t until_ns)
{
	const struct fg_timeline *t = w->timeline;

	return w->next < t->edges && t->edges_ns[w->next] < until_ns ? t->edges_ns[w->next] : until_ns;
}

static inline void step(struct walk *w, int64_t at_ns)
{
	while (w->next < w->timeline->edges && w->timeline->edges_ns[w->next] <= at_ns)
		w->next++;
}

void fg_follow_times(const struct fg_instants *instants, const struct fg_timeline *timeline, double *times)
{
	size_t width = timeline->state_count, count = instants->count;
	const struct fg_change *change = instants->changes;
	struct bracket bracket = {.width_ns = -1.0};

	if (count == 0)
		return;
	memset(times, 0, count * width * sizeof *times);
	struct walk w = walk_from(timeline, change->after_ns);
	int64_t at_ns = change->after_ns;
	for (size_t k = 0; k < count; k++, change++) {
		double *row = times + k * width, *next = k + 1 < count ? row + width : NULL, done_ns = 0.0;

		for (int64_t end_ns; at_ns < change->after_ns; at_ns = end_ns, step(&w, at_ns)) {
			end_ns = stretch_end(&w, change->after_ns);
			row[state(&w)] += (double)(end_ns - at_ns);
		}
		if (at_ns < change->at_ns)
			load(&bracket, instants, k);
		for (int64_t end_ns; at_ns < change->at_ns; at_ns = end_ns, step(&w, at_ns)) {
			end_ns = stretch_end(&w, change->at_ns);
			double until_ns = before_ns(&bracket, (double)(end_ns - change->after_ns)), mine_ns = until_ns - done_ns;

			row[state(&w)] += mine_ns;
			if (next != NULL)
				next[state(&w)] += (double)(end_ns - at_ns) - mine_ns;
			done_ns = until_ns;
		}
	}
}

/* ---- the curve ---- */

/* What is given out of one growth. */
struct growth {
	const double *power;
	double amount, share, given; /* the amount by weight; the weight that has passed */
};

static struct growth growth(const struct fg_outlay *o, size_t k, size_t states)
{
	double weight = o->weight[k];

	return (struct growth){
		.power = o->power + (size_t)o->block[k] * states,
		.amount = o->amount[k],
		.share = weight > 0.0 ? o->amount[k] / weight : 0.0,
	};
}

static inline double given_of(const struct growth *g, double more)
{
	double energy = g->share * (g->given + more);

	return energy < g->amount || g->amount < 0.0 ? energy : g->amount;
}

struct questions {
	const int64_t *at_ns;
	size_t count, next;
	double *energy;
};

/* Answer the instants of a stretch of one state that begins at `from_ns` and ends before `end_ns`. */
static inline void answer(struct questions *in, int64_t from_ns, int64_t end_ns, double base, struct growth *now,
						  struct growth *then, const struct bracket *bracket, int64_t bracket_ns, double done_ns,
						  size_t s)
{
	for (; in->next < in->count && in->at_ns[in->next] < end_ns; in->next++) {
		int64_t at_ns = in->at_ns[in->next];
		double mine_ns = (double)(at_ns - from_ns), other_ns = 0.0;

		if (bracket != NULL && at_ns != from_ns) {
			double all_ns = mine_ns;

			mine_ns = before_ns(bracket, (double)(at_ns - bracket_ns)) - done_ns;
			other_ns = all_ns - mine_ns;
		}
		in->energy[in->next] = base + given_of(now, now->power[s] * mine_ns) +
							   (then != NULL ? given_of(then, then->power[s] * other_ns) : 0.0);
	}
}

/* The growth between two brackets is that of one change. */
static int64_t pass_between(struct walk *w, struct questions *in, int64_t at_ns, int64_t until_ns, double base,
							struct growth *now)
{
	for (int64_t end_ns; at_ns < until_ns; at_ns = end_ns, step(w, at_ns)) {
		size_t s = state(w);

		end_ns = stretch_end(w, until_ns);
		answer(in, at_ns, end_ns, base, now, NULL, NULL, 0, 0.0, s);
		now->given += now->power[s] * (double)(end_ns - at_ns);
	}
	return at_ns;
}

void fg_follow_curve(const struct fg_instants *instants, const struct fg_timeline *timeline,
					 const struct fg_outlay *outlay, const int64_t *at_ns, size_t asked, double *energy)
{
	const struct fg_change *changes = instants->changes;
	size_t count = instants->count;
	struct questions in = {at_ns, asked, 0, energy};
	struct bracket bracket = {.width_ns = -1.0};
	double base = 0.0;

	while (in.next < in.count && (count == 0 || at_ns[in.next] <= changes[0].after_ns))
		energy[in.next++] = 0.0;
	if (count == 0)
		return;
	struct walk w = walk_from(timeline, changes[0].after_ns);
	int64_t now_ns = changes[0].after_ns;
	struct growth now = growth(outlay, 0, timeline->state_count);
	for (size_t k = 0; k < count && in.next < in.count; k++) {
		const struct fg_change *change = &changes[k];
		struct growth then = growth(outlay, k + 1 < count ? k + 1 : k, timeline->state_count);
		double done_ns = 0.0;

		if (k + 1 == count)
			then.share = then.amount = 0.0;
		now_ns = pass_between(&w, &in, now_ns, change->after_ns, base, &now);
		if (now_ns < change->at_ns)
			load(&bracket, instants, k);
		for (int64_t end_ns; now_ns < change->at_ns; now_ns = end_ns, step(&w, now_ns)) {
			size_t s = state(&w);

			end_ns = stretch_end(&w, change->at_ns);
			answer(&in, now_ns, end_ns, base, &now, &then, &bracket, change->after_ns, done_ns, s);
			double until_ns = before_ns(&bracket, (double)(end_ns - change->after_ns)), mine_ns = until_ns - done_ns;

			now.given += now.power[s] * mine_ns;
			then.given += then.power[s] * ((double)(end_ns - now_ns) - mine_ns);
			done_ns = until_ns;
		}
		base += now.amount;
		now = then;
	}
	for (; in.next < in.count; in.next++)
		energy[in.next] = base;
}
