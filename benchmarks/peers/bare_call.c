/* What one call of nvmlDeviceGetTotalEnergyConsumption costs from C: nanoseconds per call, one line per block.
 * SPDX-License-Identifier: Apache-2.0
 *
 *	arguments:  library, calls per block, blocks */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1e9 + now.tv_nsec;
}

int main(int argc, char **argv)
{
	void *library = argc == 4 ? dlopen(argv[1], RTLD_NOW) : NULL;
	int (*init)(void), (*handle)(unsigned, void **), (*energy)(void *, unsigned long long *);
	unsigned long long value;
	void *device;

	if (!library)
		return 2;
	init = (int (*)(void))dlsym(library, "nvmlInit_v2");
	handle = (int (*)(unsigned, void **))dlsym(library, "nvmlDeviceGetHandleByIndex_v2");
	energy = (int (*)(void *, unsigned long long *))dlsym(library, "nvmlDeviceGetTotalEnergyConsumption");
	if (!init || !handle || !energy || init() || handle(0, &device))
		return 3;
	for (int block = 0; block < atoi(argv[3]); block++) {
		double start = now_ns();

		for (int i = 0; i < atoi(argv[2]); i++)
			if (energy(device, &value))
				return 4;
		printf("%.1f\n", (now_ns() - start) / atoi(argv[2]));
	}
	return 0;
}
