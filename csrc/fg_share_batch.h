/* Shares of spans that are known beforehand, of one piece each, on one channel: the shares of fg_share, several times
 * as fast, because nothing has to be found when a span opens or closes.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Samples are fed in order, in any number of portions. Beside the spans' own columns, memory grows with the instants
 * that later samples can concern. fg_share.h has the rule. */
#ifndef FG_SHARE_BATCH_H
#define FG_SHARE_BATCH_H

#include "fg_ring.h"
#include "fg_share_columns.h"

struct fg_share_batch;

/* `shares` and `time_ns` (may be NULL) are the caller's columns, zeroed, by the place of the span; a span's share is
 * `stride` entries after that of the span before. */
FG_MUST_CHECK enum fg_status fg_share_batch_new(const struct fg_share_columns *spans,
												const struct fg_share_channel *channel, double *time_ns,
												struct fg_shared *shares, size_t stride, struct fg_share_batch **out,
												struct fg_error *err);
void fg_share_batch_free(struct fg_share_batch *batch); /* NULL does nothing */

FG_MUST_CHECK enum fg_status fg_share_batch_feed(struct fg_share_batch *batch, const struct fg_sample *samples,
												 size_t count, struct fg_error *err);

/* No samples come any more: the shares are complete. `drawn` gets the energy of the curve from the first edge until the
 * last: with a span open, and without. */
FG_MUST_CHECK enum fg_status fg_share_batch_finish(struct fg_share_batch *batch, double drawn[2], struct fg_error *err);

#endif
