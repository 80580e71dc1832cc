/* Faults that take long or cannot be arranged in the world: a full ring, a stalled drainer, a suspended machine, a day.
 * What comes out is shown where a user sees it, in the energy of windows. SPDX-License-Identifier: Apache-2.0 */
#include "fg_driven.h"
#include "fg_resolver.h"
#include "fg_sampler.h"
#include "fg_test.h"

#include <stdlib.h>

#define MS INT64_C(1000000)

/* A counter of 100 uJ a ms, and half as much again in every odd second, that wraps at MODULUS; it is read from the
 * clock that drives the sampler, so that the truth is known at every instant. */
enum { MODULUS = 7000001 };

static int64_t true_uj(int64_t at_ns)
{
	int64_t seconds = at_ns / FG_NS_PER_S, rest_ns = at_ns % FG_NS_PER_S;

	return seconds / 2 * 250000 + seconds % 2 * 100000 + rest_ns * (seconds % 2 == 0 ? 100 : 150) / MS;
}

struct fg_source {
	const struct fg_clock *clock;
};

static enum fg_status counter_open(const struct fg_source_config *config, struct fg_source **out, struct fg_error *err)
{
	struct fg_source *source = malloc(sizeof *source);

	if (source == NULL)
		return fg_error_set(err, FG_NO_MEMORY, 0, 0, "no memory");
	source->clock = config->clock;
	*out = source;
	return FG_OK;
}

static enum fg_status counter_read(struct fg_source *source, size_t index, struct fg_reading *out, struct fg_error *err)
{
	(void)index, (void)err;
	out->raw = true_uj(source->clock->now_ns(source->clock->context)) % MODULUS;
	return FG_OK;
}

static void counter_close(struct fg_source *source)
{
	free(source);
}

static const struct fg_source_ops counter = {"counter", counter_open, counter_read, counter_close, NULL, 0};

struct rig {
	struct fg_traits traits;
	struct fg_driven driven;
	struct fg_sampler *sampler;
	struct fg_tally tally;
	struct fg_sample *samples;
	size_t count, capacity;
};

static bool rig_start(struct rig *rig, int64_t period_ns, size_t ring, int64_t end_ns, size_t capacity)
{
	static const struct fg_sensor sensor = {.fd = -1};

	memset(rig, 0, sizeof *rig);
	rig->traits = (struct fg_traits){FG_ENERGY, MODULUS, 1, period_ns, 0, 0, 0};
	rig->samples = calloc(capacity, sizeof *rig->samples);
	rig->capacity = capacity;
	fg_driven_init(&rig->driven, 0, end_ns);
	struct fg_sampler_config config = {&counter, {.sensors = &sensor, .count = 1, .clock = &rig->driven.clock},
									   &rig->traits, period_ns, ring, false};
	return rig->samples != NULL && fg_sampler_open(&config, &rig->sampler, NULL) == FG_OK &&
		   fg_sampler_start(rig->sampler, 600 * FG_NS_PER_S, NULL) == FG_OK;
}

static void rig_drain(struct rig *rig)
{
	rig->count += fg_sampler_drain(rig->sampler, 0, rig->samples + rig->count, rig->capacity - rig->count);
}

/* Wait until time stands still at the driven clock's end. */
static void rig_wait(struct rig *rig, int64_t period_ns)
{
	struct fg_live live;

	do {
		sched_yield();
		fg_sampler_live(rig->sampler, 0, &live);
	} while (live.last_at_ns + 2 * period_ns <= rig->driven.end_at_ns);
}

static void rig_stop(struct rig *rig)
{
	fg_sampler_stop(rig->sampler, 0);
	rig_drain(rig);
	fg_sampler_tally(rig->sampler, 0, &rig->tally);
}

static void rig_close(struct rig *rig)
{
	if (rig->sampler != NULL)
		fg_sampler_close(rig->sampler);
	free(rig->samples);
}

