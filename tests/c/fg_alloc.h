/* An allocator that fails when told to, and counts what is not given back. Link with the WRAP flags of the Makefile.
 * SPDX-License-Identifier: Apache-2.0
 *
 *	for (long n = 0; fg_alloc_fails_at(n), open(...) != FG_OK; n++)
 *		fg_check_int(fg_alloc_live(), 0);
 */
#ifndef FG_ALLOC_H
#define FG_ALLOC_H

#include <stdatomic.h>
#include <stddef.h>

static _Atomic long fg_alloc_left = -1; /* allocations until one fails; negative: none fails */
static _Atomic long fg_alloc_count;     /* allocated and not freed since the last fg_alloc_fails_at */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
char *__real_strdup(const char *text);
void __real_free(void *memory);

/* Let the n-th allocation from now (0 the next) fail, and those after it succeed; negative: none fails. */
static inline void fg_alloc_fails_at(long n)
{
	fg_alloc_left = n;
	fg_alloc_count = 0;
}

static inline long fg_alloc_live(void)
{
	return fg_alloc_count;
}

static inline void *fg_alloc_seen(void *memory)
{
	fg_alloc_count += memory != NULL;
	return memory;
}

static inline int fg_alloc_fails(void)
{
	return fg_alloc_left >= 0 && fg_alloc_left-- == 0;
}

void *__wrap_malloc(size_t size)
{
	return fg_alloc_fails() ? NULL : fg_alloc_seen(__real_malloc(size));
}

void *__wrap_calloc(size_t count, size_t size)
{
	return fg_alloc_fails() ? NULL : fg_alloc_seen(__real_calloc(count, size));
}

void *__wrap_realloc(void *memory, size_t size)
{
	if (fg_alloc_fails())
		return NULL;
	fg_alloc_count += memory == NULL;
	return __real_realloc(memory, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
	return fg_alloc_fails() ? NULL : fg_alloc_seen(__real_aligned_alloc(alignment, size));
}

char *__wrap_strdup(const char *text)
{
	return fg_alloc_fails() ? NULL : fg_alloc_seen(__real_strdup(text));
}

void __wrap_free(void *memory)
{
	fg_alloc_count -= memory != NULL;
	__real_free(memory);
}

#endif
