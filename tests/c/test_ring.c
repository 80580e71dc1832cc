/* SPDX-License-Identifier: Apache-2.0 */
#include "fg_alloc.h"
#include "fg_clock.h"
#include "fg_ring.h"
#include "fg_test.h"

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>

static struct fg_sample numbered(int64_t number)
{
	return (struct fg_sample){number, ~number, (uint32_t)number, (uint16_t)number, (uint16_t)(number >> 16)};
}

static int is_numbered(const struct fg_sample *sample, int64_t number)
{
	struct fg_sample wanted = numbered(number);

	return memcmp(sample, &wanted, sizeof wanted) == 0;
}

FG_TEST(a_capacity_is_rounded_up_to_a_power_of_two_of_at_least_two)
{
	static const size_t asked[] = {0, 1, 2, 3, 4, 5, 1000, 1024, 1025}, made[] = {2, 2, 2, 4, 4, 8, 1024, 1024, 2048};

	for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
		struct fg_ring ring;

		fg_require(fg_ring_init(&ring, asked[i], NULL) == FG_OK);
		fg_check(fg_ring_is_valid(&ring));
		fg_check_int((int64_t)ring.mask + 1, (int64_t)made[i]);
		fg_check_int((int64_t)fg_ring_count(&ring), 0);
		fg_ring_destroy(&ring);
	}
}

FG_TEST(an_impossible_capacity_or_no_memory_leaves_the_ring_alone)
{
	struct fg_ring ring = {.mask = 42};
	struct fg_error err = {0};

	fg_check(fg_ring_init(&ring, SIZE_MAX / 4, &err) == FG_NO_MEMORY);
	fg_check_int(err.status, FG_NO_MEMORY);
	fg_alloc_fails_at(0);
	fg_check(fg_ring_init(&ring, 8, &err) == FG_NO_MEMORY);
	fg_check_int(fg_alloc_live(), 0);
	fg_check_int((int64_t)ring.mask, 42);
	fg_check(ring.samples == NULL);
	fg_ring_destroy(&ring); /* nothing to free, and allowed */
}

FG_TEST(what_was_pushed_comes_out_in_order_at_every_fill_and_offset)
{
	struct fg_ring ring;
	struct fg_sample out[8];

	fg_require(fg_ring_init(&ring, 8, NULL) == FG_OK);
	int64_t pushed = 0, drained = 0;
	for (int offset = 0; offset < 9; offset++) {
		for (size_t fill = 0; fill <= 8; fill++) {
			for (size_t i = 0; i < fill; i++) {
				struct fg_sample sample = numbered(pushed++);
				fg_require(fg_ring_push(&ring, &sample));
			}
			fg_check(fg_ring_is_valid(&ring));
			fg_check_int((int64_t)fg_ring_count(&ring), (int64_t)fill);
			size_t part = fg_ring_drain(&ring, out, fill / 2);
			fg_check_int((int64_t)part, (int64_t)fill / 2);
			part += fg_ring_drain(&ring, out + part, 8);
			fg_check_int((int64_t)part, (int64_t)fill);
			for (size_t i = 0; i < fill; i++)
				fg_check(is_numbered(&out[i], drained++));
		}
	}
	fg_check_int((int64_t)fg_ring_drain(&ring, out, 8), 0);
	fg_ring_destroy(&ring);
}

FG_TEST(a_full_ring_refuses_and_changes_nothing)
{
	struct fg_ring ring;
	struct fg_sample out[4], extra = numbered(99);

	fg_require(fg_ring_init(&ring, 4, NULL) == FG_OK);
	for (int64_t i = 0; i < 4; i++) {
		struct fg_sample sample = numbered(i);
		fg_check(fg_ring_push(&ring, &sample));
	}
	fg_check(!fg_ring_push(&ring, &extra));
	fg_check(!fg_ring_push(&ring, &extra));
	fg_check(fg_ring_is_valid(&ring));
	fg_check_int((int64_t)fg_ring_drain(&ring, out, 1), 1);
	fg_check(fg_ring_push(&ring, &extra));
	fg_check(is_numbered(&out[0], 0));
	fg_check_int((int64_t)fg_ring_drain(&ring, out, 4), 4);
	fg_check(is_numbered(&out[0], 1) && is_numbered(&out[2], 3) && is_numbered(&out[3], 99));
	fg_ring_destroy(&ring);
}

