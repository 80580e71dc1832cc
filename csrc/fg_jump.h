/* Jumps of a faulty counter: it finds the readings that are not energy, and the return of the counter to its line.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Some counters sometimes show a value that is far too high, 0, or the value of another machine, and are right again
 * afterwards (an AMD 7840HS about 700 J too high for one reading; virtual machines the counters of two hosts in turn).
 * A line is a row of samples whose growth is plausible from each to the next. If the growth is not plausible, the
 * counter has left its line. If a later sample continues the line that it left, the values between were false: the
 * growth since the place where it left is exact again, and the samples between tell nothing.
 *
 * Constant memory, no allocation; a sample that continues its line costs three comparisons. One thread at a time. */
#ifndef FG_JUMP_H
#define FG_JUMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bursts above any limit are short (20 us at 13.8 kW were measured on a CPU's supply). So this much time at the
 * plausible power is allowed in addition to the time between two readings. */
#define FG_BURST_NS INT64_C(50000000)

enum {
	FG_JUMP_LONGEST = 4095, /* samples: the largest number that a sample's flags can count */
	FG_JUMP_DEPARTURES = 4, /* places where the counter jumped, the latest ones */
	FG_JUMP_TRAIL = 64,     /* places along the line, to find false values that were plausible at first; */
	FG_JUMP_ROW = 4,        /* if so many jumps up come in a row, each is real: the limit was wrong */
	FG_JUMP_TURNS = 4,      /* after so many exchanges, two counters are shown in turn, not jumps of one */
	FG_JUMP_ZERO = 64,      /* quanta: a counter that grows by more from reading to reading hardly wraps to exactly 0 */
};

#define FG_JUMP_TRAIL_NS INT64_C(100000000) /* the least time between two places of the trail */

/* A sample on a line, and the state of the account when it was the last one. */
struct fg_place {
	uint64_t index;       /* of the sample, from 0 */
	int64_t at_ns, raw;   /* the sample's */
	int64_t since_ns;     /* the oldest instant that the value can be from */
	int64_t total;        /* counter units since the first sample */
	uint64_t line_from;   /* index of the first sample of its line */
	uint64_t resets, ups; /* of the account up to here: restarts, and the restarts that jumped up */
	int64_t most;         /* the largest growth from the place of the trail before until here */
	bool believed;        /* the growth from here is plausible, with a wrap */
	bool counted;         /* as a jump, when the counter left from here */
	int64_t
		step; /* how far the counter went down from here (> 0), or, of the trail, the largest growth up to the next */
};

struct fg_jumps {
	uint64_t count;            /* how often the counter returned to a line that it had left, or wrapped to exactly 0 */
	int64_t first_ns, last_ns; /* when it first left a line, and when it last jumped; 0, 0: never */
	bool in_turn;              /* two counters are shown in turn, and samples cannot tell which one is right */
	double plausible_per_ns;   /* the fastest plausible growth; 0: any growth is plausible */
	/* private */
	int64_t modulus, quantum, slack_ns;
	uint64_t line_from, ups, returned_at;
	int64_t left_raw; /* the last value of the line that it left, at the last return */
	unsigned exchanges, row;
	struct fg_place row_from;
	struct fg_place departures[FG_JUMP_DEPARTURES];
	size_t departure_count;
	struct fg_place trail[FG_JUMP_TRAIL];
	size_t trail_count;               /* in total; place i is the entry i % FG_JUMP_TRAIL */
	size_t trail_known;               /* how many of them are still valid */
	int64_t trail_next_ns, step_most; /* the largest growth since the last place of the trail */
};

/* The verdict on a sample that does not continue its line. */
struct fg_landing {
	const struct fg_place *place; /* the counter has returned to the line of this place; NULL: it has restarted */
	uint64_t between;             /* samples between the two, which tell nothing */
	int64_t growth;               /* from place to the sample */
	bool wrapped;                 /* the counter wrapped between the two */
};

void fg_jumps_init(struct fg_jumps *jumps, int64_t modulus, int64_t quantum, int64_t period_ns,
				   int64_t plausible_per_s);

/* True if a value that was shown from `since_ns` on can have grown by `growth` until `until_ns`. */
static inline bool fg_jumps_allow(const struct fg_jumps *jumps, double growth, int64_t since_ns, int64_t until_ns)
{
	double time_ns = (double)(until_ns - since_ns + jumps->slack_ns);

	return jumps->plausible_per_ns <= 0 || growth <= jumps->plausible_per_ns * time_ns + 2.0 * (double)jumps->quantum;
}

/* A sample of plausible growth follows one at last_at_ns. True: it continues the line, and nothing else is to do. */
static inline bool fg_jumps_go_on(struct fg_jumps *jumps, int64_t growth, int64_t last_at_ns)
{
	if (last_at_ns >= jumps->trail_next_ns || jumps->departure_count > 0)
		return false;
	jumps->step_most = growth > jumps->step_most ? growth : jumps->step_most;
	return true;
}

/* Call this if fg_jumps_go_on is false. `last` may become a place to return to. True: the sample ends a false stretch,
 * and `landing` says where. */
bool fg_jumps_pass(struct fg_jumps *jumps, const struct fg_place *last, int64_t raw, int64_t until_ns,
				   struct fg_landing *landing);

/* The growth from `last` to the sample (raw, at until_ns) is not plausible: find the line that the sample continues, or
 * begin a new line after `last`. `landing->place` is valid until the next call. */
void fg_jumps_land(struct fg_jumps *jumps, const struct fg_place *last, int64_t raw, int64_t until_ns,
				   struct fg_landing *landing);

/* Forget every place: a new line begins with sample `next_index`. */
void fg_jumps_forget(struct fg_jumps *jumps, uint64_t next_index);

#endif
