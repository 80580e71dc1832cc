/* Shares: the energy of spans that overlap, with bounds, as a stream.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Pure arithmetic: no clock, no file, no thread. Spans open, change weight and close; samples of each channel are fed;
 * finished spans are taken out. Memory grows with the spans that are open or not yet final, not with time.
 *
 * Let W(t) be the sum of the weights of the charged spans that are open at t, and g = 1/W (0 where no span is open). A
 * span of weight w is charged the integral of w*g over the very curve that windows are looked up on (fg_resolver). So
 * the shares add up; the energy while no span is open is unattributed. Weights are whole multiples of 2^-20, so that W
 * returns to exactly 0.
 *
 * Bounds of a counter, in the words of fg_resolver's table: of the growth dC of change k
 *     max(dC - q, 0) was spent within [high_ns[k] - 1, low_ns[k]], and min(dC, q) within [high_ns[k-1] - 1, low_ns[k]].
 * A level of energy is crossed at one instant, of which nothing but this stretch is known. So with f = w*g while the
 * span is open, 0 elsewhere, a span is charged between the sums over both of amount * min f and of amount * max f; no
 * rule gives closer bounds. Past the last change, up to q more may have been spent. Where the energy is unknown (before
 * the first sample, across a restart, past the last sample) the most is ceiling * the integral of f dt.
 * Bounds of a power: w times the integral of g * least and of g * most of each step.
 *
 * Order: spans' instants never go back. Before samples are fed, all instants up to the last of them (at_ns + half_ns)
 * must have been given; an instant that comes too late counts as the earliest one that is still allowed. */
#ifndef FG_SHARE_H
#define FG_SHARE_H

#include "fg_error.h"
#include "fg_ring.h"
#include "fg_traits.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FG_SHARE_WEIGHT (UINT64_C(1) << 20) /* a weight of 1 */

struct fg_share;

struct fg_share_channel {
	struct fg_traits traits; /* `period_ns` is the T to use */
	double ceiling_per_ns;   /* as in struct fg_resolver */
};

/* The energy of a span on one channel, in the channel's own unit. */
struct fg_shared {
	double low, estimate, high;
};

/* A span that is final. */
struct fg_shared_span {
	uint64_t id;    /* as given when it was opened */
	double time_ns; /* the integral of w*g dt: the part of the time that was the span's */
};

FG_MUST_CHECK enum fg_status fg_share_new(const struct fg_share_channel *channels, size_t count, struct fg_share **out,
										  struct fg_error *err);
void fg_share_free(struct fg_share *share); /* NULL does nothing */

/* Open a span. A span that is not charged does not count in W: a phase of another span, for example. `span` gets its
 * number, which is valid until it is closed. */
FG_MUST_CHECK enum fg_status fg_share_open(struct fg_share *share, int64_t at_ns, uint64_t id, uint64_t weight,
										   bool charged, uint32_t *span, struct fg_error *err);

/* From now on the span has another weight. It is bounded as a whole. */
FG_MUST_CHECK enum fg_status fg_share_weigh(struct fg_share *share, uint32_t span, int64_t at_ns, uint64_t weight,
											struct fg_error *err);

FG_MUST_CHECK enum fg_status fg_share_close(struct fg_share *share, uint32_t span, int64_t at_ns, struct fg_error *err);

/* Take the next samples of a channel, in time order, as its account left them. */
FG_MUST_CHECK enum fg_status fg_share_feed(struct fg_share *share, size_t channel, const struct fg_sample *samples,
										   size_t count, struct fg_error *err);

/* From the next sample on, T is another one: what was learnt of the sensor. Spans that are final do not change. */
void fg_share_set_period(struct fg_share *share, size_t channel, int64_t period_ns);

/* A counter has not changed for so long that nobody waits for it: up to `until_at_ns`, which is not later than its last
 * sample, its energy counts as unknown, and spans that ended by then become final. */
FG_MUST_CHECK enum fg_status fg_share_stand_still(struct fg_share *share, size_t channel, int64_t until_at_ns,
												  struct fg_error *err);

/* No samples come any more: all spans that are closed become final. */
FG_MUST_CHECK enum fg_status fg_share_finish(struct fg_share *share, struct fg_error *err);

/* Take out at most `max` spans that are final, in the order in which they became final. `shares` gets a row of one
 * entry per channel for each span. Returns their number. */
size_t fg_share_take(struct fg_share *share, struct fg_shared_span *spans, struct fg_shared *shares, size_t max);

/* The energy of a channel from the first instant until the last one that is settled: with a span open, and without. */
double fg_share_attributed(const struct fg_share *share, size_t channel);
double fg_share_unattributed(const struct fg_share *share, size_t channel);

/* Spans that are open, not yet final or not yet taken out; instants that are kept. */
size_t fg_share_spans(const struct fg_share *share);
size_t fg_share_edges(const struct fg_share *share);

#endif
