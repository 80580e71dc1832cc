/* See fg_ring.h. Allocation and the consumer's side; the producer's push is inline there, because it is the hot path.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fg_ring.h"

#include <stdlib.h>
#include <string.h>

enum fg_status fg_ring_init(struct fg_ring *ring, size_t capacity, struct fg_error *err)
{
	size_t rounded = 2;

	if (capacity > SIZE_MAX / 2 / sizeof(struct fg_sample))
		return fg_error_set(err, FG_NO_MEMORY, 0, 0, "a ring of %zu samples does not fit in memory", capacity);
	while (rounded < capacity)
		rounded *= 2;
	struct fg_sample *samples = calloc(rounded, sizeof *samples);
	if (samples == NULL)
		return fg_error_set(err, FG_NO_MEMORY, 0, 0, "not enough memory for a ring of %zu samples", rounded);
	memset(ring, 0, sizeof *ring);
	ring->samples = samples;
	ring->mask = rounded - 1;
	atomic_init(&ring->head, 0);
	atomic_init(&ring->tail, 0);
	return FG_OK;
}

void fg_ring_destroy(struct fg_ring *ring)
{
	free(ring->samples);
	ring->samples = NULL;
}

bool fg_ring_is_valid(const struct fg_ring *ring)
{
	uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);
	uint64_t head = atomic_load_explicit(&ring->head, memory_order_acquire);

	/* tail was read first and can only have grown since, head likewise: head >= tail holds for any interleaving. */
	return ring->samples != NULL && (ring->mask & (ring->mask + 1)) == 0 && head >= tail;
}

size_t fg_ring_drain(struct fg_ring *ring, struct fg_sample *out, size_t max)
{
	uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed); /* our own */
	/* Acquire: pairs with the producer's release; every sample before head is completely written. */
	uint64_t head = atomic_load_explicit(&ring->head, memory_order_acquire);
	size_t count = head - tail < max ? (size_t)(head - tail) : max;
	size_t start = tail & ring->mask;
	size_t until_end = (size_t)ring->mask + 1 - start;
	size_t first = count < until_end ? count : until_end;

	memcpy(out, ring->samples + start, first * sizeof *out);
	memcpy(out + first, ring->samples, (count - first) * sizeof *out);
	/* Release: the producer may overwrite these slots only after the copies above. */
	atomic_store_explicit(&ring->tail, tail + count, memory_order_release);
	return count;
}

size_t fg_ring_count(const struct fg_ring *ring)
{
	uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);

	return (size_t)(atomic_load_explicit(&ring->head, memory_order_acquire) - tail);
}
