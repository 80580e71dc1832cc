/* Who a device is: start and stop, versions, handles, names, limits, clocks, memory, MIG.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fake_nvml.h"

/* A function that gives one number of the device. */
#define NUMBER(name, type, expression)                                                                                 \
	nvmlReturn_t name(nvmlDevice_t device, type *out)                                                                  \
	{                                                                                                                  \
		FAKE_ENTER(name, out);                                                                                              \
		*out = (type)(expression);                                                                                     \
		return fake_leave(&call, NVML_SUCCESS);                                                                        \
	}

static int give_text(struct fake_call *call, char *to, unsigned int length, const char *text)
{
	if (to == NULL)
		return fake_leave(call, NVML_ERROR_INVALID_ARGUMENT);
	if (length <= strlen(text))
		return fake_leave(call, NVML_ERROR_INSUFFICIENT_SIZE);
	strcpy(to, text);
	return fake_leave(call, NVML_SUCCESS);
}

nvmlReturn_t nvmlInit(void)
{
	return fake_init(FN_nvmlInit);
}

nvmlReturn_t nvmlInit_v2(void)
{
	return fake_init(FN_nvmlInit_v2);
}

nvmlReturn_t nvmlInitWithFlags(unsigned int flags)
{
	(void)flags;
	return fake_init(FN_nvmlInitWithFlags);
}

nvmlReturn_t nvmlShutdown(void)
{
	return fake_shutdown();
}

const char *nvmlErrorString(nvmlReturn_t code)
{
	static const char *const text[] = {"Success", "Uninitialized", "Invalid Argument", "Not Supported",
		"Insufficient Permissions", "Already Initialized", "Not Found", "Insufficient Size", "Insufficient External Power",
		"Driver Not Loaded", "Timeout", "Interrupt Request Issue", "NVML Shared Library Not Found",
		"Function Not Found", "Corrupted infoROM", "GPU is lost", "GPU requires reset",
		"The operating system has blocked the request", "RM has detected an NVML/RM version mismatch", "In use",
		"Insufficient memory", "No data", "vGPU ECC not supported", "Insufficient resources", "Frequency not supported",
		"Argument version mismatch", "Deprecated", "Not ready", "No GPUs found", "Invalid state"};

	return code >= 0 && (size_t)code < sizeof text / sizeof text[0] ? text[code] : "Unknown Error";
}

