/* Shares of spans that are known beforehand, as columns: the same engine, fed in the order of time.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef FG_SHARE_COLUMNS_H
#define FG_SHARE_COLUMNS_H

#include "fg_share.h"

/* The columns are the caller's. A span is known by its place. */
struct fg_share_columns {
	const int64_t *begin_at_ns, *end_at_ns;
	const uint64_t *weight; /* NULL: 1 each */
	size_t count;
	/* private */
	uint32_t *by_begin, *by_end, *span;
	size_t opened, closed;
};

/* Sort the columns. FG_INVALID if a span ends before it begins, or if there are 2^32 spans or more. */
FG_MUST_CHECK enum fg_status fg_share_columns_init(struct fg_share_columns *columns, const int64_t *begin_at_ns,
												   const int64_t *end_at_ns, const uint64_t *weight, size_t count,
												   struct fg_error *err);
void fg_share_columns_destroy(struct fg_share_columns *columns);

/* All spans of a new engine are those of the columns, and its channels are counters: then it writes their rows itself,
 * several times as fast. `time_ns` and `shares` hold zeros; they are whole after fg_share_finish. FG_INVALID for a
 * channel that is a power, or 2^31 spans. */
FG_MUST_CHECK enum fg_status fg_share_columns_attach(struct fg_share *share, const struct fg_share_columns *columns,
													 double *time_ns, struct fg_shared *shares, struct fg_error *err);

/* Open and close the spans up to an instant. */
FG_MUST_CHECK enum fg_status fg_share_columns_run(struct fg_share *share, struct fg_share_columns *columns,
												  int64_t until_ns, struct fg_error *err);

/* Take all final spans out, each into its row: `time_ns`, and in `shares` one entry per channel. */
void fg_share_columns_take(struct fg_share *share, size_t channels, double *time_ns, struct fg_shared *shares);

#endif
