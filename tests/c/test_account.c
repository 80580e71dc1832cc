/* SPDX-License-Identifier: Apache-2.0 */
#include "fg_account.h"
#include "fg_clock.h"
#include "fg_test.h"

#define MS INT64_C(1000000)
#define MODULUS INT64_C(262143328850)

static const struct fg_traits rapl = {FG_ENERGY, MODULUS, 1, MS, 10 * MS, INT64_C(100000000000), 0};

static struct fg_sample reading(int64_t at_ns, int64_t raw)
{
	return (struct fg_sample){.at_ns = at_ns, .raw = raw, .half_ns = 500};
}

/* Feed and give back what the account made of the sample. */
static struct fg_sample feed(struct fg_account *account, int64_t at_ns, int64_t raw, uint16_t flags)
{
	struct fg_sample sample = reading(at_ns, raw);

	sample.flags = flags;
	fg_account_add(account, &sample);
	return sample;
}

FG_TEST(the_total_counts_from_the_first_sample)
{
	struct fg_account account;

	fg_account_init(&account, &rapl);
	feed(&account, 10 * MS, 5000, FG_SAMPLE_RESET); /* nothing before it: no reset */
	feed(&account, 20 * MS, 5001, 0);
	feed(&account, 30 * MS, 9000, 0);
	fg_check_int(account.total, 4000);
	fg_check_int((int64_t)account.samples, 3);
	fg_check_int((int64_t)account.updates, 2);
	fg_check_int((int64_t)account.resets, 0);
	fg_check_int(account.first_at_ns, 10 * MS);
	fg_check_int(account.last_at_ns, 30 * MS);
}

FG_TEST(a_wrap_is_exact_wherever_it_falls)
{
	static const int64_t before[] = {MODULUS - 1, MODULUS - 1, MODULUS - 500, 5 + MODULUS / 2 + 1};
	static const int64_t after[] = {0, 1000, 7, 5};

	for (size_t i = 0; i < sizeof before / sizeof *before; i++) {
		struct fg_account account;

		fg_account_init(&account, &rapl);
		feed(&account, MS, before[i], 0);
		struct fg_sample sample = feed(&account, 2000 * FG_NS_PER_S, after[i], 0);
		fg_check_int(account.total, after[i] - before[i] + MODULUS);
		fg_check_int(sample.wraps, 1);
		fg_check_int(sample.flags, 0);
	}
}

FG_TEST(many_wraps_add_up_to_the_unit)
{
	struct fg_account account;
	int64_t truth = 0, at_ns = MS;

	fg_account_init(&account, &rapl);
	feed(&account, at_ns, 0, 0);
	for (int i = 0; i < 1000; i++) {
		int64_t step = 1 + (i * INT64_C(7919) * 1000003) % (MODULUS / 2 - 1);
		truth += step;
		at_ns += step / 50 * 1000; /* 50 W */
		struct fg_sample sample = feed(&account, at_ns, truth % MODULUS, 0);
		fg_check_int(sample.flags, 0);
		fg_require(account.total == truth);
	}
	fg_check(truth / MODULUS > 100);
}

FG_TEST(a_counter_that_runs_backwards_has_restarted_and_not_wrapped)
{
	struct fg_account account;

	fg_account_init(&account, &rapl);
	feed(&account, MS, 1000000, 0);
	feed(&account, 11 * MS, 1500000, 0);
	struct fg_sample back = feed(&account, 21 * MS, 999999, 0); /* 262 kJ in 10 ms are not believed */
	fg_check_int(back.flags, FG_SAMPLE_RESET);
	fg_check_int(back.wraps, 0);
	feed(&account, 31 * MS, 1000099, 0);
	fg_check_int(account.total, 500000 + 100);
	fg_check_int((int64_t)account.resets, 1);
	/* nor half a wrap that would be plausible: it went from the upper half to a little lower */
	feed(&account, 3000 * FG_NS_PER_S, MODULUS - 5000, 0);
	struct fg_sample lower = feed(&account, 90000 * FG_NS_PER_S, MODULUS - 6000, 0);
	fg_check_int(lower.flags, FG_SAMPLE_RESET);
}

FG_TEST(a_counter_without_a_range_never_wraps)
{
	struct fg_traits nvml = {FG_ENERGY, 0, 1, 100 * MS, 10 * MS, 0, 0};
	struct fg_account account;

	fg_account_init(&account, &nvml);
	feed(&account, MS, INT64_MAX - 10, 0);
	feed(&account, 11 * MS, INT64_MAX, 0);
	struct fg_sample sample = feed(&account, 21 * MS, 3, 0); /* driver reloaded */
	fg_check_int(sample.flags, FG_SAMPLE_RESET);
	feed(&account, 31 * MS, 10, 0);
	fg_check_int(account.total, 17);
}

