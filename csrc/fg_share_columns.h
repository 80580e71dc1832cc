/* Spans that are known beforehand, as columns, with the order of their begins and of their ends.
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
	uint32_t *by_begin, *by_end; /* NULL: the column is sorted */
};

/* Sort the columns. FG_INVALID if a span ends before it begins, or if there are 2^31 spans or more. */
FG_MUST_CHECK enum fg_status fg_share_columns_init(struct fg_share_columns *columns, const int64_t *begin_at_ns,
												   const int64_t *end_at_ns, const uint64_t *weight, size_t count,
												   struct fg_error *err);
void fg_share_columns_destroy(struct fg_share_columns *columns);

/* The place of the span that is the i-th to begin; the i-th to end. */
static inline uint32_t fg_share_by_begin(const struct fg_share_columns *columns, size_t i)
{
	return columns->by_begin != NULL ? columns->by_begin[i] : (uint32_t)i;
}

static inline uint32_t fg_share_by_end(const struct fg_share_columns *columns, size_t i)
{
	return columns->by_end != NULL ? columns->by_end[i] : (uint32_t)i;
}

#endif
