/* The floor that a sampler is compared with: absolute sleeps, one pread per file and tick, nothing else.
 * SPDX-License-Identifier: Apache-2.0
 *
 *	bare_loop PERIOD_NS SECONDS FILE...
 *
 * prints the ticks, the CPU seconds of the loop, and how many ticks came a whole period late or more: what a sampler that
 * does not fire bursts to catch up has to miss. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static double cpu_s(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
		   1e-6 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

int main(int argc, char **argv)
{
	char text[32];
	int fds[16], files = argc - 3;
	long long period_ns = argc > 3 ? atoll(argv[1]) : 0;
	long long ticks = argc > 3 ? (long long)(atof(argv[2]) * 1e9) / period_ns : 0;
	long long late = 0;
	struct timespec at, now;

	if (files < 1 || files > 16 || period_ns <= 0)
		return 2;
	for (int i = 0; i < files; i++)
		if ((fds[i] = open(argv[3 + i], O_RDONLY)) < 0)
			return 1;
	prctl(PR_SET_TIMERSLACK, 1UL, 0, 0, 0);
	double before_s = cpu_s();
	clock_gettime(CLOCK_MONOTONIC, &at);
	for (long long tick = 0; tick < ticks; tick++) {
		long long at_ns = at.tv_nsec + period_ns;

		at.tv_sec += at_ns / 1000000000;
		at.tv_nsec = at_ns % 1000000000;
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
		clock_gettime(CLOCK_MONOTONIC, &now);
		late += (now.tv_sec - at.tv_sec) * 1000000000LL + now.tv_nsec - at.tv_nsec >= period_ns;
		for (int i = 0; i < files; i++)
			if (pread(fds[i], text, sizeof text, 0) < 0)
				return 1;
	}
	printf("%lld %.6f %lld\n", ticks, cpu_s() - before_s, late);
	return 0;
}
