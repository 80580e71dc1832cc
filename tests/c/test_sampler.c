/* SPDX-License-Identifier: Apache-2.0 */
#include "fg_alloc.h"
#include "fg_rig.h"

#include <stdlib.h>

FG_TEST(a_day_by_the_driven_clock_misses_nothing)
{
	struct rig rig;
	int64_t day_ns = 86400 * FG_NS_PER_S;

	rig_init(&rig, day_ns);
	rig_run(&rig, 1000 * MS, 16, 0);
	int64_t samples = (int64_t)rig.tally.account.samples;
	fg_check(samples >= 86398);
	fg_check_int((int64_t)rig.tally.live.missed, 0);
	fg_check_int(rig.tally.end_total, (samples - 1) * 10); /* not a joule lost, though the ring was full all day */
	fg_check_int((int64_t)rig.tally.live.lost, samples - 16);
	/* every deadline at its place: the last sample but the one of stop lies on the grid */
	fg_check(rig.tally.account.last_at_ns - rig.tally.account.first_at_ns >= (samples - 2) * 1000 * MS);
	rig_close(&rig);
}

FG_TEST(dithered_ticks_are_half_to_one_and_a_half_periods_apart_and_one_on_average)
{
	static struct fg_sample out[16384];
	struct rig rig;

	rig_init(&rig, 100 * FG_NS_PER_S);
	rig.dither = true;
	rig_run(&rig, 10 * MS, 16384, 0);
	size_t got = fg_sampler_drain(rig.sampler, 0, out, 16384), low = 0, high = 0;
	fg_check_int((int64_t)rig.tally.live.missed, 0);
	fg_check(got > 9900 && got < 10100);
	for (size_t i = 1; i + 1 < got; i++) { /* the last one is that of stop */
		int64_t apart_ns = out[i].at_ns - out[i - 1].at_ns;

		fg_check(apart_ns >= 5 * MS && apart_ns <= 15 * MS);
		low += apart_ns < 7 * MS;
		high += apart_ns > 13 * MS;
	}
	fg_check(low > got / 6 && high > got / 6);
	rig_close(&rig);
}

FG_TEST(a_missed_dithered_deadline_is_counted_as_one)
{
	struct fg_sample out[512];
	struct rig rig;

	rig_init(&rig, 1000 * MS);
	rig.dither = true;
	rig.script.driven = &rig.driven;
	rig.script.read_ns = 25 * MS;
	rig_run(&rig, 10 * MS, 512, 0);
	int64_t got = (int64_t)fg_sampler_drain(rig.sampler, 0, out, 512), missed = (int64_t)rig.tally.live.missed;
	fg_check(got > 20 && got < 45);
	fg_check(missed > got && missed < 3 * got); /* a read is two and a half ticks long */
	fg_check(got + missed > 80 && got + missed < 120);
	rig_close(&rig);
}

FG_TEST(wraps_of_lost_points_are_carried_and_the_gap_is_flagged)
{
	struct rig rig;
	struct fg_sample out[64];
	struct fg_live live;

	rig_init(&rig, 50 * MS);
	rig.script.modulus = rig.traits.modulus = 35; /* a wrap every three or four reads of 10 */
	fg_require(rig_open(&rig, &rig.driven.clock, MS, 4) == FG_OK);
	fg_require(fg_sampler_start(rig.sampler, 60 * FG_NS_PER_S, NULL) == FG_OK);
	do { /* 4 kept, the rest lost */
		sched_yield();
		fg_sampler_live(rig.sampler, 0, &live);
	} while (live.samples < 30);
	size_t got = fg_sampler_drain(rig.sampler, 0, out, 64);
	rig.driven.end_at_ns = FG_NS_PER_S + 100 * MS;
	do {
		sched_yield();
		fg_sampler_live(rig.sampler, 0, &live);
	} while (live.samples < 80);
	fg_sampler_stop(rig.sampler, 0);
	got += fg_sampler_drain(rig.sampler, 0, out + got, 64 - got);
	fg_sampler_tally(rig.sampler, 0, &rig.tally);
	fg_check_int((int64_t)got, 8);
	fg_check_int((int64_t)(rig.tally.live.samples - rig.tally.live.lost), 8);
	int64_t total = 0;
	for (size_t i = 1; i < got; i++) {
		total += out[i].raw - out[i - 1].raw + out[i].wraps * 35;
		fg_check_int(out[i].flags, i == 4 ? FG_SAMPLE_GAP : 0);
		fg_check_int(total, (out[i].at_ns - out[0].at_ns) / MS * 10);
	}
	fg_check_int(rig.tally.end_total, (int64_t)(rig.tally.account.samples - 1) * 10);
	rig_close(&rig);
}

