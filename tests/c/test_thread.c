/* SPDX-License-Identifier: Apache-2.0 */
#include "fg_thread.h"

#include "fg_alloc.h"
#include "fg_clock.h"
#include "fg_test.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>

/* Work that waits until it is let go. */
struct errand {
	_Atomic bool let_go, discarded;
	bool signals_blocked;
	pthread_t thread;
};

static void work(void *context)
{
	struct errand *errand = context;
	sigset_t mask;

	errand->thread = pthread_self();
	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	errand->signals_blocked = sigismember(&mask, SIGTERM) == 1;
	while (!errand->let_go)
		sched_yield();
}

static void discard(void *context)
{
	((struct errand *)context)->discarded = true;
}

FG_TEST(a_call_that_returns_was_made_on_another_thread_without_signals)
{
	struct errand errand = {.let_go = true};

	for (int i = 0; i < 200; i++)
		fg_require(fg_thread_call(work, discard, &errand, 60 * FG_NS_PER_S));
	fg_check(!pthread_equal(errand.thread, pthread_self()));
	fg_check(errand.signals_blocked);
	fg_check(!errand.discarded);
}

FG_TEST(a_call_that_does_not_return_is_left_and_gives_back_what_it_has_when_it_does)
{
	struct errand errand = {.let_go = false};
	int64_t begin_ns = fg_clock_now_ns();

	fg_require(!fg_thread_call(work, discard, &errand, FG_NS_PER_S / 50));
	fg_check(fg_clock_now_ns() - begin_ns >= FG_NS_PER_S / 50);
	fg_check(!errand.discarded);
	errand.let_go = true;
	while (!errand.discarded)
		sched_yield();
}

FG_TEST(whoever_is_late_gives_back_and_only_he)
{
	for (int i = 0; i < 2000; i++) {
		struct errand errand = {.let_go = true};

		if (!fg_thread_call(work, discard, &errand, i % 100 * 1000)) {
			while (!errand.discarded)
				sched_yield();
		} else {
			fg_check(!errand.discarded);
		}
	}
}

FG_TEST(without_memory_the_call_is_made_here)
{
	struct errand errand = {.let_go = true};

	fg_alloc_fails_at(0);
	bool returned = fg_thread_call(work, discard, &errand, FG_NS_PER_S);
	fg_alloc_fails_at(-1);
	fg_check(returned);
	fg_check(pthread_equal(errand.thread, pthread_self()));
}

enum { TURNS = 2000 };

static struct fg_turn turn;
static int64_t in_turn; /* no atomic: ThreadSanitizer sees whether the turn protects it */

static void *take_turns(void *argument)
{
	(void)argument;
	for (int i = 0; i < TURNS; i++) {
		fg_check(fg_turn_take(&turn, 60 * FG_NS_PER_S));
		in_turn++;
		fg_turn_give(&turn);
	}
	return NULL;
}

FG_TEST(turns_are_never_side_by_side)
{
	pthread_t threads[4];

	for (size_t i = 0; i < 4; i++)
		fg_require(fg_thread_start(&threads[i], "turns", take_turns, NULL) == 0);
	for (size_t i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	fg_check_int(in_turn, 4 * TURNS);
}

FG_TEST(a_turn_that_is_not_given_back_is_waited_for_no_longer_than_the_patience)
{
	fg_require(fg_turn_take(&turn, 0));
	int64_t begin_ns = fg_clock_now_ns();

	fg_check(!fg_turn_take(&turn, 0));
	fg_check(!fg_turn_take(&turn, FG_NS_PER_S / 50));
	fg_check(fg_clock_now_ns() - begin_ns >= FG_NS_PER_S / 50);
	fg_turn_give(&turn);
	fg_check(fg_turn_take(&turn, 0));
	fg_turn_give(&turn);
}

int main(void)
{
	fg_run(a_call_that_returns_was_made_on_another_thread_without_signals);
	fg_run(a_call_that_does_not_return_is_left_and_gives_back_what_it_has_when_it_does);
	fg_run(whoever_is_late_gives_back_and_only_he);
	fg_run(without_memory_the_call_is_made_here);
	fg_run(turns_are_never_side_by_side);
	fg_run(a_turn_that_is_not_given_back_is_waited_for_no_longer_than_the_patience);
	return fg_report();
}
