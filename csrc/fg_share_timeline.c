/* See fg_share_timeline.h. SPDX-License-Identifier: Apache-2.0 */
#include "fg_share_timeline.h"

#include "fg_big.h"

#include <stdlib.h>
#include <string.h>

enum { LEAST_ROOM = 1 << 14 };

static const int64_t ever_ns = INT64_C(1) << 62; /* later than any instant; its negative is earlier */

static enum fg_status make_room(struct fg_timeline *line, size_t room, struct fg_error *err)
{
	int64_t *at_ns = realloc(line->at_ns, (room + 1) * sizeof *at_ns);
	double *most = realloc(line->block_most, (room / FG_TIMELINE_BLOCK + 1) * sizeof *most);
	double *columns = malloc(FG_LINE_COLUMNS * room * sizeof *columns);

	line->at_ns = at_ns != NULL ? at_ns : line->at_ns;
	line->block_most = most != NULL ? most : line->block_most;
	if (at_ns == NULL || most == NULL || columns == NULL) {
		free(columns);
		return fg_error_set(err, FG_NO_MEMORY, 0, 0, "no memory for %zu edges of spans", room);
	}
	for (size_t c = 0; c < FG_LINE_COLUMNS && line->count > 0; c++)
		memcpy(columns + c * room, line->columns + c * line->room, line->count * sizeof *columns);
	free(line->columns);
	line->columns = columns;
	line->room = room;
	return FG_OK;
}

enum fg_status fg_timeline_init(struct fg_timeline *line, const struct fg_share_columns *spans, struct fg_error *err)
{
	enum fg_status status;

	*line = (struct fg_timeline){.spans = spans};
	status = make_room(line, LEAST_ROOM, err);
	line->kept = fg_big_alloc(spans->count + 1, sizeof *line->kept);
	if (status == FG_OK && line->kept == NULL)
		status = fg_error_set(err, FG_NO_MEMORY, 0, 0, "no memory for %zu spans", spans->count);
	if (status != FG_OK) {
		fg_timeline_destroy(line);
		return status;
	}
	line->at_ns[0] = -ever_ns; /* before the first edge */
	line->at_ns[1] = ever_ns;
	for (size_t c = 0; c < FG_LINE_COLUMNS; c++)
		fg_timeline_column(line, c)[0] = 0.0;
	line->count = 1;
	return FG_OK;
}

void fg_timeline_destroy(struct fg_timeline *line)
{
	free(line->at_ns);
	free(line->columns);
	free(line->block_most);
	free(line->kept);
	memset(line, 0, sizeof *line);
}

/* Work g and its integral out for the nodes from `first` on, whose column of g still holds the sum of the weights. */
static void complete(struct fg_timeline *line, size_t first)
{
	double *g = fg_timeline_column(line, FG_LINE_G), *time_ns = fg_timeline_column(line, FG_LINE_TIME);

	for (size_t i = first; i < line->count; i++)
		g[i] = g[i] > 0.0 ? 1.0 / g[i] : 0.0;
	for (size_t i = first; i < line->count; i++)
		time_ns[i] = time_ns[i - 1] + g[i - 1] * (double)(line->at_ns[i] - line->at_ns[i - 1]);
	for (size_t block = first / FG_TIMELINE_BLOCK; block * FG_TIMELINE_BLOCK < line->count; block++) {
		size_t end = (block + 1) * FG_TIMELINE_BLOCK;
		double most = 0.0;

		for (size_t i = block * FG_TIMELINE_BLOCK; i < end && i < line->count; i++)
			most = most > g[i] ? most : g[i];
		line->block_most[block] = most;
	}
}

/* The next edges, as long as there is room. */
static void merge(struct fg_timeline *line, int64_t until_ns)
{
	const struct fg_share_columns *s = line->spans;
	double *weights = fg_timeline_column(line, FG_LINE_G);
	size_t opened = line->opened, closed = line->closed, last = line->count - 1;
	uint32_t open = fg_share_by_begin(s, opened < s->count ? opened : 0), close = fg_share_by_end(s, closed);
	int64_t begin_ns = opened < s->count ? s->begin_at_ns[open] : ever_ns, end_ns = s->end_at_ns[close];
	fg_uint128 weight = line->weight;

	while (last + 1 < line->room) {
		bool opens = begin_ns <= end_ns; /* a span of no length opens first */
		int64_t at_ns = opens ? begin_ns : end_ns;

		if (at_ns > until_ns)
			break;
		at_ns = at_ns < ever_ns ? at_ns : ever_ns - 1;
		last += at_ns > line->at_ns[last];
		line->at_ns[last] = at_ns;
		if (opens) {
			weight += s->weight != NULL ? s->weight[open] : FG_SHARE_WEIGHT;
			line->kept[open].begin_node = (uint32_t)(line->first + last);
			open = ++opened < s->count ? fg_share_by_begin(s, opened) : 0;
			begin_ns = opened < s->count ? s->begin_at_ns[open] : INT64_MAX;
		} else {
			weight -= s->weight != NULL ? s->weight[close] : FG_SHARE_WEIGHT;
			line->kept[close].end_node = (uint32_t)(line->first + last);
			if (++closed == s->count) {
				weights[last] = 0.0;
				break;
			}
			close = fg_share_by_end(s, closed);
			end_ns = s->end_at_ns[close];
		}
		weights[last] = weight >> 63 ? (double)weight : (double)(int64_t)weight;
	}
	line->weight = weight;
	line->opened = opened;
	line->closed = closed;
	line->count = last + 1;
}

enum fg_status fg_timeline_advance(struct fg_timeline *line, int64_t until_ns, struct fg_error *err)
{
	size_t first = line->count;

	for (;;) {
		if (line->closed < line->spans->count)
			merge(line, until_ns);
		if (line->count < line->room)
			break;
		enum fg_status status = make_room(line, 2 * line->room, err);

		if (status != FG_OK)
			return status;
	}
	line->at_ns[line->count] = ever_ns;
	if (line->count > first)
		complete(line, first);
	return FG_OK;
}

void fg_timeline_drop(struct fg_timeline *line, uint64_t before)
{
	size_t gone = (size_t)(before - line->first) / FG_TIMELINE_BLOCK * FG_TIMELINE_BLOCK, left = line->count - gone;

	if (before < line->first || gone < LEAST_ROOM / 4 || gone < left)
		return;
	memmove(line->at_ns, line->at_ns + gone, (left + 1) * sizeof *line->at_ns);
	for (size_t c = 0; c < FG_LINE_COLUMNS; c++) {
		double *column = fg_timeline_column(line, c);

		memmove(column, column + gone, left * sizeof *column);
	}
	memmove(line->block_most, line->block_most + gone / FG_TIMELINE_BLOCK,
			(left / FG_TIMELINE_BLOCK + 1) * sizeof *line->block_most);
	line->first += gone;
	line->count = left;
}

double fg_timeline_most(const struct fg_timeline *line, uint64_t from, uint64_t until)
{
	const double *g = fg_timeline_column(line, FG_LINE_G);
	size_t i = (size_t)(from - line->first), end = (size_t)(until - line->first);
	double most = 0.0;

	while (i < end) {
		bool whole = i % FG_TIMELINE_BLOCK == 0 && i + FG_TIMELINE_BLOCK <= end;
		double here = whole ? line->block_most[i / FG_TIMELINE_BLOCK] : g[i];

		most = most > here ? most : here;
		i += whole ? FG_TIMELINE_BLOCK : 1;
	}
	return most;
}
