/* Status codes and the error that a caller owns.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Every function that can fail returns an enum fg_status. On failure it fills the struct fg_error of the caller, unless
 * the caller passed NULL, and leaves all outputs unchanged. These functions do not allocate, so any thread can make an
 * error, including sampling threads. */
#ifndef FG_ERROR_H
#define FG_ERROR_H

/* X(name, meaning) */
#define FG_STATUS_LIST(X)                                                                                              \
	X(OK, "success")                                                                                                   \
	X(NO_MEMORY, "out of memory")                                                                                      \
	X(INVALID, "invalid argument")                                                                                     \
	X(NOT_FOUND, "not found")                                                                                          \
	X(NOT_PERMITTED, "not permitted")                                                                                  \
	X(NOT_SUPPORTED, "not supported")                                                                                  \
	X(NOT_READY, "no value yet")                                                                                       \
	X(MALFORMED, "malformed value")                                                                                    \
	X(READ_FAILED, "read failed")                                                                                      \
	X(LOST, "device lost")                                                                                             \
	X(SYSTEM, "system call failed")

enum fg_status {
/* clang-format off */
#define FG_STATUS_ENUM(name, text) FG_##name,
	FG_STATUS_LIST(FG_STATUS_ENUM)
#undef FG_STATUS_ENUM
	FG_STATUS_COUNT
	/* clang-format on */
};

struct fg_error {
	enum fg_status status;
	int sys_errno;     /* errno of the failed system call; 0: no system call failed */
	int vendor_code;   /* nvmlReturn_t or amdsmi_status_t of the failed call; 0: no call of a vendor's library failed */
	char message[240]; /* one sentence, UTF-8, NUL-terminated: the call that failed, and its object */
};

#if defined(__GNUC__)
#define FG_MUST_CHECK __attribute__((warn_unused_result))
/* On Windows, `printf` stands for an old library that did not know %zu. */
#ifdef __MINGW32__
#define FG_PRINTF(string, first) __attribute__((format(gnu_printf, string, first)))
#else
#define FG_PRINTF(string, first) __attribute__((format(printf, string, first)))
#endif
#else
#define FG_MUST_CHECK
#define FG_PRINTF(string, first)
#endif

/* The constant text of a status; never NULL. */
const char *fg_status_text(enum fg_status status);

/* Fill err (may be NULL) and return status, so that a failure is one line: return fg_error_set(err, ...). */
enum fg_status fg_error_set(struct fg_error *err, enum fg_status status, int sys_errno, int vendor_code,
							const char *format, ...) FG_PRINTF(5, 6);

/* The status that an errno stands for: EACCES and EPERM are NOT_PERMITTED, ENOENT is NOT_FOUND, ... */
enum fg_status fg_status_from_errno(int sys_errno);

#endif
