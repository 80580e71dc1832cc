/* Following the load: the expected time that a load spent in each of its states between two updates of a counter, and
 * the curve that gives the counter's growth out accordingly.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Pure arithmetic: no clock, no file, no thread, no allocation. All columns are the caller's.
 *
 * Let u_k be the instant of the update that change k of a counter shows. The growth of change k was spent between
 * u_(k-1) and u_k. Samples tell these instants only to brackets (fg_follow_changes). Within its bracket u_k has a
 * density: an even one, or one that takes into account how far apart updates come (fg_follow_links). F_k is the
 * distribution function of u_k.
 *
 * A timeline says in which state the load was (which windows were open) at each instant. The expected time in state s
 * between the two updates is
 *     x_ks = integral over the time in state s of F_(k-1)(t) - F_k(t) dt                           (fg_follow_times)
 * Powers p_s that explain the growths, dC_k = sum over s of p_s x_ks, are the caller's to fit. The mean over the
 * instants leaves no bias in this regression, as a midpoint would (Berkson's error model).
 *
 * The curve of the energy until t (fg_follow_curve) is
 *     E(t) = sum over k of dC_k A_k(t),   A_k(t) = integral up to t of p_s(t) (F_(k-1) - F_k) dt / sum over s of p_s x_ks
 * It is monotone, gives each growth out once, and within [u_(k-1), u_k] only. So it lies within the resolver's bounds,
 * and the energies of windows on it add up to the counter. */
#ifndef FG_FOLLOW_H
#define FG_FOLLOW_H

#include "fg_ring.h"
#include "fg_traits.h"

enum { FG_FOLLOW_CELLS = 16 }; /* a bracket is divided into so many cells of even density */

/* One change of the counter. */
struct fg_change {
	int64_t after_ns, at_ns; /* the update came in (after_ns, at_ns]; brackets do not overlap */
	int64_t grown;           /* since the change before; 0 for the first, and across a restart */
	int64_t linked;          /* 0: updates may have been missed since the change before, or the counter restarted */
};

/* Private, but for its size: what goes on from one chunk of samples to the next. Zeroed at first. */
struct fg_follow_reader {
	struct fg_sample last;
	struct fg_change change; /* waits for the samples that follow: they may narrow its bracket */
	int64_t fed;
};

/* Write the changes that `count` samples of a counter, in time order, complete; `out` has room for `count` + 1 of them.
 * Returns their number. The first one is the update that the first sample shows. If a value was shown for longer than a
 * period, there was an update without growth: a change whose growth and bracket are empty. */
size_t fg_follow_changes(struct fg_follow_reader *reader, const struct fg_traits *traits,
						 const struct fg_sample *samples, size_t count, struct fg_change *out);

/* Write the last change. Returns the number written: 1, or 0 if no samples were fed. */
size_t fg_follow_last_change(const struct fg_follow_reader *reader, const struct fg_traits *traits,
							 struct fg_change *out);

/* Where the updates of some changes were. The density of bracket k has the chances cells[k * step ...] of its cells: each
 * its own (step FG_FOLLOW_CELLS), or all the same (step 0). `cells` may be NULL: even densities. */
struct fg_instants {
	const struct fg_change *changes;
	const float *cells;
	size_t count, step;
};

/* Two successive updates are `shortest_ns` to `longest_ns` apart; each is missed with the chance `missed`, up to three in
 * a row. `floor` is the chance of any other distance. */
struct fg_links {
	double shortest_ns, longest_ns, missed, floor;
};

struct fg_links_tally {
	double log_likelihood;   /* of the brackets, given the links */
	uint64_t links, floored; /* links between changes; those that only the floor makes possible */
};

/* The chance of each cell of each bracket, given all brackets (forward and backward over the chain of updates):
 * `cells` takes count * FG_FOLLOW_CELLS numbers. If `smooth` is false: given the brackets up to its own. */
void fg_follow_chain(const struct fg_change *changes, size_t count, const struct fg_links *links, bool smooth,
					 float *cells, struct fg_links_tally *tally);

/* State states[i] from edges_ns[i] up to edges_ns[i + 1], state 0 before the first edge; edges are sorted. */
struct fg_timeline {
	const int64_t *edges_ns;
	const int32_t *states;
	size_t edges, state_count;
};

/* times[k * state_count + s] becomes x_ks in ns. Row 0 holds the part of its own bracket only. */
void fg_follow_times(const struct fg_instants *instants, const struct fg_timeline *timeline, double *times);

/* What the curve gives out: of growth k, `amount[k]`, in proportion to power[block[k] * state_count + state], whose sum
 * over the expected times is `weight[k]`, > 0. */
struct fg_outlay {
	const double *amount, *weight, *power;
	const int32_t *block;
};

/* energy[i] becomes E(at_ns[i]), for `asked` sorted instants; 0 before the first bracket. */
void fg_follow_curve(const struct fg_instants *instants, const struct fg_timeline *timeline,
					 const struct fg_outlay *outlay, const int64_t *at_ns, size_t asked, double *energy);

#endif
