/* See fg_follow_fit.h. Active sets, as Lawson and Hanson, Solving Least Squares Problems, 1974, chapter 23, begun with all
 * powers that are positive without a constraint: mostly these are the answer.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fg_follow_fit.h"

#include <math.h>
#include <string.h>

#define DEPENDENT 1e-10 /* added to a diagonal of ones: of columns that depend on each other none is preferred */

struct problem {
	size_t n, count;     /* coefficients, and those that are free */
	const double *m, *v; /* scaled so that the diagonal is 1 */
	double *factor;      /* n * n: rows of the Cholesky factor of the free ones */
	double *x, *goal;
	size_t *free;
	bool *is_free;
};

static void list_free(struct problem *p)
{
	p->count = 0;
	for (size_t i = 0; i < p->n; i++)
		if (p->is_free[i])
			p->free[p->count++] = i;
}

/* The minimum over the free coefficients; the others are 0. */
static void solve(struct problem *p)
{
	size_t n = p->n, count = p->count;
	double y[FG_FOLLOW_STATES];

	for (size_t i = 0; i < count; i++) {
		const double *from = p->m + p->free[i] * n;
		double *row = p->factor + i * n, left = p->v[p->free[i]];

		for (size_t j = 0; j <= i; j++) {
			const double *other = p->factor + j * n;
			double sum = from[p->free[j]] + (i == j ? DEPENDENT : 0.0);

			for (size_t k = 0; k < j; k++)
				sum -= row[k] * other[k];
			row[j] = i == j ? sqrt(sum > DEPENDENT / 2 ? sum : DEPENDENT / 2) : sum / other[j];
		}
		for (size_t k = 0; k < i; k++)
			left -= row[k] * y[k];
		y[i] = left / row[i];
	}
	memset(p->goal, 0, n * sizeof *p->goal);
	for (size_t i = count; i-- > 0;) {
		double value = p->goal[p->free[i]] = y[i] / p->factor[i * n + i];

		for (size_t k = 0; k < i; k++)
			y[k] -= p->factor[i * n + k] * value;
	}
}

/* From x towards the goal, until a free coefficient is 0; it stops there. Returns whether the goal was reached. */
static bool step(struct problem *p)
{
	double part = 1.0;

	for (size_t i = 0; i < p->count; i++) {
		double x = p->x[p->free[i]], goal = p->goal[p->free[i]];
		if (goal <= 0.0 && x / (x - goal) < part)
			part = x > 0.0 ? x / (x - goal) : 0.0;
	}
	bool reached = true;
	for (size_t i = 0; i < p->count; i++) {
		size_t at = p->free[i];
		bool below = p->goal[at] <= 0.0;

		reached &= !below;
		p->x[at] += part * (p->goal[at] - p->x[at]);
		if (below && p->x[at] <= 1e-15) {
			p->x[at] = 0.0;
			p->is_free[at] = false;
		}
	}
	return reached;
}

static void begin_with_positive(struct problem *p)
{
	for (bool all = false; !all;) {
		list_free(p);
		solve(p);
		all = true;
		for (size_t i = 0; i < p->count; i++) {
			if (p->goal[p->free[i]] <= 0.0)
				all = p->is_free[p->free[i]] = false;
		}
	}
	memcpy(p->x, p->goal, p->n * sizeof *p->x);
}

/* The coefficient that is 0 and pulls most to be above 0; n if there is not one. */
static size_t most_pulled(const struct problem *p, const double *scale)
{
	double most = 0.0, largest = 0.0;
	size_t best = p->n;

	for (size_t i = 0; i < p->n; i++)
		largest = fabs(p->v[i]) > largest ? fabs(p->v[i]) : largest;
	most = 1e-9 * largest;
	for (size_t i = 0; i < p->n; i++) {
		double pull = p->v[i];

		if (p->is_free[i] || scale[i] == 0.0)
			continue;
		for (size_t k = 0; k < p->count; k++)
			pull -= p->m[i * p->n + p->free[k]] * p->x[p->free[k]];
		if (pull > most) {
			most = pull;
			best = i;
		}
	}
	return best;
}

static void fit(const double *matrix, const double *vector, size_t n, double *work, double *out)
{
	double scale[FG_FOLLOW_STATES], v[FG_FOLLOW_STATES], goal[FG_FOLLOW_STATES], *m = work;
	size_t listed[FG_FOLLOW_STATES];
	bool is_free[FG_FOLLOW_STATES];
	struct problem p = {.n = n, .m = m, .v = v, .factor = work + n * n, .x = out, .goal = goal, .free = listed};

	p.is_free = is_free;
	for (size_t i = 0; i < n; i++) {
		scale[i] = matrix[i * n + i] > 0.0 ? sqrt(matrix[i * n + i]) : 0.0;
		is_free[i] = scale[i] > 0.0;
		v[i] = is_free[i] ? vector[i] / scale[i] : 0.0;
	}
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < n; k++)
			m[i * n + k] = is_free[i] && is_free[k] ? matrix[i * n + k] / (scale[i] * scale[k]) : 0.0;
	begin_with_positive(&p);
	for (size_t rounds = 0; rounds < 3 * n; rounds++) {
		size_t best = most_pulled(&p, scale);

		if (best == n)
			break;
		is_free[best] = true;
		do {
			list_free(&p);
			solve(&p);
		} while (!step(&p));
	}
	for (size_t i = 0; i < n; i++)
		out[i] = scale[i] > 0.0 ? out[i] / scale[i] : 0.0;
}

void fg_follow_powers(const double *matrices, const double *vectors, size_t count, size_t states, double *work,
					  double *powers)
{
	for (size_t i = 0; i < count; i++)
		fit(matrices + i * states * states, vectors + i * states, states, work, powers + i * states);
}
