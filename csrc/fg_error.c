/* See fg_error.h. Formats into the caller's buffer only; allocates nothing.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fg_error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

const char *fg_status_text(enum fg_status status)
{
	static const char *const text[] = {
#define FG_STATUS_TEXT(name, text) text,
		FG_STATUS_LIST(FG_STATUS_TEXT)
#undef FG_STATUS_TEXT
	};
	return (unsigned)status < FG_STATUS_COUNT ? text[status] : "unknown status";
}

enum fg_status fg_error_set(struct fg_error *err, enum fg_status status, int sys_errno, int vendor_code,
							const char *format, ...)
{
	va_list arguments;

	if (err == NULL)
		return status;
	err->status = status;
	err->sys_errno = sys_errno;
	err->vendor_code = vendor_code;
	va_start(arguments, format);
	vsnprintf(err->message, sizeof err->message, format, arguments);
	va_end(arguments);
	return status;
}

enum fg_status fg_status_from_errno(int sys_errno)
{
	switch (sys_errno) {
	case 0:
		return FG_OK;
	case EACCES:
	case EPERM:
		return FG_NOT_PERMITTED;
	case ENOENT:
	case ENODEV:
	case ENXIO:
		return FG_NOT_FOUND;
	case ENOMEM:
		return FG_NO_MEMORY;
	case ENODATA:
	case EAGAIN:
	case EOPNOTSUPP:
		return FG_NOT_READY;
	case EIO:
		return FG_READ_FAILED;
	default:
		return FG_SYSTEM;
	}
}
