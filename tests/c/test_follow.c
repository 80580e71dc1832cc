/* SPDX-License-Identifier: Apache-2.0 */
#include "fg_follow.h"
#include "fg_test.h"

#include <math.h>
#include <string.h>

#define MS INT64_C(1000000)

/* 300 in state 1 and 20 in state 0, 5 of each 25 ms; a counter updated every 90 ms and read every 25 ms. */
enum { ROUNDS = 400, CHANGES = 100 };

static int64_t edges_ns[2 * ROUNDS];
static int32_t states[2 * ROUNDS];
static struct fg_change changes[CHANGES];
static const struct fg_instants instants = {changes, NULL, CHANGES, FG_FOLLOW_CELLS};
static const struct fg_timeline timeline = {edges_ns, states, 2 * ROUNDS, 2};

static int64_t energy(int64_t at_ns)
{
	int64_t rounds = at_ns / (25 * MS), in_ns = at_ns % (25 * MS);

	return rounds * (5 * 300 + 20 * 20) * MS + (in_ns < 5 * MS ? in_ns * 300 : 5 * MS * 300 + (in_ns - 5 * MS) * 20);
}

static void fill(void)
{
	for (int i = 0; i < 2 * ROUNDS; i++) {
		edges_ns[i] = i / 2 * 25 * MS + (i % 2) * 5 * MS;
		states[i] = 1 - i % 2;
	}
	for (int k = 0; k < CHANGES; k++) {
		int64_t update_ns = (k + 1) * 91 * MS, read_ns = (update_ns / (25 * MS) + 1) * 25 * MS;

		changes[k] = (struct fg_change){read_ns - 25 * MS, read_ns, energy(update_ns) - energy(update_ns - 91 * MS), k > 0};
	}
}

FG_TEST(expected_times_add_up_to_the_time_between_the_instants)
{
	static double times[CHANGES * 2];
	double sum[2] = {0};

	fill();
	fg_follow_times(&instants, &timeline, times);
	for (int k = 1; k < CHANGES; k++)
		for (int s = 0; s < 2; s++) {
			fg_check(times[2 * k + s] >= 0.0);
			sum[s] += times[2 * k + s];
		}
	/* an even density over a whole round: the mean instant is in its middle */
	double whole = (double)(changes[CHANGES - 1].at_ns - changes[0].at_ns);
	fg_check(fabs(sum[0] + sum[1] - whole) < 1.0);
	fg_check(fabs(sum[1] - whole / 5.0) < 1.0);
}

FG_TEST(the_chain_knows_the_instants_of_a_steady_counter)
{
	static float cells[CHANGES * FG_FOLLOW_CELLS];
	struct fg_links links = {90.0 * (double)MS, 92.0 * (double)MS, 0.0, 1e-3};
	struct fg_links_tally tally;

	fill();
	fg_follow_chain(changes, CHANGES, &links, true, cells, &tally);
	fg_check_int((int64_t)tally.links, CHANGES - 1);
	fg_check_int((int64_t)tally.floored, 0);
	for (int k = 30; k < 70; k++) {
		double mean = 0.0, total = 0.0;

		for (int i = 0; i < FG_FOLLOW_CELLS; i++) {
			total += (double)cells[k * FG_FOLLOW_CELLS + i];
			mean += (double)cells[k * FG_FOLLOW_CELLS + i] * (i + 0.5) / FG_FOLLOW_CELLS;
		}
		double at_ns = (double)changes[k].after_ns + mean * 25.0 * (double)MS;
		fg_check(fabs(total - 1.0) < 1e-5);
		fg_check(fabs(at_ns - (k + 1) * 91.0 * (double)MS) < 4.0 * (double)MS);
	}
}

FG_TEST(the_curve_gives_out_every_growth_once_and_never_falls)
{
	static double times[CHANGES * 2], amount[CHANGES], weight[CHANGES], out[3000];
	static int64_t at_ns[3000];
	static int32_t block[CHANGES];
	double power[2] = {20.0, 300.0}, whole = 0.0;
	struct fg_outlay outlay = {amount, weight, power, block};
	struct fg_instants no_instants = {changes, NULL, 0, 0};

	fill();
	fg_follow_times(&instants, &timeline, times);
	for (int k = 1; k < CHANGES; k++) {
		amount[k] = (double)changes[k].grown;
		weight[k] = times[2 * k] * power[0] + times[2 * k + 1] * power[1];
		whole += amount[k];
	}
	for (int i = 0; i < 3000; i++)
		at_ns[i] = i * 4 * MS;
	fg_follow_curve(&instants, &timeline, &outlay, at_ns, 3000, out);
	fg_check(out[0] == 0.0);
	for (int i = 1; i < 3000; i++)
		fg_check(out[i] >= out[i - 1]);
	fg_check(fabs(out[2999] - whole) < 1e-6 * whole);
	fg_follow_curve(&no_instants, &timeline, &outlay, at_ns, 3000, out);
	fg_check(out[2999] == 0.0);
}

int main(void)
{
	fg_run(expected_times_add_up_to_the_time_between_the_instants);
	fg_run(the_chain_knows_the_instants_of_a_steady_counter);
	fg_run(the_curve_gives_out_every_growth_once_and_never_falls);
	return fg_report();
}
