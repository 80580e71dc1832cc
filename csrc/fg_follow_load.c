/* See fg_follow_load.h.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fg_follow_load.h"

#include <string.h>

/* States by what is open: a table with open addresses. */
struct table {
	uint64_t keys[FG_LOAD_SLOTS];
	int32_t states[FG_LOAD_SLOTS];
};

static inline int32_t *slot_of(struct table *t, uint64_t key)
{
	size_t i = (size_t)(key * UINT64_C(0x9e3779b97f4a7c15) >> 52);

	while (t->states[i] != 0 && t->keys[i] != key)
		i = (i + 1) % FG_LOAD_SLOTS;
	t->keys[i] = key;
	return &t->states[i];
}

/* The state of what is open from window edge `i` on. */
static inline int32_t state_of(struct table *t, struct fg_load *load, uint64_t key, size_t i)
{
	if (key == 0)
		return FG_LOAD_REST;
	int32_t *slot = slot_of(t, key);
	if (*slot == 0) {
		if (load->state_count == FG_LOAD_MOST)
			return FG_LOAD_MOST;
		load->first[load->state_count] = (int64_t)i;
		load->time_ns[load->state_count] = 0.0;
		load->stretches[load->state_count] = 0;
		*slot = (int32_t)load->state_count++;
	}
	return *slot;
}

void fg_load_states(const struct fg_window_edges *windows, int64_t apart_ns, struct fg_load *load)
{
	struct table table;
	const int64_t *at_ns = windows->at_ns;
	int64_t *edges_ns = load->edges_ns, *stretches = load->stretches, begin_ns = 0;
	double *time_ns = load->time_ns;
	int32_t *states = load->states, state = 0;
	uint64_t key = 0;
	size_t edges = 0;

	memset(&table.states, 0, sizeof table.states);
	load->state_count = 2;
	time_ns[0] = time_ns[1] = time_ns[FG_LOAD_MOST] = 0.0;
	stretches[0] = stretches[1] = stretches[FG_LOAD_MOST] = 0;
	load->first[0] = load->first[1] = -1;
	for (size_t i = 0; i < windows->count; i++) {
		int32_t name = windows->names[i];
		int64_t now_ns = at_ns[i];

		key += name >= 0 ? windows->marks[name] : 0 - windows->marks[~name];
		if (i + 1 < windows->count && at_ns[i + 1] == now_ns)
			continue;
		if (edges > 0) { /* the stretch before is over */
			if (state == FG_LOAD_REST && now_ns - begin_ns <= apart_ns)
				states[edges - 1] = state = FG_LOAD_SHORT_REST;
			time_ns[state] += (double)(now_ns - begin_ns);
			stretches[state]++;
		}
		state = state_of(&table, load, key, i);
		begin_ns = edges_ns[edges] = now_ns;
		states[edges++] = state;
	}
	load->edges = edges;
}

size_t fg_load_divide(const struct fg_timeline *timeline, const struct fg_load_cells *cells, int64_t *edges_ns,
					  int32_t *states)
{
	size_t written = 0;

	for (size_t i = 0; i < timeline->edges; i++) {
		size_t s = (size_t)timeline->states[i], cell = cells->first[s], last = cells->first[s + 1] - 1;
		int64_t begin_ns = timeline->edges_ns[i], at_ns = begin_ns;
		int64_t end_ns = i + 1 < timeline->edges ? timeline->edges_ns[i + 1] : INT64_MAX;

		for (; at_ns < end_ns; cell++) {
			if (edges_ns != NULL) {
				edges_ns[written] = at_ns;
				states[written] = cells->states[cell];
			}
			written++;
			if (cell == last)
				break;
			at_ns = begin_ns + cells->ends_ns[cell];
		}
	}
	return written;
}

static size_t first_at(const int64_t *edges_ns, size_t edges, int64_t at_ns)
{
	size_t low = 0, high = edges;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (edges_ns[middle] < at_ns)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The first edge at at_ns or later, or the last edge; `j` is the answer to the question before. */
static inline size_t next_at(const int64_t *edges_ns, size_t edges, int64_t at_ns, size_t j)
{
	enum { NEAR = 8 };
	size_t last = j + NEAR < edges ? j + NEAR : edges - 1;

	while (j < last && edges_ns[j] < at_ns)
		j++;
	bool found = edges_ns[j] >= at_ns ? j == 0 || edges_ns[j - 1] < at_ns : j + 1 == edges;
	return found ? j : first_at(edges_ns, edges - 1, at_ns);
}

void fg_load_between(const int64_t *edges_ns, const double *values, size_t edges, const int64_t *begin_ns,
					 const int64_t *end_ns, size_t asked, double *out)
{
	size_t b = 0, e = 0;

	for (size_t i = 0; i < asked; i++) {
		if (edges > 0) {
			b = next_at(edges_ns, edges, begin_ns[i], b);
			e = next_at(edges_ns, edges, end_ns[i], e);
		}
		out[i] = edges > 0 ? values[e] - values[b] : 0.0;
	}
}
