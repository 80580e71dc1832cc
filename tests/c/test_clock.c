/* SPDX-License-Identifier: Apache-2.0 */
#include "fg_clock.h"
#include "fg_test.h"

#include <pthread.h>
#include <stdlib.h>

FG_TEST(time_never_goes_back)
{
	int64_t before_ns = fg_clock_now_ns();

	for (int i = 0; i < 100000; i++) {
		int64_t now_ns = fg_clock_now_ns();
		fg_require(now_ns >= before_ns);
		before_ns = now_ns;
	}
	fg_check(fg_clock_monotonic.now_ns(NULL) >= before_ns);
}

FG_TEST(a_sleep_ends_at_its_deadline_and_not_before)
{
	struct fg_wake wake = {0};
	int64_t deadline_ns = fg_clock_now_ns() + 3000000;

	fg_clock_sharpen_this_thread();
	while (fg_clock_now_ns() < deadline_ns)
		fg_clock_monotonic.sleep_until(NULL, deadline_ns, &wake);
	/* a busy machine may be late, but not by seconds */
	fg_check(fg_clock_now_ns() - deadline_ns < 5 * FG_NS_PER_S);
}

FG_TEST(a_deadline_that_has_passed_does_not_sleep)
{
	struct fg_wake wake = {0};
	int64_t before_ns = fg_clock_now_ns();

	for (int i = 0; i < 100; i++)
		fg_clock_monotonic.sleep_until(NULL, before_ns - FG_NS_PER_S, &wake);
	fg_check(fg_clock_now_ns() - before_ns < 5 * FG_NS_PER_S);
}

FG_TEST(a_set_word_ends_every_sleep_at_once)
{
	struct fg_wake wake = {0};
	int64_t before_ns = fg_clock_now_ns();

	fg_clock_wake(&wake);
	fg_clock_monotonic.sleep_until(NULL, before_ns + 60 * FG_NS_PER_S, &wake);
	fg_check(fg_clock_now_ns() - before_ns < 10 * FG_NS_PER_S);
}

static void *sleep_long(void *argument)
{
	struct fg_wake *wake = argument;

	while (atomic_load_explicit(&wake->word, memory_order_acquire) == 0)
		fg_clock_monotonic.sleep_until(NULL, fg_clock_now_ns() + 60 * FG_NS_PER_S, wake);
	return NULL;
}

FG_TEST(one_wake_ends_the_sleep_of_every_thread)
{
	struct fg_wake wake = {0}, pause = {0};
	pthread_t threads[4];
	int64_t before_ns = fg_clock_now_ns();

	for (int i = 0; i < 4; i++)
		fg_require(pthread_create(&threads[i], NULL, sleep_long, &wake) == 0);
	fg_clock_monotonic.sleep_until(NULL, before_ns + 5000000, &pause);
	fg_clock_wake(&wake);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	fg_check(fg_clock_now_ns() - before_ns < 30 * FG_NS_PER_S);
}

int main(void)
{
	fg_run(time_never_goes_back);
	fg_run(a_sleep_ends_at_its_deadline_and_not_before);
	fg_run(a_deadline_that_has_passed_does_not_sleep);
	fg_run(a_set_word_ends_every_sleep_at_once);
	fg_run(one_wake_ends_the_sleep_of_every_thread);
	return fg_report();
}
