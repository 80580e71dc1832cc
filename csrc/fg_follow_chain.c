/* The chain of updates; see fg_follow.h. Each link is a box of distances, so the chance to come from the cells of one
 * bracket into a cell of the next is a difference of four values of a second integral of the cells: exact, and a few
 * operations a cell.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fg_follow.h"

#include <math.h>
#include <string.h>

enum { CELLS = FG_FOLLOW_CELLS, PERIODS = 4 };

/* A density of even cells from `from_ns` on, and its first and second integral at the begin of each cell. */
struct cells {
	double from_ns, cell_ns, inverse;
	double density[CELLS], once[CELLS + 1], twice[CELLS + 1];
};

static double cell_width_ns(const struct fg_change *change)
{
	double width_ns = (double)(change->at_ns - change->after_ns);

	return (width_ns > CELLS ? width_ns : CELLS) / CELLS;
}

/* `from_ns` counts from an origin near both brackets: no digits are lost. */
static void place(struct cells *c, const struct fg_change *change, int64_t origin_ns)
{
	c->from_ns = (double)(change->after_ns - origin_ns);
	c->cell_ns = cell_width_ns(change);
	c->inverse = 1.0 / c->cell_ns;
}

static void integrate(struct cells *c)
{
	c->once[0] = c->twice[0] = 0.0;
	for (size_t i = 0; i < CELLS; i++) {
		c->once[i + 1] = c->once[i] + c->density[i] * c->cell_ns;
		c->twice[i + 1] = c->twice[i] + c->cell_ns * (c->once[i] + 0.5 * c->density[i] * c->cell_ns);
	}
}

static inline double twice_at(const struct cells *c, double at_ns)
{
	double in_ns = at_ns - c->from_ns;

	if (in_ns <= 0.0)
		return 0.0;
	size_t i = (size_t)(in_ns * c->inverse);
	if (i >= CELLS)
		return c->twice[CELLS] + c->once[CELLS] * (in_ns - c->cell_ns * CELLS);
	in_ns -= c->cell_ns * (double)i;
	return c->twice[i] + in_ns * (c->once[i] + 0.5 * c->density[i] * in_ns);
}

/* out[j] += the integral, over cell j of `to`, of `share` of the density of `from` through a box that shifts by
 * low_ns..high_ns. Cells that the box does not reach get nothing. */
static void through_box(const struct cells *from, const struct cells *to, double low_ns, double high_ns, double share,
						double *out)
{
	double begin_ns = to->from_ns, end_ns = to->from_ns + to->cell_ns * CELLS, scale = share / (high_ns - low_ns);

	if (begin_ns - high_ns >= from->from_ns + from->cell_ns * CELLS || end_ns - low_ns <= from->from_ns)
		return;
	double before = twice_at(from, begin_ns - low_ns) - twice_at(from, begin_ns - high_ns);
	for (size_t j = 0; j < CELLS; j++) {
		double at_ns = begin_ns + to->cell_ns * (double)(j + 1);
		double now = twice_at(from, at_ns - low_ns) - twice_at(from, at_ns - high_ns), more = (now - before) * scale;

		out[j] += more > 0.0 ? more : 0.0;
		before = now;
	}
}

/* The density after one period, or after some if updates between were missed. */
static void through_links(const struct cells *from, const struct cells *to, const struct fg_links *links, bool back,
						  double *out)
{
	double share = 1.0 - links->missed;

	memset(out, 0, CELLS * sizeof *out);
	for (int m = 1; m <= PERIODS; m++, share *= links->missed) {
		double low_ns = m * links->shortest_ns, high_ns = m * links->longest_ns;

		if (back)
			through_box(from, to, -high_ns, -low_ns, share, out);
		else
			through_box(from, to, low_ns, high_ns, share, out);
	}
}

/* A change shows the last update of its bracket; others may lie before it. So out += what a period more within the
 * bracket makes of it, and a period more. */
