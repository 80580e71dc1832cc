/* A lock-free ring of samples: one thread pushes, one thread drains.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Indices run freely in 64 bits and are masked on use, so full and empty cannot be confused and nothing overflows in
 * the life of a machine. Each end keeps its own index, and a cached copy of the other's, on a cache line of its own:
 * the producer touches the consumer's line only when the ring looks full. */
#ifndef FG_RING_H
#define FG_RING_H

#include "fg_error.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum fg_sample_flag {
	FG_SAMPLE_GAP = 1,   /* after the sample before, reads failed, points were lost, or nothing was read for long */
	FG_SAMPLE_RESET = 2, /* the counter restarted: the energy since the sample before is unknown */
	/* With FG_SAMPLE_RESET: after a jump the counter has returned to its line. The samples of the jump, which are the
	 * last flags >> FG_SAMPLE_BETWEEN ones, tell nothing, and `wraps` counts from the sample before them. Readers of
	 * older versions see a restart. */
	FG_SAMPLE_RETURN = 4,
};

enum { FG_SAMPLE_BETWEEN = 4 }; /* the bits of a sample's flags from here on are a number */

/* One reading of one channel. */
struct fg_sample {
	int64_t at_ns;    /* middle of the read, CLOCK_MONOTONIC */
	int64_t raw;      /* the sensor's value, in its own unit */
	uint32_t half_ns; /* half the duration of the read: the value is from an instant within at_ns -+ half_ns */
	uint16_t wraps;   /* how often the counter wrapped since the sample before it in the ring */
	uint16_t flags;   /* enum fg_sample_flag */
};

#define FG_CACHE_LINE 64

struct fg_ring {
	struct fg_sample *samples;                     /* owned; capacity of them */
	uint64_t mask;                                 /* capacity - 1, capacity a power of two */
	_Alignas(FG_CACHE_LINE) _Atomic uint64_t head; /* next to write; written by the producer only */
	uint64_t tail_seen;                            /* the producer's last look at tail */
	_Alignas(FG_CACHE_LINE) _Atomic uint64_t tail; /* next to read; written by the consumer only */
	_Alignas(FG_CACHE_LINE) char end[1];           /* keeps a neighbour off the consumer's line */
};

/* Make a ring of at least `capacity` samples (rounded up to a power of two, at least 2). FG_NO_MEMORY on failure. */
FG_MUST_CHECK enum fg_status fg_ring_init(struct fg_ring *ring, size_t capacity, struct fg_error *err);

/* Free the memory. Neither end may be in use. A zeroed ring may be destroyed. */
void fg_ring_destroy(struct fg_ring *ring);

/* True if pushes and drains can have produced the two indices. For tests and assertions. */
bool fg_ring_is_valid(const struct fg_ring *ring);

/* Producer: append one sample. False: the ring is full and unchanged. Never waits, never allocates. */
static inline bool fg_ring_push(struct fg_ring *ring, const struct fg_sample *sample)
{
	uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed); /* our own */

	if (head - ring->tail_seen > ring->mask) {
		/* Acquire: pairs with the consumer's release; the slots before tail have been copied out. */
		ring->tail_seen = atomic_load_explicit(&ring->tail, memory_order_acquire);
		if (head - ring->tail_seen > ring->mask)
			return false;
	}
	ring->samples[head & ring->mask] = *sample;
	/* Release: publishes the sample written above. */
	atomic_store_explicit(&ring->head, head + 1, memory_order_release);
	return true;
}

/* Consumer: move up to `max` samples, oldest first, to `out` (caller's memory). Returns their number. Never waits. */
size_t fg_ring_drain(struct fg_ring *ring, struct fg_sample *out, size_t max);

/* Consumer: the number of samples in the ring. */
size_t fg_ring_count(const struct fg_ring *ring);

/* Producer: true if the next push finds room. */
static inline bool fg_ring_has_room(const struct fg_ring *ring)
{
	return fg_ring_count(ring) <= ring->mask;
}

#endif