/* Every window of `windows` even ones over the run, of `length_ns`, holds the truth within its bounds. */
static void check_windows(const struct rig *rig, size_t windows, int64_t length_ns)
{
	int64_t *begin_ns = calloc(windows, sizeof *begin_ns), *end_ns = calloc(windows, sizeof *end_ns);
	double *columns[4];
	struct fg_resolver resolver;

	for (int i = 0; i < 4; i++)
		columns[i] = calloc(windows, sizeof *columns[i]);
	struct fg_answers out = {columns[0], columns[1], columns[2], columns[3], NULL};
	int64_t first_ns = rig->samples[0].at_ns, last_ns = rig->samples[rig->count - 1].at_ns;
	for (size_t i = 0; i < windows; i++) {
		begin_ns[i] = first_ns + (last_ns - length_ns - first_ns) / (int64_t)windows * (int64_t)i;
		end_ns[i] = begin_ns[i] + length_ns;
	}
	fg_resolver_init_windows(&resolver, &rig->traits, 150.0 / MS, begin_ns, end_ns, windows, &out);
	fg_resolver_feed(&resolver, rig->samples, rig->count);
	fg_resolver_finish(&resolver);
	for (size_t i = 0; i < windows; i++) {
		double truth = (double)(true_uj(end_ns[i]) - true_uj(begin_ns[i]));

		fg_check(out.low[i] >= 0 && out.low[i] <= truth + 1.0);
		fg_check(out.high[i] >= truth - 1.0);
		fg_check(out.estimate[i] >= out.low[i] && out.estimate[i] <= out.high[i]);
	}
	for (int i = 0; i < 4; i++)
		free(columns[i]);
	free(begin_ns);
	free(end_ns);
}

FG_TEST(a_full_ring_widens_the_bounds_and_loses_no_joule)
{
	struct rig rig;
	size_t gaps = 0;

	fg_require(rig_start(&rig, 10 * MS, 64, 20 * FG_NS_PER_S, 4096));
	rig_wait(&rig, 10 * MS); /* nobody drains: 64 of 2000 samples fit */
	rig_drain(&rig);
	fg_check_int((int64_t)rig.count, 64);
	rig.driven.end_at_ns = 20 * FG_NS_PER_S + 500 * MS; /* and some more, drained in time */
	rig_wait(&rig, 10 * MS);
	rig_stop(&rig);
	fg_check_int(rig.tally.account.total, true_uj(rig.tally.account.last_at_ns));
	fg_check_int((int64_t)(rig.tally.live.samples - rig.tally.live.lost), (int64_t)rig.count);
	fg_check(rig.tally.live.lost > 1900);
	for (size_t i = 0; i < rig.count; i++)
		gaps += (rig.samples[i].flags & FG_SAMPLE_GAP) != 0;
	fg_check_int((int64_t)gaps, 1);
	check_windows(&rig, 1000, 300 * MS);
	check_windows(&rig, 100, 15 * FG_NS_PER_S);
	rig_close(&rig);
}

FG_TEST(a_drainer_that_stalls_now_and_then_gets_a_whole_account)
{
	struct rig rig;
	int64_t total = 0;

	fg_require(rig_start(&rig, MS, 256, 0, 65536));
	for (int round = 1; round <= 40; round++) {
		rig.driven.end_at_ns = round * 450 * MS; /* now less than the ring holds, now more */
		if (round % 3 != 0)
			rig_wait(&rig, MS);
		rig_drain(&rig);
	}
	rig_wait(&rig, MS);
	rig_stop(&rig);
	for (size_t i = 1; i < rig.count; i++)
		total += rig.samples[i].raw - rig.samples[i - 1].raw + rig.samples[i].wraps * (int64_t)MODULUS;
	/* what the curve shows is what the account has counted, but for points lost behind the last that was kept */
	fg_check_int(total, true_uj(rig.samples[rig.count - 1].at_ns));
	fg_check_int(rig.tally.account.total, true_uj(rig.tally.account.last_at_ns));
	fg_check_int((int64_t)(rig.tally.live.samples - rig.tally.live.lost), (int64_t)rig.count);
	check_windows(&rig, 500, 100 * MS);
	rig_close(&rig);
}

