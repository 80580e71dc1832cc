/* What runs on a device and how busy it is: processes, utilisation, memory, temperature, clocks.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fake_nvml.h"

#include <unistd.h>

/* A script's pid 0 is the process that asks. */
static unsigned int process_pid(const struct fake_device *device, int index)
{
	return device->process_pid[index] != 0 ? device->process_pid[index] : (unsigned int)getpid();
}

static int bad(struct fake_call *call)
{
	return fake_leave(call, NVML_ERROR_INVALID_ARGUMENT);
}

/* Processes of one kind in NVML's two-step manner: too little room gives the number wanted. */
static int give_processes(enum fake_function function, nvmlDevice_t device, unsigned int *count, void *to, int version,
						  int graphics)
{
	struct fake_call call;
	int processes;

	if (!fake_enter(&call, function, device))
		return call.code;
	if (device == NULL || count == NULL)
		return bad(&call);
	processes = graphics ? 0 : call.device->process_count;
	if (processes > 0 && (to == NULL || *count < (unsigned int)processes)) {
		*count = (unsigned int)processes;
		return fake_leave(&call, NVML_ERROR_INSUFFICIENT_SIZE);
	}
	for (int i = 0; i < processes; i++) {
		unsigned int pid = process_pid(call.device, i);
		unsigned long long memory = call.device->process_memory[i];

		if (version == 1)
			((nvmlProcessInfo_v1_t *)to)[i] = (nvmlProcessInfo_v1_t){pid, memory};
		else
			((nvmlProcessInfo_t *)to)[i] = (nvmlProcessInfo_t){pid, memory, ~0u, ~0u};
	}
	*count = (unsigned int)processes;
	return fake_leave(&call, NVML_SUCCESS);
}

#define PROCESSES(name, version, graphics)                                                                             \
	nvmlReturn_t name(nvmlDevice_t device, unsigned int *count, void *to)                                              \
	{                                                                                                                  \
		return give_processes(FN_##name, device, count, to, version, graphics);                                        \
	}
PROCESSES(nvmlDeviceGetComputeRunningProcesses, 1, 0)
PROCESSES(nvmlDeviceGetComputeRunningProcesses_v2, 2, 0)
PROCESSES(nvmlDeviceGetComputeRunningProcesses_v3, 3, 0)
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses, 1, 1)
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v2, 2, 1)
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v3, 3, 1)
PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses, 1, 1)
PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses_v2, 2, 1)
PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses_v3, 3, 1)

/* One sample per process, stamped with the second in which the call falls; NOT_FOUND when none is new. */
nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t device, nvmlProcessUtilizationSample_t *samples,
											 unsigned int *count, unsigned long long last_seen)
{
	struct fake_call call;
	unsigned long long stamp;
	unsigned int processes;

	if (!fake_enter(&call, FN_nvmlDeviceGetProcessUtilization, device))
		return call.code;
	if (device == NULL || count == NULL)
		return bad(&call);
	processes = (unsigned int)call.device->process_count;
	stamp = (unsigned long long)(call.now_ns + fake_clock_offset_ns()) / 1000000000 * 1000000;
	if (processes == 0 || stamp <= last_seen)
		return fake_leave(&call, NVML_ERROR_NOT_FOUND);
	if (samples == NULL || *count < processes) {
		*count = processes;
		return fake_leave(&call, NVML_ERROR_INSUFFICIENT_SIZE);
	}
	for (unsigned int i = 0; i < processes; i++)
		samples[i] = (nvmlProcessUtilizationSample_t){process_pid(call.device, (int)i), stamp,
			call.device->utilization / processes, call.device->memory_utilization / processes, 0, 0};
	*count = processes;
	return fake_leave(&call, NVML_SUCCESS);
}