FG_TEST(indices_survive_their_own_overflow)
{
	struct fg_ring ring;
	struct fg_sample out[4];

	fg_require(fg_ring_init(&ring, 4, NULL) == FG_OK);
	ring.head = ring.tail = ring.tail_seen = UINT64_MAX - 1;
	for (int64_t i = 0; i < 4; i++) {
		struct fg_sample sample = numbered(i);
		fg_check(fg_ring_push(&ring, &sample));
	}
	fg_check(!fg_ring_push(&ring, &out[0]));
	fg_check_int((int64_t)fg_ring_count(&ring), 4);
	fg_check_int((int64_t)fg_ring_drain(&ring, out, 9), 4);
	for (int64_t i = 0; i < 4; i++)
		fg_check(is_numbered(&out[i], i));
	fg_ring_destroy(&ring);
}

/* Whichever comes first: where both ends share a busy core, each sample waits for its turn. */
enum { TORTURE = 400000, TORTURE_S = 10 };

struct torture {
	struct fg_ring ring;
	int64_t pushed;
	_Atomic bool over; /* orders `pushed` */
};

static void *produce(void *argument)
{
	struct torture *torture = argument;
	int64_t until_ns = fg_clock_now_ns() + TORTURE_S * FG_NS_PER_S, i = 0;

	for (; i < TORTURE; i++) {
		struct fg_sample sample = numbered(i);

		while (!fg_ring_push(&torture->ring, &sample))
			sched_yield();
		if (i % 16 == 0 && fg_clock_now_ns() > until_ns)
			break;
	}
	torture->pushed = i < TORTURE ? i + 1 : i; /* not before: it must not order what the ring leaves unordered */
	torture->over = true;
	return NULL;
}

static void torture_with(size_t capacity, size_t max)
{
	struct torture *torture = aligned_alloc(FG_CACHE_LINE, sizeof *torture);
	struct fg_sample out[64];
	pthread_t thread;
	int64_t next = 0;
	int whole = 1;

	torture->pushed = 0;
	torture->over = false;
	fg_require(fg_ring_init(&torture->ring, capacity, NULL) == FG_OK);
	fg_require(pthread_create(&thread, NULL, produce, torture) == 0);
	while (!torture->over || next < torture->pushed) {
		size_t got = fg_ring_drain(&torture->ring, out, max);
		whole &= fg_ring_is_valid(&torture->ring);
		for (size_t i = 0; i < got; i++)
			whole &= is_numbered(&out[i], next++);
		if (got == 0)
			sched_yield();
	}
	pthread_join(thread, NULL);
	fg_check(whole); /* no sample torn, lost, doubled or out of order */
	fg_check(next > 100);
	fg_check_int((int64_t)fg_ring_count(&torture->ring), 0);
	fg_ring_destroy(&torture->ring);
	free(torture);
}

FG_TEST(two_threads_lose_double_and_tear_nothing)
{
	torture_with(2, 1);
	torture_with(4, 64);
	torture_with(1024, 64);
}

int main(void)
{
	fg_run(a_capacity_is_rounded_up_to_a_power_of_two_of_at_least_two);
	fg_run(an_impossible_capacity_or_no_memory_leaves_the_ring_alone);
	fg_run(what_was_pushed_comes_out_in_order_at_every_fill_and_offset);
	fg_run(a_full_ring_refuses_and_changes_nothing);
	fg_run(indices_survive_their_own_overflow);
	fg_run(two_threads_lose_double_and_tear_nothing);
	return fg_report();
}
