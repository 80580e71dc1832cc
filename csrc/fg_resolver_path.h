/* What the files of the resolver share, and nobody else needs.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Tabling and looking up are all that a resolver spends its time on, so they exist once for each kind of CPU. All give
 * the same bits. */
#ifndef FG_RESOLVER_PATH_H
#define FG_RESOLVER_PATH_H

#include "fg_clock.h"
#include "fg_resolver.h"

struct fg_resolver_path {
	const char *name;
	bool (*usable)(void);
	/* Table the changes that samples make, as long as they need no second thought and the table is not full. Returns
	 * how many samples were taken: it may be none. */
	size_t (*tabulate)(struct fg_resolver *r, const struct fg_sample *samples, size_t count);
	/* Draw the lines of the estimate between the tabled changes. */
	void (*draw)(struct fg_table *t);
	/* Answer instants from the stream's next on, not before the table begins, as long as they lie before `until_ns`,
	 * where it ends. */
	void (*look_up)(const struct fg_table *t, struct fg_stream *s, int64_t until_ns);
};

#if defined(__x86_64__)
extern const struct fg_resolver_path fg_resolver_path_avx512;
#endif
extern const struct fg_resolver_path fg_resolver_path_baseline;

struct fg_answer {
	double low, estimate, high;
};

/* True while the stream's next instant lies before `until_ns`. */
static inline bool fg_waits(const struct fg_stream *s, int64_t until_ns)
{
	return s->next < s->count && s->at_ns[s->next] < until_ns;
}

/* The estimate at `at_ns`, on a line of the table. */
static inline double fg_on_line(const struct fg_table *t, size_t line, int64_t at_ns)
{
	return t->base[line] + t->slope[line] * (double)fg_clock_later_ns(at_ns - t->from_ns[line], 0);
}

/* Write the answer of instant i. Begins are answered before the ends of their windows, so the former are written and
 * taken off the latter, and no output need be zeroed. */
static inline __attribute__((always_inline)) void fg_write_answer(const struct fg_answers *out, size_t i,
																  enum fg_edge edge, struct fg_answer a)
{
	if (edge == FG_END) {
		double low = a.low - out->low[i];

		a.low = low < 0.0 ? 0.0 : low;
		a.estimate -= out->estimate[i];
		a.high -= out->high[i];
	}
	out->low[i] = a.low;
	out->estimate[i] = a.estimate;
	out->high[i] = a.high;
}

#endif
