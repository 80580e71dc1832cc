/* A sampler: one thread that reads the channels of one source at absolute deadlines.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Life: open -> start -> (drain, live)* -> stop -> (drain, tally)* -> close. One controlling thread
 * calls start, stop, tally and close. One draining thread, which may be the same, calls drain. Any thread may call
 * live. A child after fork has no sampling thread and must not call any of these functions. */
#ifndef FG_SAMPLER_H
#define FG_SAMPLER_H

#include "fg_channel.h"
#include "fg_source.h"

struct fg_sampler;

struct fg_sampler_config {
	const struct fg_source_ops *ops;
	struct fg_source_config source;
	const struct fg_traits
		*traits;          /* one for each sensor; tick_ns becomes period_ns, unless the source sets its times */
	int64_t period_ns;    /* between two ticks, > 0; not used by a source with its own timetable */
	size_t ring_capacity; /* samples for each channel */
	bool dither;          /* ticks are 0.5 to 1.5 periods apart, one on average, so that no load keeps step with them */
};

/* Open the source and make the rings. It starts no thread. */
FG_MUST_CHECK enum fg_status fg_sampler_open(const struct fg_sampler_config *config, struct fg_sampler **out,
											 struct fg_error *err);

/* Start the thread, then wait until it has read every channel once, but at most `patience_ns`. So a sensor that blocks
 * delays its own source only. */
FG_MUST_CHECK enum fg_status fg_sampler_start(struct fg_sampler *sampler, int64_t patience_ns, struct fg_error *err);

/* Ask the thread for its last reading and join it. If settle_ns > 0, the thread then reads on for at most this time,
 * until every counter has moved once more; this tightens the bounds at the end. Idempotent. If one read lasts longer
 * than the source's patience, the thread is left behind: its readings count, its channels end (FG_LOST), and if the
 * read ever returns, the thread frees the memory that it holds. */
void fg_sampler_stop(struct fg_sampler *sampler, int64_t settle_ns);

/* Ask the thread to stop and return at once, so that several samplers stop at the same time; fg_sampler_stop joins. */
void fg_sampler_stop_soon(struct fg_sampler *sampler, int64_t settle_ns);

/* Stop the thread if it runs, close the source, free everything. */
void fg_sampler_close(struct fg_sampler *sampler);

/* Move up to `max` samples of a channel to `out`. Returns the number moved. */
size_t fg_sampler_drain(struct fg_sampler *sampler, size_t channel, struct fg_sample *out, size_t max);

/* The number of samples that drain can move now. */
size_t fg_sampler_waiting(const struct fg_sampler *sampler, size_t channel);

/* Totals and counts of a channel, now. */
void fg_sampler_live(const struct fg_sampler *sampler, size_t channel, struct fg_live *out);

/* True if a replay has played all its samples. Other sources never finish. */
bool fg_sampler_finished(const struct fg_sampler *sampler);

/* The final numbers of a channel. Only after stop. */
void fg_sampler_tally(const struct fg_sampler *sampler, size_t channel, struct fg_tally *out);

#endif
