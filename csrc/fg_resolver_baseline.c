/* The path for any CPU. SPDX-License-Identifier: Apache-2.0 */
#include "fg_resolver_path.h"

static bool usable(void)
{
	return true;
}

/* One by one is no faster than with second thoughts. */
static size_t tabulate(struct fg_resolver *r, const struct fg_sample *samples, size_t count)
{
	(void)r, (void)samples, (void)count;
	return 0;
}

/* `low` goes along the breaks as the instants do, by branches: what they predict need not be waited for, as sums of
 * comparisons must. */
static inline __attribute__((always_inline)) void look_up_edge(const struct fg_table *t, struct fg_stream *s,
															   int64_t until_ns, enum fg_edge edge)
{
	const struct fg_answers out = s->out;
	const int64_t *all_ns = s->at_ns;
	size_t low = 0, count = s->count, i;

	for (i = s->next; i < count && all_ns[i] < until_ns; i++) {
		int64_t at_ns = all_ns[i];

		while (t->low_ns[low + 1] <= at_ns)
			low++;
		const int64_t *knots = &t->knot_ns[low], *highs = &t->high_ns[low];
		size_t knot = low + (knots[1] <= at_ns) + (knots[2] <= at_ns);
		size_t high = low + (highs[1] <= at_ns) + (highs[2] <= at_ns) + (highs[3] <= at_ns);

		fg_write_answer(&out, i, edge,
						(struct fg_answer){t->value[low], fg_on_line(t, knot, at_ns), t->value[high] + t->quantum});
	}
	s->next = i;
}

#include "fg_resolver_loops.h"

const struct fg_resolver_path fg_resolver_path_baseline = {"baseline", usable, tabulate, draw, look_up};
