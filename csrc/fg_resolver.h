/* From samples to energy: "how much energy until t?" for a sorted column of instants, each with bounds.
 * SPDX-License-Identifier: Apache-2.0
 *
 * One pass over the samples of one channel, in constant memory. Pure arithmetic: no clock, no file, no thread. */
#ifndef FG_RESOLVER_H
#define FG_RESOLVER_H

#include "fg_resolver_table.h"
#include "fg_ring.h"
#include "fg_traits.h"

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