static void within_bracket(const struct cells *place_of, const struct fg_links *links, bool back, double *out)
{
	struct cells from = *place_of;
	double more[CELLS], unit = back ? 1.0 : from.inverse, per_cell = back ? from.inverse : 1.0;

	memcpy(more, out, sizeof more);
	for (double periods = 1.0; periods * links->shortest_ns < from.cell_ns * CELLS; periods += 1.0) {
		for (size_t i = 0; i < CELLS; i++)
			from.density[i] = more[i] * unit;
		integrate(&from);
		through_links(&from, &from, links, back, more);
		for (size_t i = 0; i < CELLS; i++)
			out[i] += more[i] *= per_cell;
	}
}

/* Whether a link says anything: updates follow each other within four periods. */
static bool linked(const struct fg_change *changes, size_t k, const struct fg_links *links)
{
	double apart_ns = (double)(changes[k].after_ns - changes[k - 1].at_ns);

	return changes[k].linked != 0 && apart_ns < PERIODS * links->longest_ns;
}

/* The chance of each cell, forward: given the cells before. Returns false if only the floor makes the link possible. */
static bool forward(const struct fg_change *change, const float *before, const struct fg_links *links, float *cells,
					double *log_likelihood)
{
	struct cells from, to;
	double out[CELLS], sum = 0.0;

	place(&from, change - 1, change->after_ns);
	place(&to, change, change->after_ns);
	for (size_t i = 0; i < CELLS; i++)
		from.density[i] = (double)before[i] * from.inverse;
	integrate(&from);
	through_links(&from, &to, links, false, out);
	within_bracket(&to, links, false, out);
	for (size_t j = 0; j < CELLS; j++)
		sum += out[j];
	for (size_t j = 0; j < CELLS; j++)
		cells[j] = (float)((out[j] + links->floor / CELLS) / (sum + links->floor));
	*log_likelihood += log(sum + links->floor);
	return sum > links->floor;
}

/* What the brackets after `change` say of its cells, from what they say of the cells of the change after it. */
static void backward(const struct fg_change *change, const double *after, const struct fg_links *links, double *says)
{
	struct cells from, to;
	double out[CELLS], mean = 0.0, sum = 0.0;

	place(&from, change + 1, change[1].after_ns);
	place(&to, change, change[1].after_ns);
	for (size_t j = 0; j < CELLS; j++)
		mean += after[j] / CELLS;
	memcpy(from.density, after, sizeof from.density);
	within_bracket(&from, links, true, from.density);
	integrate(&from);
	through_links(&from, &to, links, true, out);
	for (size_t i = 0; i < CELLS; i++) {
		says[i] = out[i] * to.inverse + links->floor * mean;
		sum += says[i];
	}
	for (size_t i = 0; i < CELLS; i++)
		says[i] /= sum;
}

static void even(float *cells)
{
	for (size_t i = 0; i < CELLS; i++)
		cells[i] = 1.0f / CELLS;
}

static void weigh(float *cells, const double *says)
{
	double product[CELLS], sum = 0.0;

	for (size_t i = 0; i < CELLS; i++)
		sum += product[i] = (double)cells[i] * says[i];
	for (size_t i = 0; i < CELLS && sum > 0.0; i++)
		cells[i] = (float)(product[i] / sum);
}

void fg_follow_chain(const struct fg_change *changes, size_t count, const struct fg_links *links, bool smooth,
					 float *cells, struct fg_links_tally *tally)
{
	double says[CELLS], more[CELLS];

	memset(tally, 0, sizeof *tally);
	for (size_t k = 0; k < count; k++) {
		float *mine = cells + k * CELLS;

		if (k == 0 || !linked(changes, k, links)) {
			even(mine);
			continue;
		}
		tally->links++;
		tally->floored += !forward(&changes[k], mine - CELLS, links, mine, &tally->log_likelihood);
	}
	for (size_t i = 0; i < CELLS; i++)
		says[i] = 1.0;
	for (size_t k = count; smooth && k-- > 0;) {
		weigh(cells + k * CELLS, says);
		if (k == 0)
			break;
		if (linked(changes, k, links)) {
			backward(&changes[k - 1], says, links, more);
			memcpy(says, more, sizeof says);
		} else {
			for (size_t i = 0; i < CELLS; i++)
				says[i] = 1.0;
		}
	}
}