FG_TEST(implausible_growth_is_a_restart_and_a_late_update_is_not)
{
	struct fg_traits traits = {FG_ENERGY, 0, 1, 100 * MS, 10 * MS, 1000, 0}; /* at most 1000 units a second */
	struct fg_account account;

	fg_account_init(&account, &traits);
	feed(&account, 1000 * MS, 0, 0);
	/* The value before was nearly a period old, so 10 ms later two periods of energy may appear. */
	fg_check_int(feed(&account, 1010 * MS, 110, 0).flags, 0);
	fg_check_int(account.total, 110);
	fg_check_int(feed(&account, 1020 * MS, 1000, 0).flags, FG_SAMPLE_RESET);
	fg_check_int(account.total, 110);
	fg_check_int(feed(&account, 1520 * MS, 1590, 0).flags, 0);
	fg_check_int(account.total, 700);
}

FG_TEST(preset_wraps_are_believed_and_only_raised)
{
	struct fg_traits traits = {FG_ENERGY, 1000, 1, MS, 0, 0, 0};
	struct fg_account account;
	struct fg_sample sample = reading(2 * MS, 10);

	fg_account_init(&account, &traits);
	feed(&account, MS, 900, 0);
	sample.wraps = 3;
	fg_account_add(&account, &sample);
	fg_check_int(account.total, 10 - 900 + 3000);
	sample = reading(3 * MS, 20);
	sample.wraps = UINT16_MAX;
	fg_account_add(&account, &sample);
	fg_check_int(account.total, 2110 + 10 + INT64_C(65535) * 1000);
}

FG_TEST(absurd_values_overflow_nothing)
{
	static const int64_t values[] = {0, INT64_MAX, -INT64_MAX, INT64_MAX, 1, INT64_MAX, 0, INT64_MAX, -1};
	static const int64_t moduli[] = {0, 1, 1000, INT64_MAX};

	for (size_t m = 0; m < sizeof moduli / sizeof *moduli; m++) {
		for (int kind = FG_ENERGY; kind <= FG_POWER; kind++) {
			struct fg_traits traits = {(enum fg_kind)kind, moduli[m], 1, MS, MS, m % 2 ? 1000 : 0, 0};
			struct fg_account account;

			fg_account_init(&account, &traits);
			for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
				struct fg_sample sample = reading((int64_t)i * MS, values[i]);
				sample.wraps = i % 3 == 2 ? UINT16_MAX : 0;
				fg_account_add(&account, &sample);
				fg_check(account.total >= 0);
			}
			fg_check_int((int64_t)account.samples, sizeof values / sizeof *values);
		}
	}
}

/* Feed 1 J every 10 ms up to `until`, each shifted by `lie`. Returns the last sample. */
static struct fg_sample follow(struct fg_account *account, int64_t *tick, int64_t until, int64_t lie)
{
	struct fg_sample last = {0};

	for (; *tick < until; ++*tick)
		last = feed(account, *tick * 10 * MS, 30000000000 + *tick * 1000000 + lie, 0);
	return last;
}

FG_TEST(a_jump_that_comes_back_is_undone_exactly_up_and_down_alike)
{
	static const int64_t lies[] = {696000000, -696000000, 5000000000, -5000000000};

	for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
		struct fg_traits traits = {FG_ENERGY, MODULUS, 1, MS, 10 * MS, 500000000, 0}; /* 500 W */
		struct fg_account account;
		int64_t tick = 0;

		fg_account_init(&account, &traits);
		follow(&account, &tick, 100, 0);
		fg_check_int(follow(&account, &tick, 101, lies[i]).flags, FG_SAMPLE_RESET);
		follow(&account, &tick, 150, lies[i]);
		struct fg_sample back = follow(&account, &tick, 151, 0);
		fg_check_int(back.flags, FG_SAMPLE_RESET | FG_SAMPLE_RETURN | 50 << FG_SAMPLE_BETWEEN);
		follow(&account, &tick, 200, 0);
		fg_check_int(account.total, 199 * 1000000);
		fg_check_int((int64_t)account.jumps.count, 1);
		fg_check_int((int64_t)account.resets, 0);
		fg_check(!account.jumps.in_turn);
	}
}