#define SYSTEM_TEXT(name, text)                                                                                        \
	nvmlReturn_t name(char *to, unsigned int length)                                                                   \
	{                                                                                                                  \
		struct fake_call call;                                                                                         \
		if (!fake_enter(&call, FN_##name, NULL))                                                                       \
			return call.code;                                                                                          \
		return give_text(&call, to, length, text);                                                                     \
	}
SYSTEM_TEXT(nvmlSystemGetDriverVersion, call.script->driver)
SYSTEM_TEXT(nvmlSystemGetNVMLVersion, call.script->nvml)

#define SYSTEM_NUMBER(name, type, expression)                                                                          \
	nvmlReturn_t name(type *out)                                                                                       \
	{                                                                                                                  \
		struct fake_call call;                                                                                         \
		if (!fake_enter(&call, FN_##name, NULL))                                                                       \
			return call.code;                                                                                          \
		if (out == NULL)                                                                                               \
			return fake_leave(&call, NVML_ERROR_INVALID_ARGUMENT);                                                     \
		*out = (type)(expression);                                                                                     \
		return fake_leave(&call, NVML_SUCCESS);                                                                        \
	}
SYSTEM_NUMBER(nvmlSystemGetCudaDriverVersion, int, call.script->cuda)
SYSTEM_NUMBER(nvmlSystemGetCudaDriverVersion_v2, int, call.script->cuda)
SYSTEM_NUMBER(nvmlDeviceGetCount, unsigned int, call.script->device_count)
SYSTEM_NUMBER(nvmlDeviceGetCount_v2, unsigned int, call.script->device_count)

/* The device at an index; its own rules apply, so a lost GPU can refuse its handle. */
static int give_handle(struct fake_call *call, enum fake_function function, int index, int mig, nvmlDevice_t *device)
{
	if (!fake_enter_device(call, function, index))
		return call->code;
	*device = fake_handle(index, mig);
	return fake_leave(call, NVML_SUCCESS);
}

#define BY_INDEX(name)                                                                                                 \
	nvmlReturn_t name(unsigned int index, nvmlDevice_t *device)                                                        \
	{                                                                                                                  \
		struct fake_call call;                                                                                         \
		if (!fake_enter(&call, FN_##name, NULL))                                                                       \
			return call.code;                                                                                          \
		if (device == NULL || index >= (unsigned int)call.script->device_count)                                        \
			return fake_leave(&call, NVML_ERROR_INVALID_ARGUMENT);                                                     \
		return give_handle(&call, FN_##name, (int)index, -1, device);                                                  \
	}
BY_INDEX(nvmlDeviceGetHandleByIndex)
BY_INDEX(nvmlDeviceGetHandleByIndex_v2)

nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device)
{
	struct fake_call call;

	if (!fake_enter(&call, FN_nvmlDeviceGetHandleByUUID, NULL))
		return call.code;
	if (uuid == NULL || device == NULL)
		return fake_leave(&call, NVML_ERROR_INVALID_ARGUMENT);
	for (int i = 0; i < call.script->device_count; i++) {
		const struct fake_device *candidate = &call.script->device[i];

		if (strcmp(candidate->uuid, uuid) == 0)
			return give_handle(&call, FN_nvmlDeviceGetHandleByUUID, i, -1, device);
		for (int m = 0; candidate->mig == 1 && m < candidate->mig_count; m++)
			if (strcmp(candidate->mig_uuid[m], uuid) == 0)
				return give_handle(&call, FN_nvmlDeviceGetHandleByUUID, i, m, device);
	}
	return fake_leave(&call, NVML_ERROR_NOT_FOUND);
}

/* Bus ids are compared as numbers: "0000:01:00.0" and "00000000:01:00.0" are one device. */
static int bus_numbers(const char *bus, unsigned int number[3])
{
	number[0] = 0;
	return sscanf(bus, "%x:%x:%x", &number[0], &number[1], &number[2]) == 3 ||
		   (number[0] = 0, sscanf(bus, "%x:%x", &number[1], &number[2]) == 2);
}

#define BY_BUS(name)                                                                                                   \
	nvmlReturn_t name(const char *bus, nvmlDevice_t *device)                                                           \
	{                                                                                                                  \
		unsigned int wanted[3], seen[3];                                                                               \
		struct fake_call call;                                                                                         \
		if (!fake_enter(&call, FN_##name, NULL))                                                                       \
			return call.code;                                                                                          \
		if (bus == NULL || device == NULL || !bus_numbers(bus, wanted))                                                \
			return fake_leave(&call, NVML_ERROR_INVALID_ARGUMENT);                                                     \
		for (int i = 0; i < call.script->device_count; i++)                                                            \
			if (bus_numbers(call.script->device[i].bus, seen) && memcmp(wanted, seen, sizeof seen) == 0)               \
				return give_handle(&call, FN_##name, i, -1, device);                                                   \
		return fake_leave(&call, NVML_ERROR_NOT_FOUND);                                                                \
	}
BY_BUS(nvmlDeviceGetHandleByPciBusId)
BY_BUS(nvmlDeviceGetHandleByPciBusId_v2)

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *to, unsigned int length)
{
	char name[128];

	FAKE_ENTER(nvmlDeviceGetName, to);
	snprintf(name, sizeof name, call.mig >= 0 ? "%s MIG 1g" : "%s", call.device->name);
	return give_text(&call, to, length, name);
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *to, unsigned int length)
{
	FAKE_ENTER(nvmlDeviceGetUUID, to);
	return give_text(&call, to, length, call.mig >= 0 ? call.device->mig_uuid[call.mig] : call.device->uuid);
}

nvmlReturn_t nvmlDeviceGetSerial(nvmlDevice_t device, char *to, unsigned int length)
{
	FAKE_ENTER(nvmlDeviceGetSerial, to);
	return give_text(&call, to, length, call.device->serial);
}

NUMBER(nvmlDeviceGetIndex, unsigned int, call.mig >= 0 ? call.mig : call.index)
NUMBER(nvmlDeviceGetMinorNumber, unsigned int, call.index)
NUMBER(nvmlDeviceGetEnforcedPowerLimit, unsigned int, call.device->limit_mw)
NUMBER(nvmlDeviceGetPowerManagementLimit, unsigned int, call.device->limit_mw)
NUMBER(nvmlDeviceGetPowerManagementDefaultLimit, unsigned int, call.device->limit_max_mw)
NUMBER(nvmlDeviceGetPowerManagementMode, unsigned int, 1)
NUMBER(nvmlDeviceGetArchitecture, unsigned int, call.device->architecture)
NUMBER(nvmlDeviceGetBrand, unsigned int, call.device->brand)
NUMBER(nvmlDeviceGetPerformanceState, unsigned int, 0)
NUMBER(nvmlDeviceGetPersistenceMode, unsigned int, 1)
NUMBER(nvmlDeviceGetDisplayMode, unsigned int, 0)
NUMBER(nvmlDeviceGetDisplayActive, unsigned int, 0)
NUMBER(nvmlDeviceGetComputeMode, unsigned int, 0)
NUMBER(nvmlDeviceGetFanSpeed, unsigned int, call.device->fan_speed)
NUMBER(nvmlDeviceGetNumFans, unsigned int, 1)
NUMBER(nvmlDeviceGetMaxMigDeviceCount, unsigned int, call.device->mig == 1 ? FAKE_MIG_MAX : 0)
NUMBER(nvmlDeviceIsMigDeviceHandle, unsigned int, call.mig >= 0)

#define PCI_IDS 0x233010de, 0x16c110de

nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *pci)
{
	unsigned int n[3];

	FAKE_ENTER(nvmlDeviceGetPciInfo_v3, pci);
	bus_numbers(call.device->bus, n);
	*pci = (nvmlPciInfo_t){"", n[0], n[1], n[2], PCI_IDS, ""};
	snprintf(pci->busId, sizeof pci->busId, "%08X:%02X:%02X.0", n[0], n[1], n[2]);
	snprintf(pci->busIdLegacy, sizeof pci->busIdLegacy, "%04X:%02X:%02X.0", n[0] & 0xffff, n[1] & 0xff, n[2] & 0xff);
	return fake_leave(&call, NVML_SUCCESS);
}

#define OLD_PCI(name)                                                                                                  \
	nvmlReturn_t name(nvmlDevice_t device, nvmlPciInfo_v2_t *pci)                                                      \
	{                                                                                                                  \
		unsigned int n[3];                                                                                             \
		FAKE_ENTER(name, pci);                                                                                         \
		bus_numbers(call.device->bus, n);                                                                              \
		*pci = (nvmlPciInfo_v2_t){"", n[0], n[1], n[2], PCI_IDS, {0}};                                                 \
		snprintf(pci->busId, sizeof pci->busId, "%04X:%02X:%02X.0", n[0] & 0xffff, n[1] & 0xff, n[2] & 0xff);          \
		return fake_leave(&call, NVML_SUCCESS);                                                                        \
	}
OLD_PCI(nvmlDeviceGetPciInfo)
OLD_PCI(nvmlDeviceGetPciInfo_v2)

nvmlReturn_t nvmlDeviceGetPowerManagementLimitConstraints(nvmlDevice_t device, unsigned int *low, unsigned int *high)
{
	FAKE_ENTER(nvmlDeviceGetPowerManagementLimitConstraints, low);
	*low = call.device->limit_min_mw;
	*high = call.device->limit_max_mw;
	return fake_leave(&call, NVML_SUCCESS);
}

/* Setting needs root on a real machine and would change the script here. */
nvmlReturn_t nvmlDeviceSetPowerManagementLimit(nvmlDevice_t device, unsigned int limit)
{
	FAKE_ENTER(nvmlDeviceSetPowerManagementLimit, &limit);
	return fake_leave(&call, 4);
}

nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor)
{
	FAKE_ENTER(nvmlDeviceGetCudaComputeCapability, major);
	*major = (int)call.device->compute_major;
	*minor = (int)call.device->compute_minor;
	return fake_leave(&call, NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned int *current, unsigned int *pending)
{
	FAKE_ENTER(nvmlDeviceGetMigMode, current);
	if (call.device->mig < 0)
		return fake_leave(&call, NVML_ERROR_NOT_SUPPORTED);
	*current = *pending = (unsigned int)call.device->mig;
	return fake_leave(&call, NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned int index, nvmlDevice_t *mig)
{
	FAKE_ENTER(nvmlDeviceGetMigDeviceHandleByIndex, mig);
	if (call.device->mig != 1)
		return fake_leave(&call, NVML_ERROR_NOT_SUPPORTED);
	if (index >= (unsigned int)call.device->mig_count)
		return fake_leave(&call, NVML_ERROR_NOT_FOUND);
	*mig = fake_handle(call.index, (int)index);
	return fake_leave(&call, NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t device, nvmlDevice_t *board)
{
	FAKE_ENTER(nvmlDeviceGetDeviceHandleFromMigDeviceHandle, board);
	if (call.mig < 0)
		return fake_leave(&call, NVML_ERROR_INVALID_ARGUMENT);
	*board = fake_handle(call.index, -1);
	return fake_leave(&call, NVML_SUCCESS);
}

#define INSTANCE(name, expression)                                                                                     \
	nvmlReturn_t name(nvmlDevice_t device, unsigned int *id)                                                           \
	{                                                                                                                  \
		FAKE_ENTER(name, id);                                                                                               \
		if (call.mig < 0)                                                                                              \
			return fake_leave(&call, NVML_ERROR_NOT_SUPPORTED);                                                        \
		*id = (unsigned int)(expression);                                                                              \
		return fake_leave(&call, NVML_SUCCESS);                                                                        \
	}
INSTANCE(nvmlDeviceGetGpuInstanceId, call.mig + 1)
INSTANCE(nvmlDeviceGetComputeInstanceId, 0)
