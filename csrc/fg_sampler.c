/* See fg_sampler.h. The loop is sleep, read, account, push; it never allocates, locks, prints or takes the GIL. While
 * it runs, other threads see only relaxed atomics, each independent; join hands over the rest.
 *
 * The one trick: a read may never return (a hung driver), and no thread must wait for it. So the sampling thread lends
 * its channels while it reads (CALLING). A controlling thread that stops it may then take them (LEFT). If the read does
 * return, the sampling thread finds that they are taken, and ends.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fg_sampler.h"

#include "fg_channel.h"
#include "fg_thread.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The owner of the channels, the source and the memory. */
enum hold {
	OWNED,   /* the sampling thread while it runs, else the controlling thread */
	CALLING, /* on loan: the sampling thread is in a read */
	LEFT,    /* the controlling thread: the read did not return, and the sampling thread must not touch them again */
	CLOSED,  /* the sampling thread, to free all of it if the read ever returns */
	ENDED,   /* the controlling thread: the read did return, and the sampling thread has ended */
};

struct fg_sampler {
	const struct fg_source_ops *ops;
	struct fg_source *source;
	const struct fg_clock *clock;
	int64_t period_ns;
	uint64_t dither;   /* the state of a generator (xorshift64, Marsaglia 2003); 0: every tick is a period long */
	int64_t settle_ns; /* written before the wake, read after it */
	bool ended;        /* the last reading was taken; what follows is settling */
	pthread_t thread;
	bool running;
	struct fg_wake stop, ready, done;
	_Atomic int hold;
	_Atomic uint64_t calls; /* relaxed: only whether it moves matters */
	size_t calling;         /* the channel of the read that runs */
	_Atomic uint64_t missed;
	_Atomic bool finished;
	size_t count;
	struct fg_channel channels[];
};

static int64_t now_ns(const struct fg_sampler *sampler)
{
	return sampler->clock->now_ns(sampler->clock->context);
}

static bool is_set(const struct fg_wake *wake)
{
	/* Acquire: pairs with fg_clock_wake; what was written before it is seen. */
	return atomic_load_explicit(&wake->word, memory_order_acquire) != 0;
}

static void lend(struct fg_sampler *sampler, size_t channel)
{
	sampler->calling = channel;
	fg_channel_count(&sampler->calls, 1);
	/* Release: a thread that takes the channels sees all writes to them. */
	atomic_store_explicit(&sampler->hold, CALLING, memory_order_release);
}

/* False: the controlling thread has taken the channels; the caller must not touch the sampler again. */
static bool take_back(struct fg_sampler *sampler)
{
	int calling = CALLING;

	return atomic_compare_exchange_strong_explicit(&sampler->hold, &calling, OWNED, memory_order_acq_rel,
												   memory_order_relaxed);
}

/* Read every channel that has not ended once, or, from a source with its own timetable, until it has no more values.
 * The caller passes the present as begin_ns and gets the end of the last read as *at_ns. False: see take_back. */
static bool read_all(struct fg_sampler *sampler, int64_t begin_ns, int64_t *at_ns)
{
	for (size_t i = 0; i < sampler->count; i++) {
		struct fg_channel *channel = &sampler->channels[i];
		enum fg_status status = FG_OK;

		while (!channel->dead && status == FG_OK) {
			struct fg_reading reading = {0};
			struct fg_error err;

			if (sampler->ops->due_at_ns != NULL && !fg_ring_has_room(&channel->ring))
				break; /* a replay waits for its reader; a sensor cannot */
			lend(sampler, i);
			status = sampler->ops->read(sampler->source, i, &reading, &err);
			if (!take_back(sampler))
				return false;
			int64_t end_ns = now_ns(sampler);

			if (status == FG_OK) {
				struct fg_sample sample = {
					.at_ns = reading.at_ns != 0 ? reading.at_ns : fg_clock_middle_ns(begin_ns, end_ns),
					.raw = reading.raw,
					.half_ns = reading.at_ns != 0 ? reading.half_ns : fg_clock_half_ns(begin_ns, end_ns),
					.wraps = reading.wraps,
					.flags = reading.flags,
				};
				fg_channel_add(channel, &sample);
			} else if (status != FG_NOT_READY) {
				fg_channel_fail(channel, status, &err);
			}
			begin_ns = end_ns;
			if (sampler->ops->due_at_ns == NULL)
				break;
		}
	}
	*at_ns = begin_ns;
	return true;
}

