/* See fg_channel.h.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fg_channel.h"

#include <string.h>

enum { UNSUPPORTED_LIMIT = 3 }; /* NVML can say NOT_SUPPORTED falsely, when polled fast; three in a row are believed */

enum fg_status fg_channel_init(struct fg_channel *channel, const struct fg_traits *traits, size_t ring_capacity,
							   struct fg_error *err)
{
	fg_account_init(&channel->account, traits);
	return fg_ring_init(&channel->ring, ring_capacity, err);
}

void fg_channel_destroy(struct fg_channel *channel)
{
	fg_ring_destroy(&channel->ring);
}

static void publish(struct fg_channel *channel)
{
	int64_t bits;

	memcpy(&bits, &channel->account.power_integral, sizeof bits);
	atomic_store_explicit(&channel->total, channel->account.total, memory_order_relaxed);
	atomic_store_explicit(&channel->power_integral_bits, bits, memory_order_relaxed);
	atomic_store_explicit(&channel->last_at_ns, channel->account.last_at_ns, memory_order_relaxed);
	atomic_store_explicit(&channel->samples, channel->account.samples, memory_order_relaxed);
}

void fg_channel_add(struct fg_channel *channel, struct fg_sample *sample)
{
	channel->unsupported_in_row = 0;
	if (channel->read_failed)
		sample->flags |= FG_SAMPLE_GAP;
	channel->read_failed = false;
	/* A source's own stamps may be old or repeated; a channel's time never goes back. */
	if (channel->account.samples > 0 && sample->at_ns < channel->account.last_at_ns)
		sample->at_ns = channel->account.last_at_ns;
	fg_account_add(&channel->account, sample);

	if (sample->wraps > UINT16_MAX - channel->unpushed_wraps)
		sample->flags |= FG_SAMPLE_RESET; /* more wraps than a sample can carry: the curve is torn, the total is not */
	else
		sample->wraps += channel->unpushed_wraps;
	sample->flags |= channel->unpushed_flags;
	if (fg_ring_push(&channel->ring, sample)) {
		channel->unpushed_wraps = 0;
		channel->unpushed_flags = 0;
	} else {
		/* The count of samples is broken here: the counter has restarted, and cannot return to an older line. */
		channel->unpushed_wraps = sample->wraps;
		channel->unpushed_flags = (sample->flags & (FG_SAMPLE_GAP | FG_SAMPLE_RESET)) | FG_SAMPLE_GAP;
		fg_account_forget(&channel->account);
		fg_channel_count(&channel->lost, 1);
	}
	publish(channel);
}

void fg_channel_fail(struct fg_channel *channel, enum fg_status status, const struct fg_error *err)
{
	channel->read_failed = true;
	fg_channel_count(&channel->read_errors, 1);
	channel->last_error = *err;
	channel->unsupported_in_row = status == FG_NOT_SUPPORTED ? channel->unsupported_in_row + 1 : 0;
	if (status == FG_LOST || channel->unsupported_in_row >= UNSUPPORTED_LIMIT)
		fg_channel_end(channel, err);
}

void fg_channel_end(struct fg_channel *channel, const struct fg_error *why)
{
	channel->dead = true;
	channel->why_ended = channel->last_error = *why;
	atomic_store_explicit(&channel->ended, true, memory_order_relaxed);
}

void fg_channel_mark_end(struct fg_channel *channel)
{
	channel->end_at_ns = channel->account.last_at_ns;
	channel->end_total = channel->account.total;
	channel->end_power_integral = channel->account.power_integral;
}

bool fg_channel_has_moved(const struct fg_channel *channel)
{
	return channel->dead || channel->account.traits.kind != FG_ENERGY || channel->account.total != channel->end_total;
}

void fg_channel_live(const struct fg_channel *channel, struct fg_live *out)
{
	int64_t bits = atomic_load_explicit(&channel->power_integral_bits, memory_order_relaxed);

	*out = (struct fg_live){
		.total = atomic_load_explicit(&channel->total, memory_order_relaxed),
		.last_at_ns = atomic_load_explicit(&channel->last_at_ns, memory_order_relaxed),
		.samples = atomic_load_explicit(&channel->samples, memory_order_relaxed),
		.lost = atomic_load_explicit(&channel->lost, memory_order_relaxed),
		.read_errors = atomic_load_explicit(&channel->read_errors, memory_order_relaxed),
		.ended = atomic_load_explicit(&channel->ended, memory_order_relaxed),
	};
	memcpy(&out->power_integral, &bits, sizeof bits);
}

void fg_channel_tally(const struct fg_channel *channel, struct fg_tally *out)
{
	out->account = channel->account;
	fg_channel_live(channel, &out->live);
	out->end_at_ns = channel->end_at_ns;
	/* The first reading came while settling: the channel has measured nothing, over no time. */
	if (out->end_at_ns < channel->account.first_at_ns)
		out->end_at_ns = channel->account.first_at_ns;
	out->end_total = channel->end_total;
	out->end_power_integral = channel->end_power_integral;
	out->why_ended = channel->why_ended;
	out->last_error = channel->last_error;
}
