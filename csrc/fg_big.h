/* Memory for columns as long as a table of spans: in large pages, where the system has them, because each small page
 * costs a fault. SPDX-License-Identifier: Apache-2.0 */
#ifndef FG_BIG_H
#define FG_BIG_H

#include <stdint.h>
#include <stdlib.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

/* Not zeroed. NULL without memory; free() releases it. */
static inline void *fg_big_alloc(size_t count, size_t size)
{
#ifdef __linux__
	const size_t page = (size_t)1 << 21;

	if (count < (SIZE_MAX - page) / size && count * size >= 2 * page) {
		size_t whole = (count * size + page - 1) / page * page;
		void *out = aligned_alloc(page, whole);

		if (out != NULL)
			(void)madvise(out, whole, MADV_HUGEPAGE);
		return out;
	}
#endif
	return count < SIZE_MAX / size ? malloc(count * size) : NULL;
}

#endif