static bool all_moved(const struct fg_sampler *sampler)
{
	if (fg_sampler_finished(sampler))
		return true; /* a replay that has ended moves no more */
	for (size_t i = 0; i < sampler->count; i++)
		if (!fg_channel_has_moved(&sampler->channels[i]))
			return false;
	return true;
}

/* Mark the last reading of every channel as the end of the measurement. */
static void mark_end(struct fg_sampler *sampler)
{
	for (size_t i = 0; i < sampler->count; i++)
		fg_channel_mark_end(&sampler->channels[i]);
	sampler->ended = true;
}

/* Take the last reading, then settle. */
static void finish(struct fg_sampler *sampler, int64_t deadline_ns)
{
	struct fg_wake never = {0};
	int64_t at_ns, begin_ns = now_ns(sampler);

	/* The last reading counts for one of the deadlines that have passed. */
	if (sampler->ops->due_at_ns == NULL && begin_ns - deadline_ns >= sampler->period_ns)
		fg_channel_count(&sampler->missed, (uint64_t)((begin_ns - deadline_ns) / sampler->period_ns));
	if (!read_all(sampler, begin_ns, &at_ns))
		return;
	int64_t until_ns = at_ns + sampler->settle_ns;
	int64_t step_ns = sampler->settle_ns / 50 + 20000;
	mark_end(sampler);
	while (at_ns < until_ns && !all_moved(sampler)) {
		sampler->clock->sleep_until(sampler->clock->context, at_ns + step_ns, &never);
		if (!read_all(sampler, now_ns(sampler), &at_ns))
			return;
	}
}

/* The time from one deadline to the next. */
static int64_t next_tick_ns(struct fg_sampler *sampler)
{
	uint64_t x = sampler->dither;

	if (x == 0)
		return sampler->period_ns;
	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	sampler->dither = x;
	return sampler->period_ns / 2 + (int64_t)((double)(x >> 11) * 0x1p-53 * (double)sampler->period_ns);
}

static int64_t next_deadline(struct fg_sampler *sampler, int64_t deadline_ns, int64_t at_ns)
{
	if (sampler->ops->due_at_ns != NULL) {
		int64_t due_ns = sampler->ops->due_at_ns(sampler->source);
		int64_t poll_ns = at_ns + FG_NS_PER_S / 1000; /* as fast as it can: look again when the reader had time */

		if (due_ns == INT64_MAX) {
			atomic_store_explicit(&sampler->finished, true, memory_order_relaxed);
			return at_ns + FG_NS_PER_S;
		}
		return due_ns > poll_ns ? due_ns : poll_ns;
	}
	deadline_ns += next_tick_ns(sampler);
	if (deadline_ns <= at_ns) {
		/* Overrun: continue at the next deadline in the future, never with a burst to catch up. Whole periods first:
		 * a machine may have slept for hours. */
		int64_t periods = (at_ns - deadline_ns) / sampler->period_ns, skipped = periods;

		deadline_ns += periods * sampler->period_ns;
		for (; deadline_ns <= at_ns; skipped++)
			deadline_ns += next_tick_ns(sampler);
		fg_channel_count(&sampler->missed, (uint64_t)skipped);
	}
	return deadline_ns;
}

static void watch(struct fg_sampler *sampler)
{
	int64_t at_ns, deadline_ns = now_ns(sampler);

	if (!read_all(sampler, deadline_ns, &at_ns))
		return;
	fg_clock_wake(&sampler->ready);
	deadline_ns = next_deadline(sampler, deadline_ns, at_ns);
	while (!is_set(&sampler->stop)) {
		sampler->clock->sleep_until(sampler->clock->context, deadline_ns, &sampler->stop);
		if (is_set(&sampler->stop) || now_ns(sampler) < deadline_ns)
			continue;
		if (!read_all(sampler, now_ns(sampler), &at_ns))
			return;
		deadline_ns = next_deadline(sampler, deadline_ns, at_ns);
	}
	finish(sampler, deadline_ns);
}

