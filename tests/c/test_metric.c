/* Every path of the metric kernels against the formula written down plainly, bit for bit, and never a byte beyond.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fg_metric.h"

#include <float.h>
#include <stdlib.h>
#include <string.h>

#include "fg_test.h"

enum { COSTS = 1003, GUARD = 16 };

static double random_unit(void)
{
	return (double)random() / 2147483648.0;
}

static double score(double cost, double accuracy, double alpha, double beta)
{
	const volatile double weight = (1 - alpha) * (1 - accuracy) + alpha;
	const volatile double weighted = cost * weight;
	const volatile double scaled = beta * weighted;
	return accuracy / (scaled + 1);
}

static float score_f32(float cost, float accuracy, float alpha, float beta)
{
	const volatile float weight = (1 - alpha) * (1 - accuracy) + alpha;
	const volatile float weighted = cost * weight;
	const volatile float scaled = beta * weighted;
	return accuracy / (scaled + 1);
}

static int same(double x, double y)
{
	return memcmp(&x, &y, sizeof x) == 0 || (x != x && y != y);
}

FG_TEST(every_path_is_named_and_the_last_is_usable)
{
	const struct fg_metric_path *const *paths = fg_metric_paths();
	size_t n = 0;
	for (; paths[n]; n++)
		fg_check(paths[n]->name[0] != 0);
	fg_require(n > 0);
	fg_check(paths[n - 1]->usable());
}

/* The grid's points first..last-1 against the formula, with as many costs in a row, and out so many elements beyond an
 * aligned address. */
static void check_grid(const struct fg_metric_path *path, size_t costs, size_t first, size_t last, size_t shift,
					   bool stream)
{
	static const double beta[] = {0, 1, 1e300}, alpha[] = {0.1, 1}, accuracy[] = {0, 0.3, 1, DBL_TRUE_MIN};
	static double cost[COSTS];
	for (size_t i = 0; i < costs; i++)
		cost[i] = i % 7 ? random_unit() * 100 : DBL_TRUE_MIN * (double)i;
	const struct fg_metric_grid_f64 grid = {beta, alpha, accuracy, cost, 3, 2, 4, costs, 100};
	const size_t n = last - first, all = n + shift + 2 * GUARD;
	double *room = aligned_alloc(64, (all * sizeof *room + 63) / 64 * 64);
	fg_require(room != NULL);
	for (size_t i = 0; i < all; i++)
		room[i] = -7;
	double *out = room + GUARD + shift;
	path->grid_f64(&grid, first, last, out, stream);
	size_t wrong = 0;
	for (size_t point = first; point < last; point++) {
		const size_t row = point / costs;
		wrong += !same(out[point - first], score(cost[point % costs], accuracy[row % 4], alpha[row / 4 % 2], beta[row / 8]));
	}
	for (size_t i = 0; i < GUARD; i++)
		wrong += out[-1 - (ptrdiff_t)i] != -7 || out[n + i] != -7;
	fg_check_int((int64_t)wrong, 0);
	free(room);
}

static void check_grid_f32(const struct fg_metric_path *path, size_t costs, size_t first, size_t last, size_t shift,
						   bool stream)
{
	static const float beta[] = {0, 1, 1e30f}, alpha[] = {0.1f, 1}, accuracy[] = {0, 0.3f, 1, FLT_TRUE_MIN};
	static float cost[COSTS];
	for (size_t i = 0; i < costs; i++)
		cost[i] = (float)random_unit() * 100;
	const struct fg_metric_grid_f32 grid = {beta, alpha, accuracy, cost, 3, 2, 4, costs, 100};
	const size_t n = last - first, all = n + shift + 2 * GUARD;
	float *room = aligned_alloc(64, (all * sizeof *room + 63) / 64 * 64);
	fg_require(room != NULL);
	for (size_t i = 0; i < all; i++)
		room[i] = -7;
	float *out = room + GUARD + shift;
	path->grid_f32(&grid, first, last, out, stream);
	size_t wrong = 0;
	for (size_t point = first; point < last; point++) {
		const size_t row = point / costs;
		wrong += out[point - first] != score_f32(cost[point % costs], accuracy[row % 4], alpha[row / 4 % 2], beta[row / 8]);
	}
	for (size_t i = 0; i < GUARD; i++)
		wrong += out[-1 - (ptrdiff_t)i] != -7 || out[n + i] != -7;
	fg_check_int((int64_t)wrong, 0);
	free(room);
}

FG_TEST(a_grid_holds_the_formula_and_stays_within_its_room)
{
	const struct fg_metric_path *const *paths = fg_metric_paths();
	const size_t size = 24 * COSTS;
	for (; *paths; paths++)
		for (int stream = 0; stream < 2 && (*paths)->usable(); stream++) {
			check_grid(*paths, COSTS, 0, size, 0, stream);
			check_grid(*paths, COSTS, 1, size - 1, 1, stream);
			check_grid(*paths, COSTS, 500, 503, 0, stream);
			check_grid(*paths, COSTS, COSTS - 1, COSTS + 1, 7, stream);
			check_grid(*paths, COSTS, 77, 77, 0, stream);
		}
}

