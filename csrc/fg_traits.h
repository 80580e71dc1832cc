/* The facts about a channel that are known before it is read.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Units are the sensor's own: a counter's unit (uJ, mJ) for energy, raw * ns for power. Python's units.py converts them
 * to joules, and no other place does. */
#ifndef FG_TRAITS_H
#define FG_TRAITS_H

#include <stdbool.h>
#include <stdint.h>

/* Not in ISO C, in every compiler that this builds with: raw * ns of a day does not fit in 64 bits. */
__extension__ typedef __int128 fg_int128;

enum fg_kind {
	FG_ENERGY, /* a cumulative counter */
	FG_POWER,  /* an instantaneous value */
};

/* What is known of a channel before it is read. */
struct fg_traits {
	enum fg_kind kind;
	int64_t modulus;         /* where the counter starts again from 0; 0 = never */
	int64_t quantum;         /* the counter's step in its own unit, >= 1: it shows the energy rounded down to it */
	int64_t period_ns;       /* T: the longest time between two updates, until learnt better */
	int64_t tick_ns;         /* the sampler's own period, to tell a gap in sampling from a slow sensor */
	int64_t plausible_per_s; /* growth faster than this is no energy (fg_jump.h); 0 = believe all */
	int64_t blind_ns;        /* over a longer stretch between two samples wraps can go unseen; 0 = never */
};

#endif