static void destroy(struct fg_sampler *sampler)
{
	if (sampler->source != NULL)
		sampler->ops->close(sampler->source);
	for (size_t i = 0; i < sampler->count; i++)
		fg_channel_destroy(&sampler->channels[i]);
	free(sampler);
}

static void *run(void *argument)
{
	struct fg_sampler *sampler = argument;
	int left = LEFT;

	fg_clock_sharpen_this_thread();
	watch(sampler);
	if (atomic_load_explicit(&sampler->hold, memory_order_acquire) == OWNED)
		fg_clock_wake(&sampler->done); /* the last access: the waiting thread joins */
	else if (!atomic_compare_exchange_strong_explicit(&sampler->hold, &left, ENDED, memory_order_acq_rel,
													  memory_order_acquire))
		destroy(sampler);
	return NULL;
}

enum fg_status fg_sampler_open(const struct fg_sampler_config *config, struct fg_sampler **out, struct fg_error *err)
{
	enum fg_status status;
	size_t count = config->source.count;
	size_t size = sizeof(struct fg_sampler) + count * sizeof(struct fg_channel);

	if (count == 0 || config->period_ns <= 0)
		return fg_error_set(err, FG_INVALID, 0, 0, "count and period_ns must be above 0, not %zu and %" PRId64, count,
							config->period_ns);
	/* malloc does not promise the ring's cache-line alignment */
	struct fg_sampler *sampler = aligned_alloc(FG_CACHE_LINE,
											   (size + FG_CACHE_LINE - 1) / FG_CACHE_LINE * FG_CACHE_LINE);
	if (sampler == NULL)
		return fg_error_set(err, FG_NO_MEMORY, 0, 0, "not enough memory for a sampler of %zu channels", count);
	memset(sampler, 0, size);
	sampler->ops = config->ops;
	sampler->clock = config->source.clock;
	sampler->period_ns = config->period_ns;
	sampler->dither = config->dither ? 0x9e3779b97f4a7c15 : 0; /* any number but 0 */
	sampler->count = count;
	for (size_t i = 0; i < count; i++) {
		struct fg_traits traits = config->traits[i];

		if (config->ops->due_at_ns == NULL)
			traits.tick_ns = config->period_ns;
		status = fg_channel_init(&sampler->channels[i], &traits, config->ring_capacity, err);
		if (status != FG_OK)
			goto fail;
	}
	status = config->ops->open(&config->source, &sampler->source, err);
	if (status != FG_OK)
		goto fail;
	*out = sampler;
	return FG_OK;
fail:
	fg_sampler_close(sampler);
	return status;
}

enum fg_status fg_sampler_start(struct fg_sampler *sampler, int64_t patience_ns, struct fg_error *err)
{
	char name[16];

	if (sampler->running || is_set(&sampler->stop))
		return fg_error_set(err, FG_INVALID, 0, 0, "the %s sampler %s", sampler->ops->name,
							sampler->running ? "is already running" : "has already run once");
	snprintf(name, sizeof name, "fg-%s", sampler->ops->name);
	int code = fg_thread_start(&sampler->thread, name, run, sampler);
	if (code != 0)
		return fg_error_set(err, FG_SYSTEM, code, 0, "pthread_create: %s", strerror(code));
	sampler->running = true;

	int64_t until_ns = fg_clock_now_ns() + patience_ns;
	while (!is_set(&sampler->ready) && fg_clock_now_ns() < until_ns)
		fg_clock_monotonic.sleep_until(NULL, until_ns, &sampler->ready);
	return FG_OK;
}

void fg_sampler_stop_soon(struct fg_sampler *sampler, int64_t settle_ns)
{
	if (!sampler->running || is_set(&sampler->stop))
		return;
	sampler->settle_ns = settle_ns;
	fg_clock_wake(&sampler->stop);
}

