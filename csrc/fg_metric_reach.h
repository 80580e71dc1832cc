/* The search through runs, for one element type; a part of the template fg_metric_loops.h, which includes it.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A run is scored in whole vectors, and each vector also gives a sign if it holds a rare value (NaN, an enormous
 * amount, a value outside the domain). Only a run with a sign is searched for those. The last vector of a run begins
 * early enough to be whole: a checkpoint that comes twice changes nothing, because the earliest of equals wins. */

#define FEW NAME(few)
typedef REAL FEW __attribute__((vector_size(LANES_F64 * sizeof(REAL)), may_alias, aligned(sizeof(REAL))));

INLINE vector_f64 NAME(score_few)(const struct prepared *goal, FEW cost, FEW accuracy)
{
	if (goal->quantize)
		return closest_few(goal, __builtin_convertvector(cost, vector_f64),
						   __builtin_convertvector(accuracy, vector_f64), ROUND_OFF);
	const REAL alpha = (REAL)goal->alpha[0], beta = (REAL)goal->beta[0];
	const FEW weight = (1 - alpha) * (1 - accuracy) + alpha;
	return __builtin_convertvector(accuracy / (beta * (cost * weight) + 1), vector_f64);
}

/* The checkpoints from .. from + LANES_F64 - 1 at cost and accuracy. */
INLINE void NAME(search_few)(struct search *search, const struct prepared *goal, const REAL *cost, const REAL *accuracy,
							 int64_t from)
{
	const FEW c = *(const FEW *)cost, acc = *(const FEW *)accuracy;
	search->odd |= odd_amounts(__builtin_convertvector(c, vector_f64), TAME_MOST) |
				   odd_amounts(__builtin_convertvector(acc, vector_f64), 1);
	if (search->over)
		return;
	const vector_f64 score = NAME(score_few)(goal, c, acc);
	const lanes_f64 better = below(search->score, score);
	search->score = choose(better, score, search->score);
	search->index = ((lane_numbers() + from) & better) | (search->index & ~better);
	search->over = !goal->best && SIGNS_f64(better);
}

static void NAME(search_run)(struct search *search, const struct prepared *goal, const REAL *cost, const REAL *accuracy,
							 int64_t n)
{
	int64_t from = 0;
	for (; n - from >= LANES_F64; from += LANES_F64)
		NAME(search_few)(search, goal, cost + from, accuracy + from, from);
	if (n >= LANES_F64 && from < n) {
		from = n - LANES_F64;
		NAME(search_few)(search, goal, cost + from, accuracy + from, from);
	} else if (from < n) {
		REAL c[LANES_F64], acc[LANES_F64];
		for (int64_t i = 0; i < LANES_F64; i++) {
			c[i] = cost[i < n ? i : 0];
			acc[i] = accuracy[i < n ? i : 0];
		}
		NAME(search_few)(search, goal, c, acc, 0);
	}
}

/* The same from the definition, checkpoint after checkpoint, for any values. */
static void NAME(search_singly)(struct search *search, const struct prepared *goal, const REAL *cost,
								const REAL *accuracy, int64_t n)
{
	const double alpha = goal->alpha[0], beta = goal->beta[0];
	double limit = goal->start;
	for (int64_t i = 0; i < n; i++) {
		const double q = goal->quantize ? NAME(closest_one)(cost[i], accuracy[i], goal->cost.delta[0],
															goal->accuracy.delta[0], goal->top[0], alpha, beta)
										: NAME(score_one)(cost[i], accuracy[i], (REAL)alpha, (REAL)beta);
		if (!(q > limit))
			continue;
		limit = search->score[0] = q;
		search->index[0] = i;
		if (!goal->best)
			return;
	}
}

/* Search one run. False: a cost or an accuracy lies outside the domain. */
INLINE bool NAME(reach_one)(const struct prepared *goal, const REAL *cost, const REAL *accuracy, int64_t n,
							struct search *search)
{
	const size_t count = (size_t)n;
	search_begin(search, goal);
	if (goal->tame) {
		NAME(search_run)(search, goal, cost, accuracy, n);
		if (!SIGNS_f64(search->odd))
			return true;
	}
	if (NAME(outside)(cost, count, 0, DBL_MAX) < count || NAME(outside)(accuracy, count, 0, 1) < count)
		return false;
	if (!goal->tame || NAME(outside)(cost, count, 0, TAME_MOST) < count) {
		search_begin(search, goal);
		NAME(search_singly)(search, goal, cost, accuracy, n);
	}
	return true;
}

static size_t NAME(reach)(const struct fg_metric_goal *given, const int64_t *offset, const double *time,
						  const REAL *cost, const REAL *accuracy, size_t first, size_t last,
						  const struct fg_metric_found *found)
{
	const double top = NAME(top_cell)(given->accuracy_delta);
	const struct prepared goal = prepare(given, top);
	size_t r = first;
	for (; r < last; r++) {
		const int64_t begin = offset[r], n = offset[r + 1] - begin;
		struct search search;
		if (!NAME(reach_one)(&goal, cost + begin, accuracy + begin, n, &search) ||
			(time && !rises(time + begin, (size_t)n)))
			break;
		double score;
		const int64_t index = search_end(&search, &score);
		const bool none = index < 0;
		const int64_t at = none ? 0 : begin + index;
		const double i = none ? -1 : NAME(cell)(accuracy[at] / given->accuracy_delta);
		found->index[r - first] = index;
		found->score[r - first] = score;
		found->time[r - first] = none ? INFINITY : time ? time[at] : (double)NAN;
		found->accuracy_cell[r - first] = (int64_t)(i > top ? top : i);
		found->cost_cell[r - first] = none ? -1 : NAME(cell_number)(cost[at] / given->cost_delta);
	}
	VECTORS_END();
	return r;
}

#undef FEW
