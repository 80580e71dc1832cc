/* Threads that receive no signals, calls that may never return, and calls that must take turns.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef FG_THREAD_H
#define FG_THREAD_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Start a thread with every signal blocked: signals belong to the application's threads. `name` has at most 15 bytes.
 * Returns 0 or the errno of pthread_create. */
int fg_thread_start(pthread_t *out, const char *name, void *(*run)(void *), void *argument);

/* Call work(context) on a thread of its own and wait for it, but not longer than `patience_ns`. True: it has returned.
 * False: it still runs, and the context no longer belongs to the caller; if work returns later, its thread calls
 * discard(context), unless discard is NULL. If no thread can be started, work runs on the calling thread. */
bool fg_thread_call(void (*work)(void *), void (*discard)(void *), void *context, int64_t patience_ns);

/* One at a time, for calls into a library that is not thread-safe. All zero: free. It is no mutex: a thread that hangs
 * during its turn never gives it back, and the others must not hang with it. */
struct fg_turn {
	_Atomic uint32_t taken;
};

/* Wait for the turn, but not longer than `patience_ns`. False: another thread still has it. */
bool fg_turn_take(struct fg_turn *turn, int64_t patience_ns);
void fg_turn_give(struct fg_turn *turn);

#endif