FG_TEST(a_suspended_machine_misses_deadlines_and_not_the_counter)
{
	struct rig rig;
	int64_t asleep_ns = 30 * FG_NS_PER_S; /* shorter than a wrap, which takes 56 s */

	fg_require(rig_start(&rig, 10 * MS, 1024, 2 * FG_NS_PER_S, 4096));
	rig_wait(&rig, 10 * MS);
	rig_drain(&rig);
	uint64_t before = rig.count;
	fg_check(before >= 199);
	rig.driven.at_ns += asleep_ns;
	rig.driven.end_at_ns = 34 * FG_NS_PER_S;
	rig_wait(&rig, 10 * MS);
	rig_stop(&rig);
	fg_check_int((int64_t)rig.tally.live.lost, 0);
	/* a deadline slept through is a miss and never a reading: 3400 in all */
	int64_t deadlines = (int64_t)(rig.tally.live.missed + rig.tally.live.samples);
	fg_check(rig.tally.live.missed >= 2990 && rig.tally.live.missed <= 3010);
	fg_check(deadlines >= 3395 && deadlines <= 3405);
	for (size_t i = 1; i + 1 < rig.count; i++)
		fg_check(rig.samples[i].at_ns - rig.samples[i - 1].at_ns >= 5 * MS || i == before);
	fg_check_int(rig.tally.account.total, true_uj(rig.tally.account.last_at_ns));
	fg_check(rig.tally.account.step_longest_ns >= asleep_ns);
	/* the sensor is not taken for one that updates every half minute */
	fg_check(fg_account_period_ns(&rig.tally.account) <= 100 * MS);
	check_windows(&rig, 1000, 50 * MS);
	check_windows(&rig, 50, 10 * FG_NS_PER_S);
	rig_close(&rig);
}

FG_TEST(a_day_of_wraps_is_exact_to_a_unit)
{
	struct rig rig;
	int64_t step_ns = 40 * FG_NS_PER_S, day_ns = 86400 * FG_NS_PER_S;

	fg_require(rig_start(&rig, 100 * MS, 1024, 0, 1 << 20));
	for (int64_t at_ns = step_ns; at_ns <= day_ns; at_ns += step_ns) {
		rig.driven.end_at_ns = at_ns;
		rig_wait(&rig, 100 * MS);
		rig_drain(&rig);
	}
	rig_stop(&rig);
	fg_check_int((int64_t)rig.tally.live.missed, 0);
	fg_check_int((int64_t)rig.tally.live.lost, 0);
	fg_check_int((int64_t)rig.tally.account.resets, 0);
	fg_check((int64_t)rig.count >= 863990);
	fg_check_int(rig.tally.account.total, true_uj(rig.tally.account.last_at_ns));
	int64_t total = 0, wraps = 0;
	for (size_t i = 1; i < rig.count; i++) {
		wraps += rig.samples[i].wraps;
		total += rig.samples[i].raw - rig.samples[i - 1].raw + rig.samples[i].wraps * (int64_t)MODULUS;
		if (total != true_uj(rig.samples[i].at_ns) - true_uj(rig.samples[0].at_ns)) {
			fg_check_int(total, true_uj(rig.samples[i].at_ns));
			break;
		}
	}
	fg_check(wraps > 1500);
	check_windows(&rig, 5000, 30 * FG_NS_PER_S);
	check_windows(&rig, 5000, 2 * MS);
	rig_close(&rig);
}

int main(void)
{
	fg_run(a_full_ring_widens_the_bounds_and_loses_no_joule);
	fg_run(a_drainer_that_stalls_now_and_then_gets_a_whole_account);
	fg_run(a_suspended_machine_misses_deadlines_and_not_the_counter);
	fg_run(a_day_of_wraps_is_exact_to_a_unit);
	return fg_report();
}
