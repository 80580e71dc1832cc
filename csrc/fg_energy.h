/* From samples to energy: pure arithmetic, no clock, no file, no thread.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Two walkers look at the samples of one channel in order, each in one pass and constant memory:
 *
 *   struct fg_account   keeps the running total and learns the sensor; the sampling thread feeds it, so that a full
 *                       ring loses points of the curve and never joules.
 *   struct fg_resolver  answers "how much energy until t?" for a sorted column of instants, each with bounds.
 *
 * Units are the sensor's own: a counter's unit (uJ, mJ) for energy, raw * ns for power. The conversion to joules stands
 * in Python's units.py, nowhere else. */
#ifndef FG_ENERGY_H
#define FG_ENERGY_H

#include "fg_clock.h"
#include "fg_jump.h"
#include "fg_ring.h"

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
	int64_t plausible_per_s; /* growth faster than this is no energy; 0 = believe all */
	int64_t blind_ns;        /* over a longer stretch between two samples wraps can go unseen; 0 = never */
};

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
 * total is what it was there and the growth since. So a total may fall, when what was believed turns out to be a lie.
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

/* Resolve instants against samples.
 *
 * For every query time t the three outputs are the energy from the first sample until t: an estimate and an interval.
 * For energy, with samples (s_k, C_k), update period T and quantum q, the true cumulative energy E satisfies
 *     E(t) >= C_k      for every s_k <= t                      (a counter never runs ahead of the energy)
 *     E(t) <= C_k + q  for every k with t <= a_k, where a_k = s_k - T, or s_(k-1) if later and the counter changed
 *                      or restarted (the value shown at s_k is at most T old, and a value just changed is younger than
 *                      s_(k-1))
 * each widened by half the read's duration; past the last sample (before the first) the ceiling continues the bound.
 * Across a restart of the counter nothing is known but the ceiling: `unknown` is the running sum of ceiling * time over
 * such stretches (and of the counts that rounding down can hide before and after), apart from `high` so that it widens
 * only the windows that touch one.
 * No history of energy, updates and reads that fits the samples leaves these bounds, and one reaches each of them.
 * The estimate interpolates between changes, each placed in the middle of the interval in which it can have happened,
 * and rises no earlier than the bounds let it.
 * For power the three are running integrals: trapezoid, smaller end and larger end of every step; a step across a gap
 * counts 0 and the ceiling in the bounds. While a read lasts (s_k -+ half, but not beyond the neighbours' stamps) the
 * steps on both its sides bound the power, as its value is of any instant of it. Past the last sample the estimate goes
 * on at its value (the ceiling, if that is less) for at most T, the smaller end adds nothing and the larger one the
 * ceiling.
 *
 * So a window [t0, t1] lies within
 *     energy: low(t1) - high(t0) .. high(t1) - low(t0) + unknown(t1) - unknown(t0)
 *     power:  low(t1) - low(t0)  .. high(t1) - high(t0)
 *
 * so begins and ends of windows are two streams of instants over one curve, and each answer is added with its sign
 * straight into the window it belongs to. */
struct fg_answers {
	double *low, *estimate, *high;
	double *unknown; /* may be NULL; else zeroed by the caller, and added to only where the counter restarted */
};

enum fg_edge { FG_INSTANT, FG_BEGIN, FG_END };

/* A sorted column of instants, and where their answers go: alone, or as the edges of windows. */
struct fg_stream {
	const int64_t *at_ns;
	size_t count;
	enum fg_edge edge;
	struct fg_answers out;
	size_t next, next_unknown; /* private: the next instant that waits for an answer */
};

enum {
	FG_TABLE = 128,     /* changes tabled at once: everything stays in the first-level cache */
	FG_TABLE_STEP = 8,  /* it is full where so many more might not fit */
	FG_TABLE_KEPT = 4,  /* how many of them instants that still wait may need */
	FG_TABLE_PAST = 16, /* how many breaks past the last one a look-up may compare with */
	FG_TABLE_ROOM = FG_TABLE + FG_TABLE_PAST + 1
};

/* Private. Change i (from 1) takes the counter from value[i - 1] to value[i]: surely from low_ns[i] on, at the earliest
 * from high_ns[i] on, and likely along the line [i - 1] that ends at knot_ns[i]. Entry 0 is where the table begins. Of
 * those with low_ns[i] <= t, that is the first n, at most 3 more have high_ns <= t and at most 2 more knot_ns <= t. */
struct fg_table {
	size_t count;
	int64_t low_ns[FG_TABLE_ROOM], high_ns[FG_TABLE_ROOM], knot_ns[FG_TABLE_ROOM];
	int64_t total[FG_TABLE_ROOM];
	double value[FG_TABLE_ROOM], quantum; /* the total less what restarts rounded; what may come on top */
	int64_t from_ns[FG_TABLE_ROOM]; /* a line begins at the knot before, or later if samples show the counter still */
	double base[FG_TABLE_ROOM], slope[FG_TABLE_ROOM];
};

struct fg_resolver_path;

/* The powers between which a step lies, or their integrals. */
struct fg_band {
	double least, most;
};

struct fg_resolver {
	struct fg_traits traits;
	double ceiling_per_ns; /* most the channel can draw: unit per ns (energy) or raw (power) */
	struct fg_stream streams[2];
	unsigned stream_count;
	/* private */
	const struct fg_resolver_path *path;
	uint64_t fed;
	int64_t total;
	int64_t rounded; /* a quantum for every restart that ended some growth: how much less of the total is sure */
	struct fg_sample last;
	int64_t sure_at_ns;  /* running maximum of s_k + half */
	int64_t reach_at_ns; /* running maximum of a_k */
	bool restarted;
	int64_t restart_total, known_from_ns; /* the total at the last restart, and when its unknown stretch ended */
	double low_sum, sum, high_sum, unknown;
	struct fg_sample before;            /* of a power: the step from it to `last` waits for the sample after it, */
	struct fg_band band_before, band;   /* lies in `band`, and the step before it in `band_before` */
	struct fg_table table;
};

/* Instants: the energy from the first sample until each. `traits->period_ns` is the T to use. */
void fg_resolver_init_instants(struct fg_resolver *resolver, const struct fg_traits *traits, double ceiling_per_ns,
							   const int64_t *at_ns, size_t count, const struct fg_answers *out);

/* Windows: the energy between begin_at_ns[i] and end_at_ns[i], which is not before it; each column sorted by itself
 * (see fg_windows_sorted). `out` becomes the bounds (low floored at 0) and the estimate. */
void fg_resolver_init_windows(struct fg_resolver *resolver, const struct fg_traits *traits, double ceiling_per_ns,
							  const int64_t *begin_at_ns, const int64_t *end_at_ns, size_t count,
							  const struct fg_answers *out);

/* How many windows from the first on are fit to resolve: none ends before it begins, nor begins or ends before the one
 * before it does. `count` where all are. */
size_t fg_windows_sorted(const int64_t *begin_at_ns, const int64_t *end_at_ns, size_t count);

/* Take in the next samples, in time order; any number of calls. */
void fg_resolver_feed(struct fg_resolver *resolver, const struct fg_sample *samples, size_t count);

/* Answer the instants that lie past the last sample. Where no sample was fed, every answer is NaN. */
void fg_resolver_finish(struct fg_resolver *resolver);

#endif
