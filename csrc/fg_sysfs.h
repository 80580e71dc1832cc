/* Reading one integer from a kernel attribute through a descriptor that stays open.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef FG_SYSFS_H
#define FG_SYSFS_H

#include "fg_error.h"

#include <stddef.h>
#include <stdint.h>

/* Open `path` for reading, or duplicate `fd` when it is not -1. On success *out is a descriptor to close(2).
 * Permission is checked here and never again: a descriptor opened by a privileged helper reads for anyone. */
FG_MUST_CHECK enum fg_status fg_sysfs_open(const char *path, int fd, int *out, struct fg_error *err);

/* Read the attribute anew: one pread, no allocation. FG_MALFORMED where it is empty or no decimal integer of 63 bits
 * with at most white space behind it. `path` only names it in messages. */
FG_MUST_CHECK enum fg_status fg_sysfs_read(int fd, const char *path, int64_t *out, struct fg_error *err);

/* Parse what fg_sysfs_read read: `length` bytes that need no NUL. */
FG_MUST_CHECK enum fg_status fg_sysfs_parse(const char *text, size_t length, int64_t *out);

#endif