FG_TEST(a_moment_of_zero_is_no_wrap_wherever_the_counter_is)
{
	static const int64_t before[] = {MODULUS - 3, MODULUS - 40000000, MODULUS / 2 + 1, 30000000000, 1000000};

	for (size_t i = 0; i < sizeof before / sizeof *before; i++) {
		struct fg_traits traits = {FG_ENERGY, MODULUS, 1, MS, FG_NS_PER_S, 500000000, 0};
		struct fg_account account;

		fg_account_init(&account, &traits);
		for (int64_t k = 0; k < 5; k++)
			feed(&account, k * FG_NS_PER_S, before[i] - 10 + 2 * k, 0);
		feed(&account, 5 * FG_NS_PER_S, 0, 0);
		feed(&account, 6 * FG_NS_PER_S, before[i], 0);
		fg_check_int(account.total, 10);
		fg_check_int((int64_t)account.jumps.count, 1);
	}
}

FG_TEST(a_moment_of_zero_in_the_second_of_a_wrap_is_counted)
{
	/* The last value is what the counter shows after the wrap. A sound counter wraps to a few units more than 0. */
	static const int64_t after[][2] = {{0, 1}, {1, 0}, {40, 0}};

	for (size_t i = 0; i < sizeof after / sizeof *after; i++) {
		struct fg_traits traits = {FG_ENERGY, MODULUS, 1, MS, FG_NS_PER_S, 500000000, 0};
		struct fg_account account;

		fg_account_init(&account, &traits);
		feed(&account, 0, MODULUS - 80000000, 0);
		feed(&account, FG_NS_PER_S, MODULUS - 30000000, 0);
		feed(&account, 2 * FG_NS_PER_S, after[i][0], 0);
		feed(&account, 3 * FG_NS_PER_S, 70000000, 0);
		fg_check_int(account.total, 150000000);
		fg_check_int((int64_t)account.jumps.count, after[i][1]);
		fg_check_int((int64_t)account.resets, 0);
	}
}

FG_TEST(two_counters_in_turn_are_noticed_however_seldom_they_are_read)
{
	for (int64_t per_turn = 1; per_turn <= 100; per_turn *= 10) {
		struct fg_traits traits = {FG_ENERGY, MODULUS, 1, MS, FG_NS_PER_S / per_turn, 4000000000, 0};
		struct fg_account account;

		fg_account_init(&account, &traits);
		for (int64_t k = 0; k < 14 * per_turn; k++) {
			int64_t at_ns = k * (FG_NS_PER_S / per_turn), grown = 65 * at_ns / 1000;

			feed(&account, at_ns, k / per_turn % 2 ? 45766381128 + 2 * grown : 194127997354 + grown, 0);
		}
		fg_check(account.jumps.in_turn);
	}
}

FG_TEST(a_counter_that_draws_more_than_its_limit_keeps_every_joule)
{
	struct fg_traits traits = {FG_ENERGY, MODULUS, 1, MS, FG_NS_PER_S, 200000000, 0}; /* 200 W believed, 800 W drawn */
	struct fg_account account;

	fg_account_init(&account, &traits);
	for (int64_t k = 0; k < 20; k++)
		feed(&account, k * FG_NS_PER_S, k * (k < 5 ? 50 : 800) * INT64_C(1000000), 0);
	fg_check_int(account.total, 19 * 800 * INT64_C(1000000));
	fg_check_int((int64_t)account.resets, 0);
	fg_check_int((int64_t)account.jumps.count, 1);
}

FG_TEST(no_return_reaches_across_a_lost_sample)
{
	struct fg_traits traits = {FG_ENERGY, MODULUS, 1, MS, 10 * MS, 500000000, 0};
	struct fg_account account;
	int64_t tick = 0;

	fg_account_init(&account, &traits);
	follow(&account, &tick, 100, 0);
	follow(&account, &tick, 110, 696000000);
	fg_account_forget(&account);
	fg_check_int(follow(&account, &tick, 111, 0).flags, FG_SAMPLE_RESET);
	fg_check_int((int64_t)account.resets, 2);
}

FG_TEST(power_integrates_by_trapezoids_exactly)
{
	struct fg_traits traits = {FG_POWER, 0, 1, MS, 0, 0, 0};
	struct fg_account account;
	int64_t at_ns = 0, raw = 0;
	fg_int128 twice = 0;

	fg_account_init(&account, &traits);
	feed(&account, 0, 0, 0);
	for (int i = 1; i < 1000; i++) {
		int64_t step_ns = 1 + i * INT64_C(7919) % 1000003, next = i * INT64_C(104729) % 400009;
		twice += (fg_int128)(raw + next) * step_ns;
		at_ns += step_ns;
		raw = next;
		feed(&account, at_ns, raw, 0);
	}
	fg_check_near(account.power_integral, (double)twice / 2, 1e-15);
	fg_check(account.peak_per_ns <= 400009 && account.peak_per_ns > 300000);
}

