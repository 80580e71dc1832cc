/* A sampler: one thread that reads the channels of one source at absolute deadlines.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Life: open -> start -> (drain, live)* -> stop -> (drain, report)* -> close. start, stop, report and close belong to
 * one controlling thread, drain to one draining thread (it may be the same); live may be called from any. After fork
 * the child has no sampling thread: it must call none of these. */
#ifndef FG_SAMPLER_H
#define FG_SAMPLER_H

#include "fg_channel.h"
#include "fg_source.h"

struct fg_sampler;

struct fg_sampler_config {
	const struct fg_source_ops *ops;
	struct fg_source_config source;
	const struct fg_traits *traits; /* one per sensor; tick_ns is period_ns but for a timetable of its own */
	int64_t period_ns;              /* between two ticks, > 0; unused by a source with a timetable of its own */
	size_t ring_capacity;           /* samples per channel */
};

/* Open the source and make the rings. No thread yet. */
FG_MUST_CHECK enum fg_status fg_sampler_open(const struct fg_sampler_config *config, struct fg_sampler **out,
											 struct fg_error *err);

/* Start the thread and wait until it has read every channel once, but not longer than `patience_ns`: a sensor that
 * blocks delays its own source only. */
FG_MUST_CHECK enum fg_status fg_sampler_start(struct fg_sampler *sampler, int64_t patience_ns, struct fg_error *err);

/* Ask the thread for its last reading and join it. With settle_ns > 0 it goes on reading for at most so long, until
 * every counter has moved once more, which tightens the bounds at the end. Idempotent. A thread that hangs in one read
 * for longer than the source's patience is left where it is: what it has read counts, its channels have ended
 * (FG_LOST), and it gives back what it holds should it ever return. */
void fg_sampler_stop(struct fg_sampler *sampler, int64_t settle_ns);

/* Tell the thread to stop and return at once, so that several samplers can stop side by side; fg_sampler_stop joins. */
void fg_sampler_stop_soon(struct fg_sampler *sampler, int64_t settle_ns);

/* Stops if need be, closes the source, frees everything. */
void fg_sampler_close(struct fg_sampler *sampler);

/* Move up to `max` samples of a channel to `out`. Returns how many. */
size_t fg_sampler_drain(struct fg_sampler *sampler, size_t channel, struct fg_sample *out, size_t max);
size_t fg_sampler_waiting(const struct fg_sampler *sampler, size_t channel);

void fg_sampler_live(const struct fg_sampler *sampler, size_t channel, struct fg_live *out);

/* True when a replay has played everything. Other sources never finish. */
bool fg_sampler_finished(const struct fg_sampler *sampler);

/* Only after stop. */
void fg_sampler_report(const struct fg_sampler *sampler, size_t channel, struct fg_report *out);

#endif
