/* What two samples of a counter say, for the files of fg_share only. SPDX-License-Identifier: Apache-2.0 */
#ifndef FG_SHARE_GROWTH_H
#define FG_SHARE_GROWTH_H

#include "fg_ring.h"
#include "fg_traits.h"

#include <stdbool.h>

/* The growth since the sample before; a fall that no wrap explains is a restart, as a growth beyond 64 bits is. */
static inline int64_t fg_share_growth(const struct fg_traits *traits, const struct fg_sample *last,
									  const struct fg_sample *now, bool *restart)
{
	int64_t delta, wrapped;

	*restart = now->flags & FG_SAMPLE_RESET || __builtin_sub_overflow(now->raw, last->raw, &delta) ||
			   __builtin_mul_overflow((int64_t)now->wraps, traits->modulus, &wrapped) ||
			   __builtin_add_overflow(delta, wrapped, &delta) || delta < 0;
	return *restart ? 0 : delta;
}

#endif
