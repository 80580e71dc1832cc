/* The traits of a channel: the facts about its sensor that are known before the first reading.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Energy and power stay in the sensor's own unit: a counter's unit (uJ, mJ) for energy, raw * ns for an integral of
 * power. Python's units.py converts to joules, and no other file does. */
#ifndef FG_TRAITS_H
#define FG_TRAITS_H

#include <stdint.h>

/* ISO C has no such types; GCC and Clang do. A day of raw * ns does not fit in 64 bits. */
__extension__ typedef __int128 fg_int128;
__extension__ typedef unsigned __int128 fg_uint128;

enum fg_kind {
	FG_ENERGY, /* a cumulative counter */
	FG_POWER,  /* an instantaneous value */
};

struct fg_traits {
	enum fg_kind kind;
	int64_t modulus;         /* the counter starts again from 0 at this value; 0: it never wraps */
	int64_t quantum;         /* the counter's step in its own unit, >= 1: it shows the energy rounded down to a step */
	int64_t period_ns;       /* T: the longest time between two updates, until the account learns a better value */
	int64_t tick_ns;         /* the sampler's period, to tell a gap in sampling from a slow sensor; 0: unknown */
	int64_t plausible_per_s; /* faster growth than this is not energy (see fg_jump.h); 0: any growth is plausible */
	int64_t blind_ns;        /* if two samples lie further apart, wraps may be missed: a restart; 0: they never are */
};

#endif
