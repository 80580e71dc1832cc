/* See fg_account.h. A few integer operations a sample, on the sampling thread.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fg_account.h"

#include "fg_clock.h"

#include <string.h>

void fg_account_init(struct fg_account *account, const struct fg_traits *traits)
{
	memset(account, 0, sizeof *account);
	account->traits = *traits;
}

/* Add the counter's growth from the last sample to this one; settles the sample's wraps and reset flag. */
static void add_growth(struct fg_account *account, struct fg_sample *sample)
{
	const struct fg_traits *traits = &account->traits;
	fg_int128 delta = (fg_int128)sample->raw - account->last_raw;
	bool believed = (sample->flags & FG_SAMPLE_RESET) == 0;

	if (delta < 0 && sample->wraps == 0 && traits->modulus > 0) {
		sample->wraps = 1;
		believed = believed && delta + traits->modulus < traits->modulus / 2;
	}
	delta += (fg_int128)sample->wraps * traits->modulus;
	if (traits->plausible_per_s > 0) {
		/* The value before was up to a period old when it was read, so this much time can lie between the two. */
		double elapsed_ns = (double)(sample->at_ns + sample->half_ns - account->last_at_ns + account->last_half_ns) +
							(double)traits->period_ns;

		believed = believed && (double)delta * (double)FG_NS_PER_S <= (double)traits->plausible_per_s * elapsed_ns;
	}
	/* The process was stopped, or reads failed, for so long that the counter may have gone round: nobody knows. */
	if (traits->blind_ns > 0 && sample->at_ns - account->last_at_ns > traits->blind_ns)
		believed = false;
	if (believed && delta >= 0 && delta <= INT64_MAX - account->total) {
		account->total += (int64_t)delta;
		return;
	}
	sample->wraps = 0;
	sample->flags |= FG_SAMPLE_RESET;
}

/* A change of value was seen at this sample: learn from the interval since the change before. `torn`: it may have come
 * at any time of a gap, so no interval begins at it. */
static void learn(struct fg_account *account, const struct fg_sample *sample, bool torn)
{
	int64_t after_ns = account->last_at_ns - account->last_half_ns;
	int64_t at_ns = sample->at_ns + sample->half_ns;

	if (account->updates++ > 0 && !account->broken) {
		int64_t longest_ns = at_ns - account->change_after_ns;
		int64_t middle_ns = (at_ns + after_ns - account->change_at_ns - account->change_after_ns) / 2;

		account->period_upper_ns = fg_clock_later_ns(account->period_upper_ns, longest_ns);
		account->period_sum_ns += middle_ns;
		account->periods++;
		double mean = (double)(account->total - account->change_total) / (double)fg_clock_later_ns(middle_ns, 1);
		if (account->traits.kind == FG_ENERGY && mean > account->peak_per_ns)
			account->peak_per_ns = mean;
	}
	account->broken = torn;
	account->change_after_ns = after_ns;
	account->change_at_ns = at_ns;
	account->change_total = account->total;
}

void fg_account_add(struct fg_account *account, struct fg_sample *sample)
{
	const struct fg_traits *traits = &account->traits;
	int64_t read_ns = 2 * (int64_t)sample->half_ns;

	if (account->samples == 0) {
		account->first_at_ns = sample->at_ns;
		account->first_raw = sample->raw;
		sample->wraps = 0;
		sample->flags &= (uint16_t)~FG_SAMPLE_RESET;
	} else {
		int64_t step_ns = sample->at_ns - account->last_at_ns;
		account->step_longest_ns = fg_clock_later_ns(account->step_longest_ns, step_ns);
		bool stalled = traits->tick_ns > 0 && step_ns > 3 * traits->tick_ns;
		/* A counter goes on counting while nobody looks; what a power was meanwhile nobody knows. */
		if (stalled && traits->kind == FG_POWER && step_ns > traits->period_ns)
			sample->flags |= FG_SAMPLE_GAP;
		bool torn = stalled || (sample->flags & FG_SAMPLE_GAP);

		if (traits->kind == FG_ENERGY)
			add_growth(account, sample);
		else
			account->twice_integral += ((fg_int128)sample->raw + account->last_raw) * step_ns;
		torn = torn || (sample->flags & FG_SAMPLE_RESET);
		account->broken = account->broken || torn;
		/* An unchanged counter stood still between its samples too, however far apart they are. */
		if (sample->raw != account->last_raw || sample->wraps > 0)
			learn(account, sample, torn);
		else if (sample->flags & FG_SAMPLE_RESET)
			account->change_at_ns = sample->at_ns + sample->half_ns;
		else if (account->updates > 0 && (traits->kind == FG_ENERGY || !account->broken))
			account->period_lower_ns = fg_clock_later_ns(account->period_lower_ns,
														 sample->at_ns - sample->half_ns - account->change_at_ns);
	}
	if (traits->kind == FG_POWER) {
		account->power_integral = (double)account->twice_integral / 2.0;
		if ((double)sample->raw > account->peak_per_ns)
			account->peak_per_ns = (double)sample->raw;
	}
	account->samples++;
	account->gaps += (sample->flags & FG_SAMPLE_GAP) != 0;
	account->resets += (sample->flags & FG_SAMPLE_RESET) != 0;
	account->last_at_ns = sample->at_ns;
	account->last_half_ns = sample->half_ns;
	account->last_raw = sample->raw;
	account->read_longest_ns = fg_clock_later_ns(account->read_longest_ns, read_ns);
	account->read_mean_ns += ((double)read_ns - account->read_mean_ns) / (double)account->samples;
}

int64_t fg_account_period_ns(const struct fg_account *account)
{
	int64_t assumed_ns = account->traits.period_ns;
	int64_t seen_ns = fg_clock_later_ns(account->period_upper_ns, account->period_lower_ns);
	/* Where nearly every sample brought a change, updates may come faster than samples and the brackets say little. */
	bool samples_faster = account->samples * 2 >= account->updates * 3;

	if ((account->periods >= 8 && samples_faster) || account->period_lower_ns > assumed_ns)
		return seen_ns;
	return assumed_ns;
}
