/* Reading one integer from a kernel attribute through a descriptor that stays open.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef FG_SYSFS_H
#define FG_SYSFS_H

#include "fg_error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Open `path` for reading, or duplicate `fd` if it is not -1. On success *out is a descriptor to close(2). The kernel
 * checks permission only now: a descriptor that a privileged helper has opened works for every user. */
FG_MUST_CHECK enum fg_status fg_sysfs_open(const char *path, int fd, int *out, struct fg_error *err);

/* Read the attribute again: one pread, no allocation. FG_MALFORMED: the text is not a decimal integer of 63 bits; white
 * space after it is allowed. Only messages use `path`. */
FG_MUST_CHECK enum fg_status fg_sysfs_read(int fd, const char *path, int64_t *out, struct fg_error *err);

/* True if the open file or folder `fd` (O_PATH too) is part of the kernel's sysfs. False on failure, with errno set. */
bool fg_sysfs_holds(int fd);

/* Parse the text of an attribute: `length` bytes, a NUL is not needed. */
FG_MUST_CHECK enum fg_status fg_sysfs_parse(const char *text, size_t length, int64_t *out);

#endif
