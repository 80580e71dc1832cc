/* Reads that do not come back. SPDX-License-Identifier: Apache-2.0 */
#include "fg_rig.h"

/* A sampler whose read number 5 hangs; it has been stopped. */
static void rig_left(struct rig *rig)
{
	struct fg_live live = {0};

	rig_init(rig, 0);
	rig->script.hangs_at_read = 5;
	fg_require(rig_open(rig, &fg_clock_monotonic, MS, 64) == FG_OK);
	fg_require(fg_sampler_start(rig->sampler, 60 * FG_NS_PER_S, NULL) == FG_OK);
	while (rig->script.reads < 6)
		sched_yield();
	fg_sampler_live(rig->sampler, 0, &live);
	fg_check(!live.ended);
	int64_t begin_ns = fg_clock_now_ns();
	fg_sampler_stop(rig->sampler, 0);
	fg_check(fg_clock_now_ns() - begin_ns >= scripted.patience_ns);
	fg_sampler_tally(rig->sampler, 0, &rig->tally);
}

FG_TEST(a_read_that_never_returns_is_left_and_what_came_before_counts)
{
	struct rig rig;
	struct fg_sample out[64];

	rig_left(&rig);
	fg_check_int((int64_t)rig.tally.account.samples, 5);
	fg_check_int(rig.tally.end_total, 40);
	fg_check_int(rig.tally.end_at_ns, rig.tally.account.last_at_ns);
	fg_check_int(rig.tally.why_ended.status, FG_LOST);
	fg_check(strstr(rig.tally.why_ended.message, "script does not answer") != NULL);
	fg_check_int((int64_t)rig.tally.live.read_errors, 1);
	fg_check(rig.tally.live.ended);
	fg_check_int((int64_t)fg_sampler_drain(rig.sampler, 0, out, 64), 5);
	fg_sampler_stop(rig.sampler, 0);
	rig_close(&rig); /* returns, and closes nothing: the source is being read */
	fg_check_int(rig.script.closed, 0);
	rig.script.let_go = true; /* now the thread finds itself left, and gives all back */
	while (rig.script.closed == 0)
		sched_yield();
}

FG_TEST(a_first_reading_while_settling_ends_where_it_begins_though_the_next_one_hangs)
{
	struct rig rig;

	rig_init(&rig, 0);
	rig.script.statuses[0] = rig.script.statuses[1] = FG_NOT_READY; /* the reads of start and stop */
	rig.script.hangs_at_read = 3;
	fg_require(rig_open(&rig, &fg_clock_monotonic, 600 * FG_NS_PER_S, 64) == FG_OK);
	fg_require(fg_sampler_start(rig.sampler, 60 * FG_NS_PER_S, NULL) == FG_OK);
	fg_sampler_stop(rig.sampler, 60 * FG_NS_PER_S);
	fg_sampler_tally(rig.sampler, 0, &rig.tally);
	fg_check_int((int64_t)rig.tally.account.samples, 1);
	fg_check_int(rig.tally.end_at_ns, rig.tally.account.first_at_ns);
	fg_check_int(rig.tally.end_total, 0);
	rig.script.let_go = true;
	rig_close(&rig);
	while (rig.script.closed == 0)
		sched_yield();
}

FG_TEST(a_left_thread_that_returns_before_the_close_changes_nothing)
{
	struct rig rig;
	struct fg_tally after;

	rig_left(&rig);
	rig.script.let_go = true;
	for (int i = 0; i < 20; i++)
		fg_clock_monotonic.sleep_until(NULL, fg_clock_now_ns() + MS, &(struct fg_wake){0});
	fg_sampler_tally(rig.sampler, 0, &after);
	fg_check_int((int64_t)after.account.samples, (int64_t)rig.tally.account.samples);
	fg_check_int(after.end_total, rig.tally.end_total);
	fg_check_int(after.account.total, rig.tally.account.total);
	fg_check_int((int64_t)after.live.read_errors, 1);
	rig_close(&rig);
	while (rig.script.closed == 0) /* by whoever came last */
		sched_yield();
	fg_check_int(rig.script.closed, 1);
}

FG_TEST(reads_slower_than_the_patience_in_sum_are_waited_for)
{
	struct rig rig;

	rig_init(&rig, 0);
	rig.script.step = 0; /* never moves: settling goes on for its whole time, longer than one read may take */
	fg_require(rig_open(&rig, &fg_clock_monotonic, MS, 4096) == FG_OK);
	fg_require(fg_sampler_start(rig.sampler, 60 * FG_NS_PER_S, NULL) == FG_OK);
	fg_sampler_stop(rig.sampler, scripted.patience_ns + 300 * MS);
	fg_sampler_tally(rig.sampler, 0, &rig.tally);
	fg_check_int(rig.tally.why_ended.status, FG_OK);
	fg_check(rig.tally.account.last_at_ns - rig.tally.end_at_ns > scripted.patience_ns);
	rig_close(&rig);
}

int main(void)
{
	fg_run(a_read_that_never_returns_is_left_and_what_came_before_counts);
	fg_run(a_first_reading_while_settling_ends_where_it_begins_though_the_next_one_hangs);
	fg_run(a_left_thread_that_returns_before_the_close_changes_nothing);
	fg_run(reads_slower_than_the_patience_in_sum_are_waited_for);
	return fg_report();
}