nvmlReturn_t nvmlSystemGetProcessName(unsigned int pid, char *name, unsigned int length)
{
	struct fake_call call;

	if (!fake_enter(&call, FN_nvmlSystemGetProcessName, NULL))
		return call.code;
	if (name == NULL || length == 0)
		return bad(&call);
	snprintf(name, length, "process-%u", pid);
	return fake_leave(&call, NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *rates)
{
	FAKE_ENTER(nvmlDeviceGetUtilizationRates, rates);
	if (call.mig >= 0)
		return fake_leave(&call, NVML_ERROR_NOT_SUPPORTED);
	*rates = (nvmlUtilization_t){call.device->utilization, call.device->memory_utilization};
	return fake_leave(&call, NVML_SUCCESS);
}

#define CODER(name)                                                                                                    \
	nvmlReturn_t name(nvmlDevice_t device, unsigned int *utilization, unsigned int *period_us)                         \
	{                                                                                                                  \
		FAKE_ENTER(name, utilization);                                                                                      \
		*utilization = 0;                                                                                              \
		*period_us = 167000;                                                                                           \
		return fake_leave(&call, NVML_SUCCESS);                                                                        \
	}
CODER(nvmlDeviceGetEncoderUtilization)
CODER(nvmlDeviceGetDecoderUtilization)

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory)
{
	FAKE_ENTER(nvmlDeviceGetMemoryInfo, memory);
	*memory = (nvmlMemory_t){call.device->memory_total, call.device->memory_total - call.device->memory_used,
							 call.device->memory_used};
	return fake_leave(&call, NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceGetBAR1MemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory)
{
	FAKE_ENTER(nvmlDeviceGetBAR1MemoryInfo, memory);
	*memory = (nvmlMemory_t){1 << 28, 1 << 28, 0};
	return fake_leave(&call, NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory)
{
	FAKE_ENTER(nvmlDeviceGetMemoryInfo_v2, memory);
	if (memory->version != (sizeof *memory | 2u << 24))
		return fake_leave(&call, NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
	memory->total = call.device->memory_total;
	memory->reserved = 0;
	memory->used = call.device->memory_used;
	memory->free = memory->total - memory->used;
	return fake_leave(&call, NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, unsigned int sensor, unsigned int *temperature)
{
	FAKE_ENTER(nvmlDeviceGetTemperature, temperature);
	if (sensor != 0)
		return bad(&call);
	*temperature = call.device->temperature;
	return fake_leave(&call, NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, nvmlTemperature_t *temperature)
{
	FAKE_ENTER(nvmlDeviceGetTemperatureV, temperature);
	if (temperature->version != (sizeof *temperature | 1u << 24))
		return fake_leave(&call, NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
	temperature->temperature = (int)call.device->temperature;
	return fake_leave(&call, NVML_SUCCESS);
}

#define CLOCK(name, member)                                                                                            \
	nvmlReturn_t name(nvmlDevice_t device, unsigned int type, unsigned int *clock)                                     \
	{                                                                                                                  \
		FAKE_ENTER(name, clock);                                                                                            \
		if (type > 3)                                                                                                  \
			return bad(&call);                                                                                         \
		*clock = call.device->member[type];                                                                            \
		return fake_leave(&call, NVML_SUCCESS);                                                                        \
	}
CLOCK(nvmlDeviceGetClockInfo, clock)
CLOCK(nvmlDeviceGetMaxClockInfo, max_clock)

static int give_clock(struct fake_call *call, unsigned int *count, unsigned int *clocks, unsigned int clock)
{
	if (clocks == NULL || *count < 1) {
		*count = 1;
		return fake_leave(call, NVML_ERROR_INSUFFICIENT_SIZE);
	}
	*count = 1;
	clocks[0] = clock;
	return fake_leave(call, NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceGetSupportedMemoryClocks(nvmlDevice_t device, unsigned int *count, unsigned int *clocks)
{
	FAKE_ENTER(nvmlDeviceGetSupportedMemoryClocks, count);
	return give_clock(&call, count, clocks, call.device->max_clock[2]);
}

nvmlReturn_t nvmlDeviceGetSupportedGraphicsClocks(nvmlDevice_t device, unsigned int memory_clock, unsigned int *count,
												  unsigned int *clocks)
{
	FAKE_ENTER(nvmlDeviceGetSupportedGraphicsClocks, count);
	if (memory_clock != call.device->max_clock[2])
		return fake_leave(&call, NVML_ERROR_NOT_FOUND);
	return give_clock(&call, count, clocks, call.device->max_clock[0]);
}

nvmlReturn_t nvmlDeviceGetPcieThroughput(nvmlDevice_t device, unsigned int counter, unsigned int *value)
{
	FAKE_ENTER(nvmlDeviceGetPcieThroughput, value);
	(void)counter;
	*value = 0;
	return fake_leave(&call, NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, unsigned int error, unsigned int counter,
										 unsigned long long *count)
{
	FAKE_ENTER(nvmlDeviceGetTotalEccErrors, count);
	(void)error, (void)counter;
	*count = 0;
	return fake_leave(&call, NVML_SUCCESS);
}
