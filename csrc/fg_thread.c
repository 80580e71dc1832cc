/* See fg_thread.h. The one trick: the side that finishes last frees the memory. One compare-and-swap between caller and
 * thread decides which side that is, so a thread that hangs never holds a lock.
 * SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* pthread_setname_np */
#include "fg_thread.h"

#include "fg_clock.h"

#include <signal.h>
#include <stdlib.h>

enum { WAITED_FOR, RETURNED, LEFT };

struct errand {
	void (*work)(void *);
	void (*discard)(void *);
	void *context;
	_Atomic int state;
	struct fg_wake done;
};

int fg_thread_start(pthread_t *out, const char *name, void *(*run)(void *), void *argument)
{
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before); /* the thread inherits the mask */
	int code = pthread_create(out, NULL, run, argument);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (code == 0)
		pthread_setname_np(*out, name);
	return code;
}

static void *run_errand(void *argument)
{
	struct errand *errand = argument;
	int waited_for = WAITED_FOR;

	errand->work(errand->context);
	/* Release: the caller that sees RETURNED sees what work has done. */
	if (atomic_compare_exchange_strong_explicit(&errand->state, &waited_for, RETURNED, memory_order_acq_rel,
												memory_order_acquire)) {
		fg_clock_wake(&errand->done); /* the caller joins before it frees */
		return NULL;
	}
	if (errand->discard != NULL)
		errand->discard(errand->context);
	free(errand);
	return NULL;
}

bool fg_thread_call(void (*work)(void *), void (*discard)(void *), void *context, int64_t patience_ns)
{
	struct errand *errand = malloc(sizeof *errand);
	pthread_t thread;
	int waited_for = WAITED_FOR;

	if (errand != NULL)
		*errand = (struct errand){work, discard, context, WAITED_FOR, {0}};
	if (errand == NULL || fg_thread_start(&thread, "fg-call", run_errand, errand) != 0) {
		free(errand);
		work(context);
		return true;
	}
	int64_t until_ns = fg_clock_now_ns() + patience_ns;
	while (atomic_load_explicit(&errand->done.word, memory_order_acquire) == 0 && fg_clock_now_ns() < until_ns)
		fg_clock_monotonic.sleep_until(NULL, until_ns, &errand->done);
	if (atomic_compare_exchange_strong_explicit(&errand->state, &waited_for, LEFT, memory_order_acq_rel,
												memory_order_acquire)) {
		pthread_detach(thread);
		return false;
	}
	pthread_join(thread, NULL);
	free(errand);
	return true;
}

bool fg_turn_take(struct fg_turn *turn, int64_t patience_ns)
{
	struct fg_wake never = {0};
	int64_t until_ns = 0, pause_ns = 20000;

	/* Acquire: what the thread before has done during its turn is seen. */
	while (atomic_exchange_explicit(&turn->taken, 1, memory_order_acquire) != 0) {
		int64_t at_ns = fg_clock_now_ns();

		until_ns = until_ns == 0 ? at_ns + patience_ns : until_ns;
		if (at_ns >= until_ns)
			return false;
		/* Turns last for a fraction of a millisecond and seldom meet, so nobody needs to be woken. */
		fg_clock_monotonic.sleep_until(NULL, at_ns + pause_ns, &never);
		pause_ns = pause_ns < FG_NS_PER_S / 1000 ? 2 * pause_ns : pause_ns;
	}
	return true;
}

void fg_turn_give(struct fg_turn *turn)
{
	/* Release: pairs with the exchange above. */
	atomic_store_explicit(&turn->taken, 0, memory_order_release);
}
