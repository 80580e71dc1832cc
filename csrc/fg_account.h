/* The account of a channel: its running total, and what its samples teach about the sensor.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Pure arithmetic: no clock, no file, no thread, no allocation. The sampling thread adds every sample to the account
 * before the sample goes into the ring, so a full ring loses points of the curve and never joules. For units see
 * fg_traits.h. */
#ifndef FG_ACCOUNT_H
#define FG_ACCOUNT_H

#include "fg_jump.h"
#include "fg_ring.h"
#include "fg_traits.h"

struct fg_account {
	struct fg_traits traits;
	uint64_t samples;
	uint64_t updates; /* observed changes of the value */
	uint64_t gaps;    /* samples with the flag FG_SAMPLE_GAP */
	uint64_t resets;  /* samples with the flag FG_SAMPLE_RESET, less those that a later FG_SAMPLE_RETURN took back */
	int64_t first_at_ns, last_at_ns;
	int64_t first_raw, last_raw;
	int64_t total;         /* energy: counter units since the first sample, wraps and jumps undone, exact */
	double power_integral; /* power: trapezoid, raw * ns (0 for energy) */
	int64_t read_longest_ns;
	int64_t step_longest_ns; /* between two samples */
	int64_t read_sum_ns;
	/* The sensor's update period, learnt from changes. The longest true interval between two updates lies between: */
	int64_t period_lower_ns; /* the longest stretch seen without a change */
	int64_t period_upper_ns; /* the longest bracket of two successive changes; 0 before the second change */
	int64_t period_sum_ns;   /* sum and number of the intervals between successive changes */
	uint64_t periods;
	double peak_per_ns; /* highest mean power between two updates (energy) or highest value (power), per ns */
	/* private: the last change lies in (change_after_ns, change_at_ns]; not valid before the first update */
	int64_t change_after_ns, change_at_ns, change_total;
	int64_t first_half_ns, last_half_ns;
	struct fg_jumps jumps;
	bool broken; /* a gap came after the last change: the interval across the gap teaches nothing */
	fg_int128 twice_integral;
};

void fg_account_init(struct fg_account *account, const struct fg_traits *traits);

/* Add the next sample. This sets three members of the sample from the sample before it: `wraps`, the flag
 * FG_SAMPLE_RESET, and, if a power was not read for longer than its period and three ticks, the flag FG_SAMPLE_GAP.
 * A caller with better knowledge (a replayed run, whose lost points may hide wraps) sets both before the call; they are
 * only ever raised.
 * A counter that goes back has wrapped if the traits give a modulus and the growth that follows is plausible and below
 * half of the modulus. If the growth is not plausible, there are two cases. Either the counter has returned to a line
 * that it left before (see fg_jump.h): the sample gets FG_SAMPLE_RETURN, and the total is the total on that line and
 * the growth after it. So a total can fall, if growth that was plausible at first proves false. Or the counter has
 * restarted: the total leaves out the energy in between, and the sample gets the flag. A FG_SAMPLE_RETURN that the
 * caller has set is ignored, and found again. */
void fg_account_add(struct fg_account *account, struct fg_sample *sample);

/* The last sample was lost on its way. So no later sample may count the samples back to one before it. */
void fg_account_forget(struct fg_account *account);

/* T for the bounds, in ns, > 0: the learnt period if samples came faster than updates; otherwise the traits' period,
 * unless a longer stretch without a change disproves it.
 * If a counter does not change, either no energy was used or the sensor did not update; samples cannot tell which. The
 * jump that ends the stretch cannot tell either: a small jump means that little energy was used, not that updates came
 * on time (sensors are late when the machine sleeps). A T that is too short makes the bounds wrong at every edge
 * between two samples, not in that stretch only. So each stretch counts as one update, T is at most the longest idle
 * stretch, and the bounds are valid and loose: each value is then sure only up to the sample before it. */
int64_t fg_account_period_ns(const struct fg_account *account);

#endif