FG_TEST(an_overrun_skips_to_the_next_deadline_and_counts_without_a_burst)
{
	struct rig rig;
	struct fg_sample out[512];

	rig_init(&rig, 1000 * MS);
	rig.script.driven = &rig.driven;
	rig.script.read_ns = 25 * MS; /* two and a half periods a read */
	rig_run(&rig, 10 * MS, 512, 0);
	size_t got = fg_sampler_drain(rig.sampler, 0, out, 512);
	fg_check(got > 20 && got < 40);
	fg_check_int((int64_t)rig.tally.live.missed, 2 * ((int64_t)got - 1));
	for (size_t i = 0; i + 1 < got; i++) {
		fg_check_int(out[i].half_ns, 25 * MS / 2);
		fg_check_int(out[i].at_ns - 25 * MS / 2, FG_NS_PER_S + (int64_t)i * 30 * MS); /* on the grid, stamped in its middle */
	}
	rig_close(&rig);
}

FG_TEST(deadlines_missed_before_the_stop_are_counted_though_no_reading_came_after_them)
{
	for (int i = 0; i < 200; i++) {
		struct rig rig;
		struct fg_live live = {0};

		rig_init(&rig, 20 * MS);
		fg_require(rig_open(&rig, &rig.driven.clock, MS, 64) == FG_OK);
		fg_require(fg_sampler_start(rig.sampler, 60 * FG_NS_PER_S, NULL) == FG_OK);
		while (live.samples < 21) {
			sched_yield();
			fg_sampler_live(rig.sampler, 0, &live);
		}
		if (i % 2 == 0)
			fg_sampler_stop_soon(rig.sampler, 0); /* whichever it sees first */
		rig.driven.at_ns += 10 * MS;
		fg_sampler_stop(rig.sampler, 0);
		fg_sampler_tally(rig.sampler, 0, &rig.tally);
		int64_t asked_at_ns = rig.tally.account.last_at_ns - rig.tally.account.last_half_ns;
		int64_t passed = (asked_at_ns - rig.tally.account.first_at_ns) / MS;
		int64_t counted = (int64_t)(rig.tally.account.samples - 1 + rig.tally.live.missed);
		fg_check(counted == passed || counted == passed + 1); /* the last reading may come besides one in its turn */
		rig_close(&rig);
	}
}

FG_TEST(lateness_is_no_miss_until_a_whole_period_is_gone)
{
	struct rig rig;

	rig_init(&rig, 1000 * MS);
	rig.driven.lateness_ns = 9 * MS;
	rig_run(&rig, 10 * MS, 512, 0);
	fg_check_int((int64_t)rig.tally.live.missed, 0);
	fg_check(rig.tally.account.samples >= 98);
	rig_close(&rig);
}

FG_TEST(three_not_supported_in_a_row_end_a_channel_and_two_do_not)
{
	struct rig rig;
	static const enum fg_status no = FG_NOT_SUPPORTED, ok = FG_OK, bad = FG_READ_FAILED;

	rig_init(&rig, 100 * MS);
	memcpy(rig.script.statuses, (enum fg_status[]){ok, no, ok, no, no, ok, no, no, bad, no, no, ok}, 12 * sizeof ok);
	rig_run(&rig, MS, 512, 0);
	fg_check(!rig.tally.live.ended);
	fg_check_int(rig.tally.why_ended.status, FG_OK);
	fg_check_int((int64_t)rig.tally.live.read_errors, 8);
	fg_check_int(rig.tally.last_error.status, FG_NOT_SUPPORTED);
	fg_check_int((int64_t)rig.tally.account.gaps, 3); /* one for each run of failures */
	rig_close(&rig);

	rig_init(&rig, 100 * MS);
	memcpy(rig.script.statuses, (enum fg_status[]){ok, ok, no, no, no, ok}, 6 * sizeof ok);
	rig_run(&rig, MS, 512, 0);
	fg_check(rig.tally.live.ended);
	fg_check_int(rig.tally.why_ended.status, FG_NOT_SUPPORTED);
	fg_check_int(rig.script.reads, 5); /* and is left alone from then on */
	fg_check_int((int64_t)rig.tally.account.samples, 2);
	rig_close(&rig);
}

FG_TEST(a_lost_device_ends_its_channel_at_once)
{
	struct rig rig;

	rig_init(&rig, 100 * MS);
	rig.script.statuses[3] = FG_LOST;
	rig_run(&rig, MS, 512, 0);
	fg_check(rig.tally.live.ended);
	fg_check_int(rig.tally.why_ended.status, FG_LOST);
	fg_check_int(rig.script.reads, 4);
	fg_check_int(rig.tally.end_total, 20);
	rig_close(&rig);
}