FG_TEST(rows_of_any_length_meet_within_a_vector_wherever_it_lies)
{
	for (const struct fg_metric_path *const *paths = fg_metric_paths(); *paths; paths++)
		for (size_t costs = 1; costs <= 35 && (*paths)->usable(); costs++)
			for (size_t shift = 0; shift < 16; shift++) {
				const size_t first = (costs + shift) % 5, last = 24 * costs - shift % 3;
				check_grid(*paths, costs, first, last, shift, true);
				check_grid_f32(*paths, costs, first, last, shift, true);
				check_grid_f32(*paths, costs, first, last, shift, false);
			}
}

FG_TEST(elementwise_loops_hold_the_formula_for_every_length)
{
	float cost[300], accuracy[300], out[300], alpha = 0.1f, beta = 2;
	for (size_t i = 0; i < 300; i++) {
		cost[i] = (float)(random_unit() * 50);
		accuracy[i] = (float)random_unit();
	}
	for (const struct fg_metric_path *const *paths = fg_metric_paths(); *paths; paths++) {
		for (size_t n = 0; n < 300 && (*paths)->usable(); n++) {
			const struct fg_metric_column in[4] = {{(char *)cost, sizeof *cost},
												   {(char *)accuracy, sizeof *accuracy},
												   {(char *)&alpha, 0},
												   {(char *)&beta, 0}};
			memset(out, 0, sizeof out);
			fg_check(!(*paths)->score_f32(in, (char *)out, sizeof *out, n));
			for (size_t i = 0; i < n; i++)
				fg_require(out[i] == score_f32(cost[i], accuracy[i], alpha, beta));
			fg_check(n == 300 || out[n] == 0);
		}
	}
}

FG_TEST(a_value_outside_the_domain_is_told_and_spoils_nothing_else)
{
	double cost[100], accuracy[100], out[100], alpha = 0.1, beta = 1;
	for (const struct fg_metric_path *const *paths = fg_metric_paths(); *paths; paths++) {
		for (size_t at = 0; at < 100 && (*paths)->usable(); at++) {
			for (size_t i = 0; i < 100; i++) {
				cost[i] = (double)i;
				accuracy[i] = 0.5;
			}
			accuracy[at] = 1.5;
			const struct fg_metric_column in[4] = {{(char *)cost, sizeof *cost},
												   {(char *)accuracy, sizeof *accuracy},
												   {(char *)&alpha, 0},
												   {(char *)&beta, 0}};
			fg_check((*paths)->score_f64(in, (char *)out, sizeof *out, 100));
			for (size_t i = 0; i < 100; i++)
				fg_check(i == at ? out[i] != out[i] : out[i] == score(cost[i], accuracy[i], alpha, beta));
			accuracy[at] = NAN;
			fg_check(!(*paths)->score_f64(in, (char *)out, sizeof *out, 100));
		}
	}
}

FG_TEST(a_search_finds_the_first_that_reaches_the_target)
{
	/* The check run of the definition: quarter hours, with the energy rising evenly. */
	const double time[] = {0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2};
	const double accuracy[] = {.312, .558, .701, .783, .829, .858, .861, .874};
	const double cost[] = {.37, .74, 1.11, 1.48, 1.85, 2.22, 2.59, 2.96};
	const int64_t offset[] = {0, 8, 8};
	int64_t index[2], accuracy_cell[2], cost_cell[2];
	double q[2], at[2];
	const struct fg_metric_found found = {index, q, at, accuracy_cell, cost_cell};
	for (const struct fg_metric_path *const *paths = fg_metric_paths(); *paths; paths++) {
		struct fg_metric_goal goal = {0.1, 0.01, 0.1, 1, NAN, true};
		if (!(*paths)->usable())
			continue;
		fg_check_int((int64_t)(*paths)->reach_f64(&goal, offset, time, cost, accuracy, 0, 2, &found), 2);
		fg_check_int(index[0], 5);
		fg_check_int(accuracy_cell[0], 85);
		fg_check_int(cost_cell[0], 22);
		fg_check(at[0] == 1.5 && isinf(at[1]));
		fg_check_int(index[1], -1);
		fg_check_near(q[0], 0.563009301177, 1e-11);
		fg_check(q[1] != q[1]);
		goal.target = 0.55;
		fg_check_int((int64_t)(*paths)->reach_f64(&goal, offset, time, cost, accuracy, 0, 1, &found), 1);
		fg_check_int(index[0], 3);
		goal.quantize = false;
		fg_check_int((int64_t)(*paths)->reach_f64(&goal, offset, NULL, cost, accuracy, 0, 1, &found), 1);
		fg_check_int(index[0], 4);
		goal.target = 0.6;
		fg_check_int((int64_t)(*paths)->reach_f64(&goal, offset, time, cost, accuracy, 0, 1, &found), 1);
		fg_check_int(index[0], -1);
	}
}

int main(void)
{
	srandom(1);
	fg_run(every_path_is_named_and_the_last_is_usable);
	fg_run(a_grid_holds_the_formula_and_stays_within_its_room);
	fg_run(rows_of_any_length_meet_within_a_vector_wherever_it_lies);
	fg_run(elementwise_loops_hold_the_formula_for_every_length);
	fg_run(a_value_outside_the_domain_is_told_and_spoils_nothing_else);
	fg_run(a_search_finds_the_first_that_reaches_the_target);
	return fg_report();
}