/* Feed a power at the end of a step; whether it was flagged as coming after a gap. */
static bool gap_after(struct fg_account *account, int64_t *at_ns, int64_t step_ns)
{
	struct fg_sample sample = {.at_ns = *at_ns += step_ns, .raw = 100, .half_ns = 1};

	fg_account_add(account, &sample);
	return (sample.flags & FG_SAMPLE_GAP) != 0;
}

FG_TEST(a_power_that_nobody_looked_at_for_longer_than_an_update_is_a_gap)
{
	struct fg_traits traits = {FG_POWER, 0, 1, 100 * MS, 10 * MS, 0, 0};
	struct fg_account account;
	int64_t at_ns = FG_NS_PER_S;

	fg_account_init(&account, &traits);
	fg_check(!gap_after(&account, &at_ns, 0));
	fg_check(!gap_after(&account, &at_ns, 10 * MS));
	fg_check(!gap_after(&account, &at_ns, 100 * MS)); /* late, and no value was missed */
	fg_check(gap_after(&account, &at_ns, 101 * MS));
	fg_check(gap_after(&account, &at_ns, 3600 * FG_NS_PER_S)); /* stopped for an hour */
	fg_check_int((int64_t)account.gaps, 2);

	account.traits.tick_ns = 500 * MS; /* slower than the sensor on purpose: late is what three ticks miss */
	fg_check(!gap_after(&account, &at_ns, 1500 * MS));
	fg_check(gap_after(&account, &at_ns, 1501 * MS));
	account.traits.tick_ns = 0; /* recorded: its flags are known */
	fg_check(!gap_after(&account, &at_ns, 3600 * FG_NS_PER_S));
	account.traits = (struct fg_traits){FG_ENERGY, 0, 1, 100 * MS, 10 * MS, 0, 0};
	fg_check(!gap_after(&account, &at_ns, 3600 * FG_NS_PER_S)); /* a counter went on counting */
}

/* A counter that is updated every `update_ns` (less up to `jitter`) and read every `tick_ns`. */
static void watch(struct fg_account *account, int64_t update_ns, int64_t jitter_ns, int64_t tick_ns, int64_t end_ns)
{
	int64_t next_update_ns = 12345, raw = 0;
	uint64_t random = 1;

	for (int64_t at_ns = MS; at_ns < end_ns; at_ns += tick_ns) {
		while (next_update_ns <= at_ns) {
			random = random * 6364136223846793005u + 1442695040888963407u;
			next_update_ns += update_ns - (jitter_ns > 0 ? (int64_t)((random >> 33) % (uint64_t)jitter_ns) : 0);
			raw += 10;
		}
		feed(account, at_ns, raw, 0);
	}
}

FG_TEST(the_update_period_is_learnt_from_above)
{
	struct fg_traits traits = {FG_ENERGY, 0, 1, 200 * MS, 10 * MS, 0, 0};
	struct fg_account account;

	fg_account_init(&account, &traits);
	fg_check_int(fg_account_period_ns(&account), 200 * MS); /* until learnt */
	watch(&account, 100 * MS, 20 * MS, 10 * MS, 60 * FG_NS_PER_S);
	int64_t period_ns = fg_account_period_ns(&account);
	fg_check(period_ns >= 99 * MS); /* never below the longest of 80..100 ms */
	fg_check(period_ns <= 121 * MS);
	fg_check(account.period_lower_ns <= 100 * MS);
	fg_check_near((double)account.period_sum_ns / (double)account.periods, 90e6, 0.02);
}

FG_TEST(slow_reads_teach_no_period)
{
	struct fg_traits traits = {FG_ENERGY, 0, 1, MS, 100 * MS, 0, 0};
	struct fg_account account;

	fg_account_init(&account, &traits);
	watch(&account, MS, 0, 100 * MS, 20 * FG_NS_PER_S);
	fg_check_int(fg_account_period_ns(&account), MS);
}

FG_TEST(a_longer_stretch_without_change_disproves_the_assumed_period)
{
	struct fg_traits traits = {FG_ENERGY, 0, 1, MS, 10 * MS, 0, 0};
	struct fg_account account;

	fg_account_init(&account, &traits);
	feed(&account, 0, 0, 0);
	feed(&account, 10 * MS, 5, 0);
	for (int64_t at_ns = 20 * MS; at_ns <= 500 * MS; at_ns += 10 * MS)
		feed(&account, at_ns, 5, 0);
	fg_check(fg_account_period_ns(&account) >= 490 * MS - 2000);
}

