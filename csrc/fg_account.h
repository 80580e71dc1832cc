/* The account of one channel: its running total, and what its samples teach about the sensor.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Pure arithmetic in constant memory: no clock, no file, no thread. The sampling thread feeds it, so a full ring loses
 * points of the curve and never joules. */
#ifndef FG_ACCOUNT_H
#define FG_ACCOUNT_H

#include "fg_jump.h"
#include "fg_ring.h"
#include "fg_traits.h"

struct fg_account {
	struct fg_traits traits;
	uint64_t samples;
	uint64_t updates; /* observed changes of the value */
	uint64_t gaps;    /* samples flagged FG_SAMPLE_GAP */
	uint64_t resets;  /* samples flagged FG_SAMPLE_RESET that no later one with FG_SAMPLE_RETURN took back */
	int64_t first_at_ns, last_at_ns;
	int64_t first_raw, last_raw;
	int64_t total;         /* energy: counter units since the first sample, wraps and jumps undone, exact */
	double power_integral; /* power: trapezoid, raw * ns (0 for energy) */
	int64_t read_longest_ns;
	int64_t step_longest_ns; /* between two samples */
	double read_mean_ns;
	/* The sensor's update period, learnt from changes: the true longest interval between two updates lies between. */
	int64_t period_lower_ns; /* the longest stretch seen without a change */
	int64_t period_upper_ns; /* the longest bracket round two successive changes; 0 until two were seen */
	int64_t period_sum_ns;   /* sum and number of the intervals between successive changes */
	uint64_t periods;
	double peak_per_ns; /* highest mean power between two updates (energy) or highest value (power), per ns */
	/* private: the last change lies in (change_after_ns, change_at_ns]; meaningless before the first update */
	int64_t change_after_ns, change_at_ns, change_total;
	int64_t first_half_ns, last_half_ns;
	struct fg_jumps jumps;
	bool broken; /* a gap since the last change: the interval across it teaches nothing */
	fg_int128 twice_integral;
};

void fg_account_init(struct fg_account *account, const struct fg_traits *traits);

/* Take in the next sample, and set its `wraps`, FG_SAMPLE_RESET and, of a power that went unread for more than an
 * update and three ticks, FG_SAMPLE_GAP from the sample before. A caller that knows better
 * (a replayed run, whose lost points may hide wraps) presets both; they are only ever raised.
 * A counter that goes back has wrapped when the traits give a modulus, the growth that follows is below half of it and
 * plausible. Where growth is not plausible, it has restarted, and the growth in between is left out of the total and
 * flagged; or it is back on a line that it left before (see fg_jump.h), the sample says so (FG_SAMPLE_RETURN), and the
 * total is the one there and the growth since. So a total may fall, when growth that was believed proves to be a lie.
 * Of a preset FG_SAMPLE_RETURN nothing is believed: it is found again. */
void fg_account_add(struct fg_account *account, struct fg_sample *sample);

/* The last sample was lost on its way: no later one may say how many samples lie between it and an earlier one. */
void fg_account_forget(struct fg_account *account);

/* T for the bounds: the learnt period where samples came faster than updates, else the traits' period unless a longer
 * stretch without a change disproved it. ns, > 0.
 * A counter that stands still may have been updated while nothing was drawn, or may not have been updated; samples do
 * not tell. Nor does the jump that ends the stretch: a small one means that little was drawn, not that updates were on
 * time (sensors are late when the machine sleeps), and a T believed too short makes bounds wrong at every edge between
 * two samples, not in that stretch only. So every such stretch counts as one update, T is at worst the longest idle
 * stretch, and bounds are valid and loose: a value then only tells of the time up to the sample before it. */
int64_t fg_account_period_ns(const struct fg_account *account);

#endif
