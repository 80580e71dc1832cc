/* Sleeps of the kernel, in front of libfaketime: its 0.9.10 refuses one until an instant of the monotonic clock. */

#define _GNU_SOURCE
#include <errno.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *until, struct timespec *left)
{
	return syscall(SYS_clock_nanosleep, clock, flags, until, left) == 0 ? 0 : errno;
}
