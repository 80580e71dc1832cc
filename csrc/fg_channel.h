/* A channel: what the readings of one sensor have come to, and the ring its samples leave by.
 * SPDX-License-Identifier: Apache-2.0
 *
 * One thread adds, fails and ends; fg_channel_live may be asked by any meanwhile. Everything else of a channel is handed
 * over with the thread: who has joined it owns it. */
#ifndef FG_CHANNEL_H
#define FG_CHANNEL_H

#include "fg_account.h"
#include "fg_ring.h"

/* What may be asked while the thread runs. The counts only grow. */
struct fg_live {
	int64_t total;         /* energy: counter units since the first sample */
	double power_integral; /* power: raw * ns since the first sample */
	int64_t last_at_ns;    /* 0 before the first sample */
	uint64_t samples, missed, lost, read_errors;
	bool ended; /* the channel gave up; why is in the report */
};

/* What is known of a channel after stop. */
struct fg_report {
	struct fg_account account;
	struct fg_live live;        /* at the very end, settling included */
	int64_t end_at_ns;          /* the last reading asked for; what settling read lies behind it */
	int64_t end_total;          /* account.total and .power_integral at end_at_ns */
	double end_power_integral;
	struct fg_error why_ended;  /* status FG_OK when the channel lived to the end */
	struct fg_error last_error; /* of the last failed read, FG_OK where none failed */
};

struct fg_channel {
	struct fg_ring ring;
	struct fg_account account;
	struct fg_error why_ended, last_error;
	int64_t end_at_ns, end_total;
	double end_power_integral;
	unsigned unsupported_in_row;
	bool dead;               /* it gave up and is read no more */
	bool read_failed;        /* since the last sample: the next one has a gap before it */
	uint16_t unpushed_wraps; /* of samples that found the ring full */
	uint16_t unpushed_flags;
	/* For fg_channel_live. Relaxed: each is a number of its own, nothing is published through it. */
	_Atomic int64_t total;
	_Atomic int64_t power_integral_bits;
	_Atomic int64_t last_at_ns;
	_Atomic uint64_t samples, lost, read_errors;
	_Atomic bool ended;
};

/* A zeroed channel becomes one without samples. FG_NO_MEMORY where its ring finds no room. */
FG_MUST_CHECK enum fg_status fg_channel_init(struct fg_channel *channel, const struct fg_traits *traits,
											 size_t ring_capacity, struct fg_error *err);

/* Give the ring back. A zeroed channel may be destroyed. */
void fg_channel_destroy(struct fg_channel *channel);

/* A reading came: into the account, then into the ring; what the ring cannot take is counted as lost. */
void fg_channel_add(struct fg_channel *channel, struct fg_sample *sample);

/* A read failed. It ends the channel when its device is lost, or when it says three times in a row that it cannot. */
void fg_channel_fail(struct fg_channel *channel, enum fg_status status, const struct fg_error *err);

/* It gives up, and says why. */
void fg_channel_end(struct fg_channel *channel, const struct fg_error *why);

/* What was read up to now is what was asked for; what follows is settling. */
void fg_channel_mark_end(struct fg_channel *channel);

/* Whether settling has nothing more to wait for: its counter moved since the mark, or never will. */
bool fg_channel_has_moved(const struct fg_channel *channel);

/* All but `missed`, which is its sampler's and stays 0. */
void fg_channel_live(const struct fg_channel *channel, struct fg_live *out);

/* By the channel's owner. All but live.missed. */
void fg_channel_report(const struct fg_channel *channel, struct fg_report *out);

/* Add to a count that other threads read. Only the sampling thread writes it: a load and a store are enough, and
 * cheaper than a locked add. */
static inline void fg_channel_count(_Atomic uint64_t *count, uint64_t by)
{
	atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + by, memory_order_relaxed);
}

#endif
