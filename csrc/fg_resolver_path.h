/* Shared by the files of the resolver only.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A resolver spends its time on two loops: tabling the changes of a counter, and looking instants up in the table. Each
 * kind of CPU has its own path, that is, its own two loops; all paths give the same bits.
 *
 *   fg_resolver.c             chooses a path, and does all that is rare or not in a loop
 *     |-- fg_resolver_power.c     power channels, which have one path
 *     |-- fg_resolver_avx512.c    AVX-512: tabulate, look_up_edge
 *     '-- fg_resolver_baseline.c  any CPU: look_up_edge (tabulate leaves all samples to fg_resolver.c)
 *           '-- fg_resolver_loops.h   included at the end of both: draw, look_up */
#ifndef FG_RESOLVER_PATH_H
#define FG_RESOLVER_PATH_H

#include "fg_clock.h"
#include "fg_resolver.h"
#include "fg_wide.h"

struct fg_resolver_path {
	const char *name;
	bool (*usable)(void);
	/* Table the changes that samples make, as long as they are simple (no wraps, no flags, no overlapping reads) and
	 * the table is not full. Returns the number of samples taken, which may be 0. */
	size_t (*tabulate)(struct fg_resolver *r, const struct fg_sample *samples, size_t count);
	/* Draw the lines of the estimate between the tabled changes. */
	void (*draw)(struct fg_table *t);
	/* Answer the instants of the stream, from its next one up to `until_ns`, the end of the table. None lies before the
	 * beginning of the table. */
	void (*look_up)(const struct fg_table *t, struct fg_stream *s, int64_t until_ns);
};

#ifdef FG_WIDE
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

/* Write the answer of instant i. The begin of a window is answered before its end: it is written, and later subtracted
 * from the end. So the outputs need not be zeroed. */
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

static inline void fg_put(struct fg_stream *s, enum fg_edge edge, struct fg_answer a)
{
	fg_write_answer(&s->out, s->next++, edge, a);
}

/* Power channels (fg_resolver_power.c): take the next sample; answer the instants past the last one. */
void fg_resolver_feed_power(struct fg_resolver *r, const struct fg_sample *now);
void fg_resolver_finish_power(struct fg_resolver *r);

#endif
