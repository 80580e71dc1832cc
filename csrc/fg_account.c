/* See fg_account.h. A few integer operations a sample, on the sampling thread.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fg_account.h"

#include "fg_clock.h"

#include <string.h>

void fg_account_init(struct fg_account *account, const struct fg_traits *traits)
{
	memset(account, 0, sizeof *account);
	account->traits = *traits;
	fg_jumps_init(&account->jumps, traits->modulus, traits->quantum, traits->period_ns, traits->plausible_per_s);
}

void fg_account_forget(struct fg_account *account)
{
	fg_jumps_forget(&account->jumps, account->samples);
}

/* The value shown was no update older than this. */
static int64_t shown_since_ns(const struct fg_account *account)
{
	return account->updates > 0 ? account->change_after_ns : account->first_at_ns - account->first_half_ns;
}

static struct fg_place last_place(const struct fg_account *account)
{
	return (struct fg_place){
		.index = account->samples - 1,
		.at_ns = account->last_at_ns,
		.raw = account->last_raw,
		.since_ns = shown_since_ns(account),
		.total = account->total,
		.line_from = account->jumps.line_from,
		.resets = account->resets,
		.ups = account->jumps.ups,
	};
}

/* The counter is back on a line that it left: its total is what it was there, and the growth since. */
static void come_back(struct fg_account *account, struct fg_sample *sample, const struct fg_landing *landing)
{
	sample->wraps = 0;
	sample->flags |= FG_SAMPLE_RESET;
	if (landing->growth > INT64_MAX - landing->place->total)
		return;
	sample->wraps = landing->wrapped;
	account->total = landing->place->total + landing->growth;
	account->resets = landing->place->resets;
	sample->flags |= (uint16_t)(FG_SAMPLE_RETURN | landing->between << FG_SAMPLE_BETWEEN);
}

static bool is_blind(const struct fg_account *account, const struct fg_sample *sample)
{
	int64_t blind_ns = account->traits.blind_ns;

	return blind_ns > 0 && sample->at_ns - account->last_at_ns > blind_ns;
}

/* Add the growth from the last sample to this one, if it is nothing special: nearly always. */
static inline bool add_plain_growth(struct fg_account *account, const struct fg_sample *sample)
{
	int64_t grown, until_ns = sample->at_ns + sample->half_ns;

	if ((sample->wraps | (sample->flags & FG_SAMPLE_RESET)) != 0 || sample->raw < account->last_raw ||
		__builtin_sub_overflow(sample->raw, account->last_raw, &grown) || grown > INT64_MAX - account->total ||
		is_blind(account, sample) ||
		!fg_jumps_allow(&account->jumps, (double)grown, shown_since_ns(account), until_ns) ||
		!fg_jumps_go_on(&account->jumps, grown, account->last_at_ns))
		return false;
	account->total += grown;
	return true;
}

/* The same for any growth; settles the sample's wraps and flags. */
static void add_growth(struct fg_account *account, struct fg_sample *sample)
{
	const struct fg_traits *traits = &account->traits;
	struct fg_jumps *jumps = &account->jumps;
	fg_int128 delta = (fg_int128)sample->raw - account->last_raw;
	bool wrapped = delta < 0 && sample->wraps == 0 && traits->modulus > 0;
	bool blind = is_blind(account, sample);
	bool believed = (sample->flags & FG_SAMPLE_RESET) == 0 && !blind;

	if (wrapped) {
		sample->wraps = 1;
		believed = believed && delta + traits->modulus < traits->modulus / 2;
	}
	delta += (fg_int128)sample->wraps * traits->modulus;
	int64_t until_ns = sample->at_ns + sample->half_ns;
	believed = believed && fg_jumps_allow(jumps, (double)delta, shown_since_ns(account), until_ns);
	struct fg_place last = last_place(account);
	struct fg_landing landing;
	if (believed && delta >= 0 && delta <= INT64_MAX - account->total) {
		if ((wrapped || !fg_jumps_go_on(jumps, (int64_t)delta, account->last_at_ns)) &&
			fg_jumps_pass(jumps, &last, sample->raw, until_ns, &landing)) {
			come_back(account, sample, &landing);
			return;
		}
		account->total += (int64_t)delta;
		return;
	}
	sample->wraps = 0;
	sample->flags |= FG_SAMPLE_RESET;
	/* The process was stopped, or reads failed, for so long that the counter may have wrapped: it is not known. */
	if (blind) {
		fg_jumps_forget(jumps, account->samples);
		return;
	}
	fg_jumps_land(jumps, &last, sample->raw, until_ns, &landing);
	if (landing.place != NULL)
		come_back(account, sample, &landing);
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
		double grown = (double)(account->total - account->change_total);
		double time_ns = (double)fg_clock_later_ns(middle_ns, 1);
		if (account->traits.kind == FG_ENERGY && grown > account->peak_per_ns * time_ns)
			account->peak_per_ns = grown / time_ns; /* divided seldom: a division takes as long as all the rest */
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

	if (sample->flags & FG_SAMPLE_RETURN)
		sample->flags &= FG_SAMPLE_GAP;
	if (account->samples == 0) {
		account->first_at_ns = sample->at_ns;
		account->first_half_ns = sample->half_ns;
		account->first_raw = sample->raw;
		sample->wraps = 0;
		sample->flags &= (uint16_t)~FG_SAMPLE_RESET;
	} else {
		int64_t step_ns = sample->at_ns - account->last_at_ns;
		account->step_longest_ns = fg_clock_later_ns(account->step_longest_ns, step_ns);
		bool stalled = traits->tick_ns > 0 && step_ns > 3 * traits->tick_ns;
		/* A counter goes on counting in a gap; the power during a gap is not known. */
		if (stalled && traits->kind == FG_POWER && step_ns > traits->period_ns)
			sample->flags |= FG_SAMPLE_GAP;
		bool torn = stalled || (sample->flags & FG_SAMPLE_GAP);

		if (traits->kind == FG_ENERGY && !add_plain_growth(account, sample))
			add_growth(account, sample);
		else if (traits->kind == FG_POWER)
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
	account->resets += (sample->flags & (FG_SAMPLE_RESET | FG_SAMPLE_RETURN)) == FG_SAMPLE_RESET;
	account->last_at_ns = sample->at_ns;
	account->last_half_ns = sample->half_ns;
	account->last_raw = sample->raw;
	account->read_longest_ns = fg_clock_later_ns(account->read_longest_ns, read_ns);
	account->read_sum_ns += read_ns;
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
