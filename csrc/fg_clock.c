/* See fg_clock.h. The trick: one futex wait with an absolute monotonic timeout is both the sleep and the wake-up, so a
 * sampler costs one system call per tick and still stops at once.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fg_clock.h"

#include <limits.h>
#include <linux/futex.h>
#include <sys/prctl.h>
#include <sys/timex.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A sleep and its wake-up take more CPU time than this (measured on a virtual machine: 20 us), so it saves none. */
#define SPIN_NS INT64_C(10000)

static int64_t monotonic_now_ns(void *context)
{
	(void)context;
	return fg_clock_now_ns();
}

static void monotonic_sleep_until(void *context, int64_t deadline_at_ns, struct fg_wake *wake)
{
	struct timespec deadline = {deadline_at_ns / FG_NS_PER_S, deadline_at_ns % FG_NS_PER_S};
	int64_t left_ns = deadline_at_ns - fg_clock_now_ns();

	(void)context;
	if (left_ns < SPIN_NS) {
		while (fg_clock_now_ns() < deadline_at_ns && atomic_load_explicit(&wake->word, memory_order_relaxed) == 0)
			;
		return;
	}
	/* FUTEX_WAIT_BITSET takes an absolute CLOCK_MONOTONIC time, plain FUTEX_WAIT a relative one. The kernel compares
	 * the word with 0 under its own lock, so a wake between our last look and the wait is not missed. */
	syscall(SYS_futex, (void *)&wake->word, FUTEX_WAIT_BITSET_PRIVATE, 0, &deadline, NULL, FUTEX_BITSET_MATCH_ANY);
}

const struct fg_clock fg_clock_monotonic = {monotonic_now_ns, monotonic_sleep_until, NULL};

void fg_clock_wake(struct fg_wake *wake)
{
	/* Release: what the waker wrote before is seen by the sleeper that loads the word with acquire. */
	atomic_store_explicit(&wake->word, 1, memory_order_release);
	syscall(SYS_futex, (void *)&wake->word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

void fg_clock_sharpen_this_thread(void)
{
	prctl(PR_SET_TIMERSLACK, 1UL, 0, 0, 0);
}

int64_t fg_clock_error_ns(void)
{
	struct timex answer = {0};

	return adjtimex(&answer) == TIME_ERROR || answer.maxerror < 0 ? -1 : (int64_t)answer.maxerror * 1000;
}