FG_TEST(a_stall_after_the_period_was_learnt_still_counts)
{
	struct fg_traits traits = {FG_ENERGY, 0, 1, MS, 10 * MS, 0, 0};
	struct fg_account account;

	fg_account_init(&account, &traits);
	watch(&account, 50 * MS, 0, 10 * MS, 2 * FG_NS_PER_S);
	fg_check(fg_account_period_ns(&account) < 80 * MS);
	for (int64_t at_ns = 2 * FG_NS_PER_S; at_ns < 3 * FG_NS_PER_S; at_ns += 10 * MS)
		feed(&account, at_ns, account.last_raw, 0);
	fg_check(fg_account_period_ns(&account) > 900 * MS);
}

FG_TEST(an_interval_across_a_gap_or_a_restart_teaches_nothing)
{
	struct fg_traits traits = {FG_ENERGY, 0, 1, MS, 10 * MS, 0, 0};
	struct fg_account account;
	int64_t at_ns = 0, raw = 0;

	fg_account_init(&account, &traits);
	for (int i = 0; i < 400; i++) {
		bool gap = i % 40 == 39, silent = i % 40 == 20, restart = i % 100 == 99;

		/* failed reads; a pause of the sampler without a failure; a restart */
		at_ns += gap || silent ? 700 * MS : 10 * MS;
		raw = restart ? 0 : raw + (i % 4 == 0 || gap || silent ? 10 : 0);
		feed(&account, at_ns, raw, gap ? FG_SAMPLE_GAP : 0);
	}
	fg_check(account.periods > 50);
	fg_check_int((int64_t)account.gaps, 10);
	fg_check_int((int64_t)account.resets, 4);
	fg_check(fg_account_period_ns(&account) < 80 * MS);
}

FG_TEST(a_counter_that_stood_still_across_a_pause_proves_a_longer_period_and_a_restart_does_not)
{
	struct fg_traits traits = {FG_ENERGY, 0, 1, MS, 10 * MS, 0, 0};
	const uint16_t pauses[] = {0, FG_SAMPLE_GAP, FG_SAMPLE_RESET};

	for (size_t i = 0; i < 3; i++) {
		struct fg_account account;

		fg_account_init(&account, &traits);
		for (int64_t tick = 0; tick < 20; tick++)
			feed(&account, tick * 10 * MS, tick, 0);
		fg_check_int(fg_account_period_ns(&account), MS);
		feed(&account, 690 * MS, 19, pauses[i]);
		feed(&account, 700 * MS, 19, 0);
		if (pauses[i] == FG_SAMPLE_RESET)
			fg_check(fg_account_period_ns(&account) <= 25 * MS);
		else
			fg_check(fg_account_period_ns(&account) >= 500 * MS);
	}
}

int main(void)
{
	fg_run(the_total_counts_from_the_first_sample);
	fg_run(a_wrap_is_exact_wherever_it_falls);
	fg_run(many_wraps_add_up_to_the_unit);
	fg_run(a_counter_that_runs_backwards_has_restarted_and_not_wrapped);
	fg_run(a_counter_without_a_range_never_wraps);
	fg_run(implausible_growth_is_a_restart_and_a_late_update_is_not);
	fg_run(preset_wraps_are_believed_and_only_raised);
	fg_run(absurd_values_overflow_nothing);
	fg_run(a_jump_that_comes_back_is_undone_exactly_up_and_down_alike);
	fg_run(a_moment_of_zero_is_no_wrap_wherever_the_counter_is);
	fg_run(a_moment_of_zero_in_the_second_of_a_wrap_is_counted);
	fg_run(two_counters_in_turn_are_noticed_however_seldom_they_are_read);
	fg_run(a_counter_that_draws_more_than_its_limit_keeps_every_joule);
	fg_run(no_return_reaches_across_a_lost_sample);
	fg_run(power_integrates_by_trapezoids_exactly);
	fg_run(a_power_that_nobody_looked_at_for_longer_than_an_update_is_a_gap);
	fg_run(the_update_period_is_learnt_from_above);
	fg_run(slow_reads_teach_no_period);
	fg_run(a_longer_stretch_without_change_disproves_the_assumed_period);
	fg_run(a_stall_after_the_period_was_learnt_still_counts);
	fg_run(an_interval_across_a_gap_or_a_restart_teaches_nothing);
	fg_run(a_counter_that_stood_still_across_a_pause_proves_a_longer_period_and_a_restart_does_not);
	return fg_report();
}
