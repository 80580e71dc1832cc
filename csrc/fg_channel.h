/* A channel: the account of one sensor, and the ring that passes its samples on.
 * SPDX-License-Identifier: Apache-2.0
 *
 * One thread calls add, fail and end. Meanwhile any thread may call fg_channel_live. All other functions and members
 * belong to that thread until another thread has joined it. */
#ifndef FG_CHANNEL_H
#define FG_CHANNEL_H

#include "fg_account.h"
#include "fg_ring.h"

/* Numbers that any thread may read while the sampling thread runs. The counts only grow. */
struct fg_live {
	int64_t total;         /* energy: counter units since the first sample */
	double power_integral; /* power: raw * ns since the first sample */
	int64_t last_at_ns;    /* 0 before the first sample */
	uint64_t samples, missed, lost, read_errors;
	bool ended; /* the channel is read no longer; the tally says why */
};

/* The final numbers of a channel, after stop. */
struct fg_tally {
	struct fg_account account;
	struct fg_live live; /* at the very end, including readings while settling */
	int64_t end_at_ns;   /* the last reading before settling */
	int64_t end_total;   /* account.total and .power_integral at end_at_ns */
	double end_power_integral;
	struct fg_error why_ended;  /* status FG_OK: the channel was read to the end */
	struct fg_error last_error; /* of the last failed read; FG_OK: every read succeeded */
};

struct fg_channel {
	struct fg_ring ring;
	struct fg_account account;
	struct fg_error why_ended, last_error;
	int64_t end_at_ns, end_total;
	double end_power_integral;
	unsigned unsupported_in_row;
	bool dead;               /* it has ended and is read no longer */
	bool read_failed;        /* after the last sample: the next one has a gap before it */
	uint16_t unpushed_wraps; /* of samples that found the ring full */
	uint16_t unpushed_flags;
	/* For fg_channel_live. Relaxed: each number is independent and publishes nothing else. */
	_Atomic int64_t total;
	_Atomic int64_t power_integral_bits;
	_Atomic int64_t last_at_ns;
	_Atomic uint64_t samples, lost, read_errors;
	_Atomic bool ended;
};

/* Initialize a zeroed channel. FG_NO_MEMORY: no memory for its ring. */
FG_MUST_CHECK enum fg_status fg_channel_init(struct fg_channel *channel, const struct fg_traits *traits,
											 size_t ring_capacity, struct fg_error *err);

/* Free the ring. A zeroed channel may be destroyed. */
void fg_channel_destroy(struct fg_channel *channel);

/* Add a reading to the account, then to the ring. If the ring is full, count the sample as lost. */
void fg_channel_add(struct fg_channel *channel, struct fg_sample *sample);

/* Count a failed read. Three FG_NOT_SUPPORTED in a row, or one FG_LOST, end the channel. */
void fg_channel_fail(struct fg_channel *channel, enum fg_status status, const struct fg_error *err);

/* End the channel, and keep the reason. */
void fg_channel_end(struct fg_channel *channel, const struct fg_error *why);

/* Mark the last reading as the end of the measurement; later readings belong to settling. */
void fg_channel_mark_end(struct fg_channel *channel);

/* True if settling is complete: the counter has moved after the mark, or never will. */
bool fg_channel_has_moved(const struct fg_channel *channel);

/* Fill all members except `missed`, which the sampler counts. Any thread. */
void fg_channel_live(const struct fg_channel *channel, struct fg_live *out);

/* Fill all members except live.missed. Only the owner of the channel may call it. */
void fg_channel_tally(const struct fg_channel *channel, struct fg_tally *out);

/* Add to a count that other threads read. Only the sampling thread writes it, so a load and a store are enough, and
 * cheaper than a locked add. */
static inline void fg_channel_count(_Atomic uint64_t *count, uint64_t by)
{
	atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + by, memory_order_relaxed);
}

#endif
