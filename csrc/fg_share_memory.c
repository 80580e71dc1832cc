/* See fg_share.h. The memory of the engine: rings that grow, spans whose numbers are used again.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fg_share_state.h"

#include <stdlib.h>
#include <string.h>

enum { LEAST_ROOM = 2 * FG_SHARE_BLOCK };

/* A column of a ring with twice the room; entries keep their numbers. */
static void *wider(const void *column, size_t size, uint64_t first, uint64_t end, uint64_t mask)
{
	char *out = calloc((size_t)(2 * (mask + 1)), size);

	for (uint64_t i = first; out != NULL && i < end; i++)
		memcpy(out + (i & (2 * mask + 1)) * size, (const char *)column + (i & mask) * size, size);
	return out;
}

static enum fg_status no_memory(struct fg_error *err, size_t wanted)
{
	return fg_error_set(err, FG_NO_MEMORY, 0, 0, "no memory for %zu more entries of a ledger", wanted);
}

enum fg_status fg_share_room_for_edge(struct fg_share *s, struct fg_error *err)
{
	if (s->edge_end - s->first_edge <= s->edge_mask)
		return FG_OK;
	void *edges = wider(s->edges, sizeof *s->edges, s->first_edge, s->edge_end, s->edge_mask);
	void *cells = wider(s->cells, s->channels * sizeof *s->cells, s->first_edge, s->edge_end, s->edge_mask);

	if (edges == NULL || cells == NULL) {
		free(edges);
		free(cells);
		return no_memory(err, s->edge_mask + 1);
	}
	free(s->edges);
	free(s->cells);
	s->edges = edges;
	s->cells = cells;
	s->edge_mask = 2 * s->edge_mask + 1;
	return FG_OK;
}

enum fg_status fg_share_room_for_node(struct fg_share *s, struct fg_error *err)
{
	uint64_t block_mask = s->node_mask / FG_SHARE_BLOCK, first = s->first_node / FG_SHARE_BLOCK;

	/* A block's place is taken by a later one only when all of its nodes have left. */
	if (s->node_end - s->first_node + FG_SHARE_BLOCK <= s->node_mask)
		return FG_OK;
	uint64_t end = s->node_end / FG_SHARE_BLOCK + 1;
	void *nodes = wider(s->nodes, sizeof *s->nodes, s->first_node, s->node_end, s->node_mask);
	void *least = wider(s->block_least, sizeof *s->block_least, first, end, block_mask);
	void *most = wider(s->block_most, sizeof *s->block_most, first, end, block_mask);

	if (nodes == NULL || least == NULL || most == NULL) {
		free(nodes);
		free(least);
		free(most);
		return no_memory(err, s->node_mask + 1);
	}
	free(s->nodes);
	free(s->block_least);
	free(s->block_most);
	s->nodes = nodes;
	s->block_least = least;
	s->block_most = most;
	s->node_mask = 2 * s->node_mask + 1;
	return FG_OK;
}

enum fg_status fg_share_room_for_span(struct fg_share *s, struct fg_error *err)
{
	size_t old = s->span_room, room = old ? 2 * old : 64;

	if (s->free_span != FG_SHARE_NO_SPAN)
		return FG_OK;
	if (room >= FG_SHARE_NO_SPAN)
		return no_memory(err, room);
	void *spans = realloc(s->spans, room * sizeof *s->spans);
	if (spans != NULL)
		s->spans = spans;
	void *begun = realloc(s->begun, room * s->channels * sizeof *s->begun);
	if (begun != NULL)
		s->begun = begun;
	void *shared = realloc(s->shared, room * s->channels * sizeof *s->shared);
	if (shared != NULL)
		s->shared = shared;
	uint32_t *finished = malloc(room * sizeof *finished);

	if (spans == NULL || begun == NULL || shared == NULL || finished == NULL) {
		free(finished);
		return no_memory(err, room);
	}
	memset(&s->begun[old * s->channels], 0, (room - old) * s->channels * sizeof *s->begun);
	for (uint64_t i = s->finished_first; i < s->finished_end; i++)
		finished[i & (room - 1)] = s->finished[i & (old - 1)];
	free(s->finished);
	s->finished = finished;
	for (size_t i = old; i < room; i++)
		s->spans[i] = (struct fg_share_span){.next_free = i + 1 < room ? (uint32_t)i + 1 : FG_SHARE_NO_SPAN};
	s->free_span = (uint32_t)old;
	s->span_room = (uint32_t)room;
	return FG_OK;
}

enum fg_status fg_share_scratch(struct fg_share *share, size_t nodes, struct fg_error *err)
{
	if (nodes <= share->scratch_room)
		return FG_OK;
	void *most = malloc(2 * nodes * sizeof(double)), *least = malloc(2 * nodes * sizeof(double));

	if (most == NULL || least == NULL) {
		free(most);
		free(least);
		return no_memory(err, nodes);
	}
	free(share->after_most);
	free(share->after_least);
	share->after_most = most;
	share->after_least = least;
	share->scratch_room = 2 * nodes;
	return FG_OK;
}

enum fg_status fg_share_new(const struct fg_share_channel *channels, size_t count, struct fg_share **out,
							struct fg_error *err)
{
	struct fg_share *s = calloc(1, sizeof *s);

	if (count == 0 || s == NULL) {
		free(s);
		return count ? no_memory(err, 1) : fg_error_set(err, FG_INVALID, 0, 0, "shares need a channel");
	}
	s->channels = count;
	s->edge_mask = s->node_mask = LEAST_ROOM - 1;
	s->free_span = FG_SHARE_NO_SPAN;
	s->latest_ns = 1 - FG_SHARE_EVER_NS;
	s->meters = calloc(count, sizeof *s->meters);
	s->edges = calloc(LEAST_ROOM, sizeof *s->edges);
	s->cells = calloc(LEAST_ROOM * count, sizeof *s->cells);
	s->nodes = calloc(LEAST_ROOM, sizeof *s->nodes);
	s->block_least = calloc(LEAST_ROOM / FG_SHARE_BLOCK, sizeof *s->block_least);
	s->block_most = calloc(LEAST_ROOM / FG_SHARE_BLOCK, sizeof *s->block_most);
	if (!s->meters || !s->edges || !s->cells || !s->nodes || !s->block_least || !s->block_most)
		goto fail;
	s->nodes[0] = (struct fg_share_node){-FG_SHARE_EVER_NS, 0.0, 0.0};
	s->node_end = 1;
	for (size_t c = 0; c < count; c++) {
		s->meters[c].traits = channels[c].traits;
		s->meters[c].ceiling_per_ns = channels[c].ceiling_per_ns;
		if (channels[c].traits.kind == FG_POWER && fg_share_init_power(&s->meters[c], NULL) != FG_OK)
			goto fail;
	}
	*out = s;
	return FG_OK;
fail:
	fg_share_free(s);
	return no_memory(err, count);
}

void fg_share_free(struct fg_share *s)
{
	if (s == NULL)
		return;
	fg_share_plain_free(s->plain);
	for (size_t c = 0; s->meters != NULL && c < s->channels; c++)
		fg_share_free_power(&s->meters[c]);
	free(s->meters);
	free(s->edges);
	free(s->cells);
	free(s->nodes);
	free(s->block_least);
	free(s->block_most);
	free(s->spans);
	free(s->begun);
	free(s->shared);
	free(s->finished);
	free(s->after_most);
	free(s->after_least);
	free(s);
}
