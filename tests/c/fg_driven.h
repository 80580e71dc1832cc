/* A clock that is told the time: sleeping takes it to the deadline at once.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef FG_DRIVEN_H
#define FG_DRIVEN_H

#include "fg_clock.h"

#include <sched.h>

struct fg_driven {
	_Atomic int64_t at_ns;
	_Atomic int64_t end_at_ns; /* here time stands still, until the sleeper is woken */
	int64_t lateness_ns;       /* how late every sleep ends */
	struct fg_clock clock;
};

static inline int64_t fg_driven_now_ns(void *context)
{
	return ((struct fg_driven *)context)->at_ns;
}

static inline void fg_driven_sleep_until(void *context, int64_t deadline_at_ns, struct fg_wake *wake)
{
	struct fg_driven *driven = context;

	if (wake->word != 0)
		return;
	if (deadline_at_ns + driven->lateness_ns > driven->end_at_ns)
		sched_yield();
	else if (deadline_at_ns + driven->lateness_ns > driven->at_ns)
		driven->at_ns = deadline_at_ns + driven->lateness_ns;
}

static inline void fg_driven_init(struct fg_driven *driven, int64_t begin_at_ns, int64_t end_at_ns)
{
	driven->at_ns = begin_at_ns;
	driven->end_at_ns = end_at_ns;
	driven->lateness_ns = 0;
	driven->clock = (struct fg_clock){fg_driven_now_ns, fg_driven_sleep_until, driven};
}

#endif
