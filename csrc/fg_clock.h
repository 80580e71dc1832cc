/* Time: monotonic nanoseconds, and a sleep that another thread can end.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Every instant is an int64_t of nanoseconds of CLOCK_MONOTONIC, named *_at_ns; every duration is *_ns. A sampler takes
 * its clock as an argument, so that a test can drive a day in a second. */
#ifndef FG_CLOCK_H
#define FG_CLOCK_H

#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

#define FG_NS_PER_S INT64_C(1000000000)

/* A sleeping thread watches this word. 0: sleep on; another value: wake up. */
struct fg_wake {
	_Atomic uint32_t word;
};

struct fg_clock {
	int64_t (*now_ns)(void *context);
	/* Returns at the deadline or, if wake->word is or becomes non-zero, at once. May return early without a reason. */
	void (*sleep_until)(void *context, int64_t deadline_at_ns, struct fg_wake *wake);
	void *context;
};

/* CLOCK_MONOTONIC itself. */
extern const struct fg_clock fg_clock_monotonic;

/* Now, through the vDSO: about 20 ns, no system call, any thread. */
static inline int64_t fg_clock_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * FG_NS_PER_S + now.tv_nsec;
}

/* The most that the wall clock can be off by, as the kernel reports it (adjtimex(2), maxerror); -1 where nothing
 * disciplines it. */
int64_t fg_clock_error_ns(void);

/* The later of two instants; the middle of a read; half its duration, rounded up, at most UINT32_MAX (a sample's
 * half_ns). */
static inline int64_t fg_clock_later_ns(int64_t a_ns, int64_t b_ns)
{
	return a_ns > b_ns ? a_ns : b_ns;
}

static inline int64_t fg_clock_middle_ns(int64_t begin_ns, int64_t end_ns)
{
	return begin_ns + (end_ns - begin_ns) / 2;
}

static inline uint32_t fg_clock_half_ns(int64_t begin_ns, int64_t end_ns)
{
	int64_t half_ns = (end_ns - begin_ns + 1) / 2;

	return half_ns > UINT32_MAX ? UINT32_MAX : (uint32_t)half_ns;
}

/* Set the word and wake every sleeper that watches it. Any thread. */
void fg_clock_wake(struct fg_wake *wake);

/* Remove the timer slack of this thread. The kernel's default of 50 us doubles the delay of a sampler (measured: median
 * 77 us with the slack, 28 us without). */
void fg_clock_sharpen_this_thread(void);

#endif
