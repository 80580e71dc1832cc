/* Jumps of a counter that lies: which readings were no energy, and when the counter is back on its line.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Some counters show, now and then, a value that is far too high, 0, or the value of another machine, and are right
 * again afterwards (an AMD 7840HS some 700 J too high for a reading; virtual machines the counters of two hosts in
 * turn). A line is a row of samples whose growth is plausible from each to the next. Where growth is not, the counter
 * has left its line, and where a later sample continues the line that it left, what lies between was a lie: the growth
 * since the place where it left is exact again, and the samples between tell nothing.
 *
 * Constant memory, no allocation; a sample that goes on along its line costs three comparisons. One thread at a time. */
#ifndef FG_JUMP_H
#define FG_JUMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bursts above any limit are short (20 us at 13.8 kW were measured on a CPU's supply): so much time at the plausible
 * power is allowed on top of the time between two readings. */
#define FG_BURST_NS INT64_C(50000000)

enum {
	FG_JUMP_LONGEST = 4095,  /* samples: as many as a sample's flags can count */
	FG_JUMP_DEPARTURES = 4,  /* places where the counter jumped, the latest ones */
	FG_JUMP_TRAIL = 64,      /* places along the line, for lies that were believed at first, ... */
	FG_JUMP_ROW = 4,         /* of so many jumps up in a row each is real: the limit was wrong */
	FG_JUMP_TURNS = 4,       /* exchanges that make two counters in turn of what could be jumps */
};

#define FG_JUMP_TRAIL_NS INT64_C(100000000) /* ... no two nearer to each other than this */

/* A sample on a line, and the state of the account when it was the last one. */
struct fg_place {
	uint64_t index;       /* of the sample, from 0 */
	int64_t at_ns, raw;   /* the sample's */
	int64_t since_ns;     /* the value shown can be as old as this */
	int64_t total;        /* counter units since the first sample */
	uint64_t line_from;   /* index of the first sample of its line */
	uint64_t resets, ups; /* of the account until then: restarts, and those of them that jumped up */
	int64_t most; /* the largest growth from the place of the trail before until here */
	bool believed; /* it wrapped from here, plausibly */
	int64_t step;  /* how far the counter went down from here (> 0), or, of the trail, the largest growth up to the next */
};

struct fg_jumps {
	uint64_t count;            /* times that the counter came back to a line it had left */
	int64_t first_ns, last_ns; /* where it first left a line, and where it last jumped; 0, 0: never */
	bool in_turn;              /* two counters are shown in turn: nobody knows which is the right one */
	double plausible_per_ns;   /* most that the counter can grow; 0: believe all */
	/* private */
	int64_t modulus, quantum, slack_ns;
	uint64_t line_from, ups, returned_at;
	int64_t left_raw; /* the last value of the line that was left, when the counter last came back */
	unsigned exchanges, row;
	struct fg_place row_from;
	struct fg_place departures[FG_JUMP_DEPARTURES];
	size_t departure_count;
	struct fg_place trail[FG_JUMP_TRAIL];
	size_t trail_count; /* ever left; entry i lies at i % FG_JUMP_TRAIL */
	size_t trail_known; /* how many of them still hold */
	int64_t trail_next_ns, step_most; /* the largest growth since the last place of the trail */
};

/* What a sample that does not go on along its line has come to. */
struct fg_landing {
	const struct fg_place *place; /* the counter is back on the line of this place; NULL: it has restarted */
	uint64_t between;             /* samples between the two, which tell nothing */
	int64_t growth;               /* from place to the sample */
	bool wrapped;                 /* in between the counter went round */
};

void fg_jumps_init(struct fg_jumps *jumps, int64_t modulus, int64_t quantum, int64_t period_ns,
				   int64_t plausible_per_s);

/* Whether a value that was shown from `since_ns` on can have grown so much until `until_ns`. */
static inline bool fg_jumps_allow(const struct fg_jumps *jumps, double growth, int64_t since_ns, int64_t until_ns)
{
	double time_ns = (double)(until_ns - since_ns + jumps->slack_ns);

	return jumps->plausible_per_ns <= 0 || growth <= jumps->plausible_per_ns * time_ns + 2.0 * (double)jumps->quantum;
}

/* A sample of plausible growth follows one at last_at_ns: whether that is all there is to it. */
static inline bool fg_jumps_go_on(struct fg_jumps *jumps, int64_t growth, int64_t last_at_ns)
{
	if (last_at_ns >= jumps->trail_next_ns || jumps->departure_count > 0)
		return false;
	jumps->step_most = growth > jumps->step_most ? growth : jumps->step_most;
	return true;
}

/* Where it is not: `last` may become a place to come back to, and the sample may end a lie: then it landed. */
bool fg_jumps_pass(struct fg_jumps *jumps, const struct fg_place *last, int64_t raw, int64_t until_ns,
				   struct fg_landing *landing);

/* The sample (raw, until until_ns) is not plausible after `last`: find the line that it continues, or begin a new one
 * after `last`. `landing->place` is valid until the next call. */
void fg_jumps_land(struct fg_jumps *jumps, const struct fg_place *last, int64_t raw, int64_t until_ns,
				   struct fg_landing *landing);

/* A line begins with the sample after `last`, whatever came before: forget every place. */
void fg_jumps_forget(struct fg_jumps *jumps, uint64_t next_index);

#endif