FG_TEST(failed_reads_leave_a_gap_and_no_value_yet_leaves_none)
{
	struct rig rig;
	struct fg_sample out[512];

	rig_init(&rig, 100 * MS);
	rig.script.statuses[2] = rig.script.statuses[3] = FG_READ_FAILED;
	rig.script.statuses[6] = FG_NOT_READY;
	rig_run(&rig, MS, 512, 0);
	size_t got = fg_sampler_drain(rig.sampler, 0, out, 512);
	for (size_t i = 0; i < got; i++)
		fg_check_int(out[i].flags, i == 2 ? FG_SAMPLE_GAP : 0);
	fg_check_int((int64_t)rig.tally.live.read_errors, 2);
	fg_check_int((int64_t)rig.tally.account.gaps, 1);
	fg_check_int(rig.tally.last_error.status, FG_READ_FAILED);
	rig_close(&rig);
}

FG_TEST(settling_waits_for_one_more_update_and_no_longer_than_allowed)
{
	struct rig rig;

	rig_init(&rig, 20 * MS);
	rig_run(&rig, MS, 512, 500 * MS);
	fg_check_int(rig.tally.account.total, rig.tally.end_total + 10);
	rig_close(&rig);

	rig_init(&rig, 20 * MS);
	rig.script.growing_reads = 3; /* then it stands still for ever */
	rig_run(&rig, MS, 512, 500 * MS);
	fg_check_int(rig.tally.account.total, rig.tally.end_total);
	fg_check(rig.tally.account.last_at_ns - rig.tally.end_at_ns >= 480 * MS);
	fg_check(rig.tally.account.last_at_ns - rig.tally.end_at_ns <= 520 * MS);
	rig_close(&rig);
}

FG_TEST(a_first_reading_while_settling_ends_where_it_begins)
{
	struct rig rig;

	rig_init(&rig, 5 * MS);
	for (size_t i = 0; i < 15; i++)
		rig.script.statuses[i] = FG_NOT_READY;
	rig_run(&rig, MS, 512, 500 * MS);
	fg_check(rig.tally.account.samples > 0);
	fg_check_int(rig.tally.end_at_ns, rig.tally.account.first_at_ns);
	fg_check_int(rig.tally.end_total, 0);
	rig_close(&rig);
}

FG_TEST(stop_wakes_a_sleeper_at_once_and_takes_a_last_reading)
{
	struct rig rig;

	rig_init(&rig, 0);
	fg_require(rig_open(&rig, &fg_clock_monotonic, 600 * FG_NS_PER_S, 8) == FG_OK);
	fg_require(fg_sampler_start(rig.sampler, 60 * FG_NS_PER_S, NULL) == FG_OK);
	int64_t begin_ns = fg_clock_now_ns();
	fg_sampler_stop(rig.sampler, 0);
	fg_check(fg_clock_now_ns() - begin_ns < 30 * FG_NS_PER_S); /* not the 600 s it would sleep */
	fg_sampler_stop(rig.sampler, 0);                            /* again is nothing */
	fg_sampler_tally(rig.sampler, 0, &rig.tally);
	fg_check_int((int64_t)rig.tally.account.samples, 2);
	fg_check_int(rig.tally.end_total, 10);
	fg_check(fg_sampler_start(rig.sampler, 0, NULL) == FG_INVALID); /* one life only */
	fg_check_int((int64_t)fg_sampler_waiting(rig.sampler, 0), 2);
	rig_close(&rig);
}

FG_TEST(a_slow_source_delays_only_its_own_sampler)
{
	struct rig slow, fast;
	struct fg_live live;

	rig_init(&slow, 0);
	rig_init(&fast, 1000 * MS);
	slow.script.driven = &slow.driven;
	slow.script.read_ns = FG_NS_PER_S;
	slow.driven.end_at_ns = INT64_MAX / 2;
	fg_require(rig_open(&slow, &slow.driven.clock, 10 * MS, 8) == FG_OK);
	fg_require(fg_sampler_start(slow.sampler, 60 * FG_NS_PER_S, NULL) == FG_OK);
	rig_run(&fast, 10 * MS, 512, 0);
	do {
		sched_yield();
		fg_sampler_live(slow.sampler, 0, &live);
	} while (live.missed < 1000);
	fg_check_int((int64_t)fast.tally.live.missed, 0);
	fg_check(fast.tally.account.samples >= 98);
	rig_close(&slow);
	rig_close(&fast);
}