/* Wait until the thread has ended. False: a single read has lasted for `patience_ns`. */
static bool wait_for_end(struct fg_sampler *sampler, int64_t patience_ns)
{
	uint64_t calls = atomic_load_explicit(&sampler->calls, memory_order_relaxed);
	int64_t since_ns = fg_clock_now_ns();

	while (!is_set(&sampler->done)) {
		int64_t at_ns = fg_clock_now_ns();
		uint64_t seen = atomic_load_explicit(&sampler->calls, memory_order_relaxed);

		if (seen != calls)
			since_ns = at_ns;
		else if (at_ns - since_ns >= patience_ns)
			return false;
		calls = seen;
		fg_clock_monotonic.sleep_until(NULL, at_ns + patience_ns / 10 + 20000, &sampler->done);
	}
	return true;
}

/* Take the channels from a thread that hangs in a read. False: it is not in a read. */
static bool leave(struct fg_sampler *sampler)
{
	int calling = CALLING;

	return atomic_compare_exchange_strong_explicit(&sampler->hold, &calling, LEFT, memory_order_acq_rel,
												   memory_order_relaxed);
}

/* Finish for a thread that was left behind: its readings count, and every channel ends with the reason. */
static void end_without_answer(struct fg_sampler *sampler, int64_t patience_ns)
{
	struct fg_error err;

	if (!sampler->ended)
		mark_end(sampler);
	fg_error_set(&err, FG_LOST, 0, 0, "%s does not answer: a read has taken longer than %" PRId64 " ms",
				 sampler->ops->name, patience_ns / 1000000);
	fg_channel_fail(&sampler->channels[sampler->calling], FG_LOST, &err);
	for (size_t i = 0; i < sampler->count; i++)
		if (!sampler->channels[i].dead)
			fg_channel_end(&sampler->channels[i], &err);
}

void fg_sampler_stop(struct fg_sampler *sampler, int64_t settle_ns)
{
	int64_t patience_ns = sampler->ops->patience_ns > 0 ? sampler->ops->patience_ns : FG_PATIENCE_NS;
	bool ended;

	if (!sampler->running)
		return;
	fg_sampler_stop_soon(sampler, settle_ns);
	do {
		ended = wait_for_end(sampler, patience_ns);
	} while (!ended && !leave(sampler));
	sampler->running = false;
	if (ended) {
		pthread_join(sampler->thread, NULL);
	} else {
		pthread_detach(sampler->thread);
		end_without_answer(sampler, patience_ns);
	}
}

void fg_sampler_close(struct fg_sampler *sampler)
{
	int left = LEFT;

	fg_sampler_stop(sampler, 0);
	/* A thread that is still in its read needs the source and the memory: it frees them if the read ever returns. */
	if (!atomic_compare_exchange_strong_explicit(&sampler->hold, &left, CLOSED, memory_order_acq_rel,
												 memory_order_acquire))
		destroy(sampler);
}

size_t fg_sampler_drain(struct fg_sampler *sampler, size_t channel, struct fg_sample *out, size_t max)
{
	return fg_ring_drain(&sampler->channels[channel].ring, out, max);
}

size_t fg_sampler_waiting(const struct fg_sampler *sampler, size_t channel)
{
	return fg_ring_count(&sampler->channels[channel].ring);
}

void fg_sampler_live(const struct fg_sampler *sampler, size_t channel, struct fg_live *out)
{
	fg_channel_live(&sampler->channels[channel], out);
	out->missed = atomic_load_explicit(&sampler->missed, memory_order_relaxed);
}

bool fg_sampler_finished(const struct fg_sampler *sampler)
{
	return atomic_load_explicit(&sampler->finished, memory_order_relaxed);
}

void fg_sampler_tally(const struct fg_sampler *sampler, size_t channel, struct fg_tally *out)
{
	fg_channel_tally(&sampler->channels[channel], out);
	fg_sampler_live(sampler, channel, &out->live);
}
