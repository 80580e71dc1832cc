/* See fg_follow.h. The trick: F_(k-1) - F_k needs no pair of densities. Before u_k, change k takes the time; after it,
 * change k + 1 does. So one walk over brackets and stretches of the timeline, with one integral of 1 - F_k for each
 * bracket, shares each stretch between two changes.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fg_follow.h"

#include "fg_clock.h"

#include <math.h>
#include <string.h>

/* ---- changes ---- */

/* A value shown at a sample was no older than a period. */
static void narrow(struct fg_change *change, int64_t unchanged_ns, int64_t period_ns)
{
	change->after_ns = fg_clock_later_ns(change->after_ns, unchanged_ns - period_ns);
	if (change->after_ns > change->at_ns)
		change->after_ns = change->at_ns;
}

static struct fg_change change_at(const struct fg_sample *sample, int64_t after_ns, int64_t period_ns)
{
	struct fg_change change = {.after_ns = after_ns, .at_ns = sample->at_ns};

	narrow(&change, sample->at_ns, period_ns);
	return change;
}

size_t fg_follow_changes(struct fg_follow_reader *reader, const struct fg_traits *traits,
						 const struct fg_sample *samples, size_t count, struct fg_change *out)
{
	int64_t period_ns = traits->period_ns;
	size_t i = 0, written = 0;

	if (reader->fed == 0 && count > 0) {
		reader->change = change_at(samples, samples->at_ns - period_ns, period_ns);
		reader->last = samples[i++];
		reader->fed = 1;
	}
	for (; i < count; i++) {
		const struct fg_sample *now = &samples[i], *last = &reader->last;
		bool restart = now->flags & FG_SAMPLE_RESET;
		int64_t grown = now->raw - last->raw + now->wraps * traits->modulus;

		if (grown != 0 || restart) {
			int64_t still_ns = last->at_ns - period_ns;

			out[written++] = reader->change;
			narrow(&out[written - 1], last->at_ns, period_ns);
			if (still_ns > reader->change.at_ns) /* an update without growth: nothing was spent until then */
				out[written++] = (struct fg_change){.after_ns = still_ns, .at_ns = still_ns};
			reader->change = change_at(now, last->at_ns, period_ns);
			reader->change.grown = restart ? 0 : grown;
			reader->change.linked = !restart && (now->flags & FG_SAMPLE_GAP) == 0;
		}
		reader->last = *now;
	}
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
	double width_ns, cell_ns;
	size_t cells;
	double chance[FG_FOLLOW_CELLS + 1];    /* F at the begin of each cell */
	double before_ns[FG_FOLLOW_CELLS + 1]; /* the integral of 1 - F up to it */
};

static void load(struct bracket *b, const struct fg_change *change, const float *cells)
{
	b->width_ns = (double)(change->at_ns - change->after_ns);
	b->cells = cells != NULL ? FG_FOLLOW_CELLS : 1;
	b->cell_ns = b->width_ns / (double)b->cells;
	b->chance[0] = b->before_ns[0] = 0.0;
	for (size_t i = 0; i < b->cells; i++) {
		double chance = cells != NULL ? (double)cells[i] : 1.0;

		b->chance[i + 1] = b->chance[i] + chance;
		b->before_ns[i + 1] = b->before_ns[i] + b->cell_ns * (1.0 - b->chance[i] - 0.5 * chance);
	}
}

/* The expected time before the instant, of the first `part_ns` of its bracket. */
static double before_ns(const struct bracket *b, double part_ns)
{
	size_t cell = (size_t)(part_ns / b->cell_ns);

	if (cell >= b->cells)
		return b->before_ns[b->cells];
	double in_ns = part_ns - b->cell_ns * (double)cell, chance = b->chance[cell + 1] - b->chance[cell];
	return b->before_ns[cell] + in_ns * (1.0 - b->chance[cell] - 0.5 * chance * in_ns / b->cell_ns);
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

void fg_follow_times(const struct fg_change *changes, size_t count, const float *cells,
					 const struct fg_timeline *timeline, double *times)
{
	size_t width = timeline->state_count;
	struct bracket bracket;

	if (count == 0)
		return;
	memset(times, 0, count * width * sizeof *times);
	struct walk w = walk_from(timeline, changes[0].after_ns);
	int64_t at_ns = changes[0].after_ns;
	for (size_t k = 0; k < count; k++) {
		const struct fg_change *change = &changes[k];
		double *row = times + k * width, *next = k + 1 < count ? row + width : NULL, done_ns = 0.0;

		for (int64_t end_ns; at_ns < change->after_ns; at_ns = end_ns, step(&w, at_ns)) {
			end_ns = stretch_end(&w, change->after_ns);
			row[state(&w)] += (double)(end_ns - at_ns);
		}
		if (at_ns < change->at_ns)
			load(&bracket, change, cells != NULL ? cells + k * FG_FOLLOW_CELLS : NULL);
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

/* ---- the regression ---- */

/* The factor of Cholesky of a matrix of three diagonals has two, so each row needs only the row before. */
void fg_follow_whiten(const double *own, const double *shared, size_t count, size_t columns, double *rows)
{
	double side = 0.0; /* of the factor, between this row and the one before */

	for (size_t k = 0; k < count; k++) {
		double *row = rows + k * columns, variance = own[k] + shared[k] + shared[k + 1] - side * side;
		double scale = variance > 0.0 ? 1.0 / sqrt(variance) : 0.0;

		for (size_t c = 0; c < columns; c++)
			row[c] = scale * (k > 0 && side != 0.0 ? row[c] - side * row[(ptrdiff_t)c - (ptrdiff_t)columns] : row[c]);
		side = -shared[k + 1] * scale;
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

struct instants {
	const int64_t *at_ns;
	size_t count, next;
	double *energy;
};

/* Answer the instants of a stretch of one state that begins at `from_ns` and ends before `end_ns`. */
static inline void answer(struct instants *in, int64_t from_ns, int64_t end_ns, double base, struct growth *now,
						  struct growth *then, const struct bracket *bracket, int64_t bracket_ns, double done_ns,
						  size_t s)
{
	for (; in->next < in->count && in->at_ns[in->next] < end_ns; in->next++) {
		int64_t at_ns = in->at_ns[in->next];
		double mine_ns = (double)(at_ns - from_ns), other_ns = 0.0;

		if (bracket != NULL) {
			double all_ns = mine_ns;

			mine_ns = before_ns(bracket, (double)(at_ns - bracket_ns)) - done_ns;
			other_ns = all_ns - mine_ns;
		}
		in->energy[in->next] = base + given_of(now, now->power[s] * mine_ns) +
							   (then != NULL ? given_of(then, then->power[s] * other_ns) : 0.0);
	}
}

/* The growth between two brackets is that of one change. */
static int64_t pass_between(struct walk *w, struct instants *in, int64_t at_ns, int64_t until_ns, double base,
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

void fg_follow_curve(const struct fg_change *changes, size_t count, const float *cells,
					 const struct fg_timeline *timeline, const struct fg_outlay *outlay, const int64_t *at_ns,
					 size_t instants, double *energy)
{
	struct instants in = {at_ns, instants, 0, energy};
	struct bracket bracket;
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
			load(&bracket, change, cells != NULL ? cells + k * FG_FOLLOW_CELLS : NULL);
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