FG_TEST(a_replay_is_played_whole_and_then_says_so)
{
	enum { COUNT = 5000 };
	static struct fg_sample samples[COUNT], out[COUNT + 1];
	struct fg_sensor sensor = {.record = {samples, COUNT}};
	struct fg_traits traits = {FG_ENERGY, 1000, 1, MS, 0, 0, 0};
	struct fg_sampler_config config = {&fg_source_replay,
									   {.sensors = &sensor, .count = 1, .clock = &fg_clock_monotonic, .speed = 0},
									   &traits, MS, 64, false};
	struct fg_sampler *sampler;
	struct fg_tally tally;
	size_t got = 0;

	for (int64_t i = 0; i < COUNT; i++)
		samples[i] = (struct fg_sample){i * 1000, i * 17 % 1000, 3, 0, i == 7 ? FG_SAMPLE_GAP : 0};
	fg_require(fg_sampler_open(&config, &sampler, NULL) == FG_OK);
	fg_require(fg_sampler_start(sampler, 60 * FG_NS_PER_S, NULL) == FG_OK);
	while (!fg_sampler_finished(sampler) || fg_sampler_waiting(sampler, 0) > 0) {
		got += fg_sampler_drain(sampler, 0, out + got, COUNT + 1 - got);
		sched_yield();
	}
	int64_t begin_ns = fg_clock_now_ns();
	fg_sampler_stop(sampler, 600 * FG_NS_PER_S); /* nothing will move any more: no use in waiting */
	fg_check(fg_clock_now_ns() - begin_ns < 300 * FG_NS_PER_S);
	fg_sampler_tally(sampler, 0, &tally);
	fg_check_int((int64_t)got, COUNT);
	fg_check_int((int64_t)tally.live.lost, 0);
	fg_check_int(tally.end_total, (COUNT - 1) * 17);
	for (size_t i = 1; i < got; i++)
		fg_check(out[i].at_ns - out[i - 1].at_ns == 1000 && out[i].raw == samples[i].raw);
	fg_sampler_close(sampler);
}

FG_TEST(every_failing_allocation_of_open_gives_all_back)
{
	struct rig rig;
	struct fg_sensor sensors[3];
	struct fg_traits traits[3];
	long n = 0;

	rig_init(&rig, 0);
	for (int i = 0; i < 3; i++) {
		sensors[i] = rig.sensor;
		traits[i] = rig.traits;
	}
	struct fg_sampler_config config = {&scripted, {.sensors = sensors, .count = 3, .clock = &rig.driven.clock}, traits,
									   MS, 8, false};
	for (;; n++) {
		struct fg_error err;
		fg_alloc_fails_at(n);
		enum fg_status status = fg_sampler_open(&config, &rig.sampler, &err);
		if (status == FG_OK)
			break;
		fg_check_int(status, FG_NO_MEMORY);
		fg_check_int(fg_alloc_live(), 0);
		fg_check(rig.sampler == NULL);
		fg_require(n < 50);
	}
	fg_check_int(n, 5); /* the sampler, three rings, the source */
	rig_close(&rig);
	fg_check_int(fg_alloc_live(), 0);
	fg_alloc_fails_at(-1);
	config.period_ns = 0;
	fg_check(fg_sampler_open(&config, &rig.sampler, NULL) == FG_INVALID);
	config.period_ns = MS;
	config.source.count = 0;
	fg_check(fg_sampler_open(&config, &rig.sampler, NULL) == FG_INVALID);
}

int main(void)
{
	fg_run(a_day_by_the_driven_clock_misses_nothing);
	fg_run(dithered_ticks_are_half_to_one_and_a_half_periods_apart_and_one_on_average);
	fg_run(a_missed_dithered_deadline_is_counted_as_one);
	fg_run(wraps_of_lost_points_are_carried_and_the_gap_is_flagged);
	fg_run(an_overrun_skips_to_the_next_deadline_and_counts_without_a_burst);
	fg_run(deadlines_missed_before_the_stop_are_counted_though_no_reading_came_after_them);
	fg_run(lateness_is_no_miss_until_a_whole_period_is_gone);
	fg_run(three_not_supported_in_a_row_end_a_channel_and_two_do_not);
	fg_run(a_lost_device_ends_its_channel_at_once);
	fg_run(failed_reads_leave_a_gap_and_no_value_yet_leaves_none);
	fg_run(settling_waits_for_one_more_update_and_no_longer_than_allowed);
	fg_run(a_first_reading_while_settling_ends_where_it_begins);
	fg_run(stop_wakes_a_sleeper_at_once_and_takes_a_last_reading);
	fg_run(a_slow_source_delays_only_its_own_sampler);
	fg_run(a_replay_is_played_whole_and_then_says_so);
	fg_run(every_failing_allocation_of_open_gives_all_back);
	return fg_report();
}
