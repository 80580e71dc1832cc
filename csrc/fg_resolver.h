/* The resolver: from samples to the energy until any instant, or within any window, with bounds.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Pure arithmetic: no clock, no file, no thread, no allocation. It takes the samples of one channel in time order, in
 * one pass and constant memory. For units see fg_traits.h.
 *
 * Each instant t gets three outputs: the energy from the first sample until t as an estimate, a low and a high bound.
 *
 * Energy. Take samples (s_k, C_k), the update period T and the quantum q. The true cumulative energy E satisfies
 *     E(t) >= C_k      for every s_k <= t                      (a counter never runs ahead of the energy)
 *     E(t) <= C_k + q  for every k with t <= a_k, where a_k = s_k - T, or s_(k-1) if this is later and the counter
 *                      changed or restarted (the value shown at s_k is at most T old, and a value that has just changed
 *                      is younger than s_(k-1))
 * Both are widened by half the duration of the read. Past the last sample, and before the first, the bound continues
 * with the ceiling: the most that the channel can draw.
 * Across a restart of the counter only the ceiling is known. `unknown` is the running sum of ceiling * time over these
 * stretches, and of the counts that rounding down can hide before and after. It is apart from `high`, so that it widens
 * only the windows that touch a restart.
 * The bounds are the tightest: no history of energy, updates and reads that fits the samples leaves them, and for each
 * bound one history reaches it.
 * The estimate interpolates between changes. Each change is placed in the middle of the interval in which it can have
 * happened, and the estimate rises no earlier than the bounds allow. Let m be the mean time between a few successive
 * changes, weighted by power and at most T. The estimate begins m / 2 before the first sample (m of the first four
 * changes). After the last change it goes on at the last power until the last sample, for at most m (of the last four
 * changes). If the last sample is x > 3/2 m after the last change, this time is 2 (2 m - x). It is 0 from 2 m or T on:
 * the counter stands still.
 *
 * Power. The three outputs are running integrals of the trapezoid, the smaller end and the larger end of each step. A
 * step across a gap counts 0 and the ceiling in the bounds. While a read lasts (s_k -+ half, but not beyond the
 * neighbours' stamps), the steps on both its sides bound the power, because the value can be that of any instant of the
 * read. Past the last sample the estimate continues with the last value (or the ceiling, if that is less) for at most
 * T; the smaller end adds nothing and the larger end adds the ceiling.
 *
 * So the energy of a window [t0, t1] lies within
 *     energy: low(t1) - high(t0) .. high(t1) - low(t0) + unknown(t1) - unknown(t0)
 *     power:  low(t1) - low(t0)  .. high(t1) - high(t0)
 * Therefore begins and ends of windows are two streams of instants over one curve, and each answer is added with its
 * sign into its window. */
#ifndef FG_RESOLVER_H
#define FG_RESOLVER_H

#include "fg_resolver_table.h"
#include "fg_ring.h"
#include "fg_traits.h"

struct fg_answers {
	double *low, *estimate, *high;
	double *unknown;  /* may be NULL; else the caller zeroes it, and only restarts of the counter add to it */
	double *rounding; /* edges: what rounding adds to `unknown` where a window ends; as `unknown` */
};

enum fg_edge { FG_INSTANT, FG_BEGIN, FG_END };

/* A sorted column of instants, and the place of their answers: instants by themselves, or the edges of windows. */
struct fg_stream {
	const int64_t *at_ns;
	size_t count;
	enum fg_edge edge;
	struct fg_answers out;
	size_t next, next_unknown; /* private: the next instant without an answer */
};

struct fg_resolver_path;

struct fg_resolver {
	struct fg_traits traits;
	double ceiling_per_ns; /* the most that the channel can draw: unit per ns (energy) or raw (power) */
	struct fg_stream streams[2];
	unsigned stream_count;
	/* private */
	const struct fg_resolver_path *path;
	uint64_t fed;
	int64_t total;
	int64_t rounded; /* a quantum for every restart that ended some growth: so much of the total is not sure */
	struct fg_sample last;
	int64_t first_at_ns;
	bool begun;          /* the estimate has its beginning: the first few changes place it */
	int64_t sure_at_ns;  /* running maximum of s_k + half */
	int64_t reach_at_ns; /* running maximum of a_k */
	bool restarted;
	int64_t restart_total, known_from_ns; /* the total at the last restart, and when its unknown stretch ended */
	double low_sum, sum, high_sum, unknown;
	struct fg_sample before;          /* power: the step from `before` to `last` waits for the sample after it, */
	struct fg_band band_before, band; /* lies in `band`, and the step before it in `band_before` */
	struct fg_table table;
};

/* Instants: the energy from the first sample until each instant. `traits->period_ns` is the T to use. All columns stay
 * the caller's, and must outlive the resolver. */
void fg_resolver_init_instants(struct fg_resolver *resolver, const struct fg_traits *traits, double ceiling_per_ns,
							   const int64_t *at_ns, size_t count, const struct fg_answers *out);

/* Windows: the energy between begin_at_ns[i] and end_at_ns[i], which is not before it. Each column must be sorted (see
 * fg_windows_sorted). `out` gets the bounds (low is at least 0) and the estimate. */
void fg_resolver_init_windows(struct fg_resolver *resolver, const struct fg_traits *traits, double ceiling_per_ns,
							  const int64_t *begin_at_ns, const int64_t *end_at_ns, size_t count,
							  const struct fg_answers *out);

/* Edges of windows, each answered by itself, so that one answer serves all windows that share the edge: two sorted
 * columns of instants. `unknown` is negative. So the energy from edge b to edge e lies within (energy; see above)
 *     low(e) - high(b) .. high(e) - low(b) + unknown(b) - unknown(e) + rounding(e) */
void fg_resolver_init_edges(struct fg_resolver *resolver, const struct fg_traits *traits, double ceiling_per_ns,
							const int64_t *begin_at_ns, size_t begin_count, const struct fg_answers *begins,
							const int64_t *end_at_ns, size_t end_count, const struct fg_answers *ends);

/* Take over the samples that another resolver of the same channel has taken: only its columns stay the resolver's own.
 * None of its instants lies before at_ns + half_ns of one of these samples. */
void fg_resolver_go_on(struct fg_resolver *resolver, const struct fg_resolver *other);

/* True if every instant has its answer, and no sample that follows changes one. */
bool fg_resolver_done(const struct fg_resolver *resolver);

/* The number of windows, from the first on, that can be resolved: each ends no earlier than it begins, and begins and
 * ends no earlier than the window before it. `count` if all can. */
size_t fg_windows_sorted(const int64_t *begin_at_ns, const int64_t *end_at_ns, size_t count);

/* Take the next samples, in time order; may be called any number of times. */
void fg_resolver_feed(struct fg_resolver *resolver, const struct fg_sample *samples, size_t count);

/* Answer the instants past the last sample. If no sample was fed, every answer is NaN. */
void fg_resolver_finish(struct fg_resolver *resolver);

#endif
