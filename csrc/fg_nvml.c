/* See fg_nvml.h. One table of names and offsets finds every function. A missing function is NULL;
 * each use tests for it.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fg_nvml.h"

#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct fg_nvml_handle *device_t; /* spelled as in the vendor's prototypes below */

struct fg_nvml {
	void *library;
	int (*init)(void);
	int (*shutdown)(void);
	const char *(*error_string)(int);
	int (*driver_version)(char *, unsigned);
	int (*count)(unsigned *);
	int (*by_index)(unsigned, device_t *);
	int (*by_uuid)(const char *, device_t *);
	int (*name)(device_t, char *, unsigned);
	int (*uuid)(device_t, char *, unsigned);
	int (*pci_info)(device_t, void *);
	int (*energy)(device_t, unsigned long long *);
	int (*usage)(device_t, unsigned *);
	int (*limit)(device_t, unsigned *);
	int (*fields)(device_t, int, struct fg_nvml_field *);
	int (*mig_mode)(device_t, unsigned *, unsigned *);
	int (*mig_max)(device_t, unsigned *);
	int (*mig_by_index)(device_t, unsigned, device_t *);
};

enum { FIELD_POWER_AVERAGE = 185, FIELD_POWER_INSTANT = 186 };
enum { MOST_DEVICES = 1024, MOST_PLACES = 64 }; /* many times what a driver manages */

static const struct symbol {
	size_t offset;
	bool required;
	const char *names[3]; /* newest first */
} symbols[] = {
/* clang-format off */
#define SYMBOL(member, required, ...) {offsetof(struct fg_nvml, member), required, {__VA_ARGS__}}
	SYMBOL(init, true, "nvmlInit_v2", "nvmlInit"),
	SYMBOL(shutdown, true, "nvmlShutdown"),
	SYMBOL(count, true, "nvmlDeviceGetCount_v2", "nvmlDeviceGetCount"),
	SYMBOL(by_index, true, "nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetHandleByIndex"),
	SYMBOL(uuid, true, "nvmlDeviceGetUUID"),
	SYMBOL(error_string, false, "nvmlErrorString"),
	SYMBOL(driver_version, false, "nvmlSystemGetDriverVersion"),
	SYMBOL(by_uuid, false, "nvmlDeviceGetHandleByUUID"),
	SYMBOL(name, false, "nvmlDeviceGetName"),
	SYMBOL(pci_info, false, "nvmlDeviceGetPciInfo_v3"),
	SYMBOL(energy, false, "nvmlDeviceGetTotalEnergyConsumption"),
	SYMBOL(usage, false, "nvmlDeviceGetPowerUsage"),
	SYMBOL(limit, false, "nvmlDeviceGetEnforcedPowerLimit", "nvmlDeviceGetPowerManagementLimit"),
	SYMBOL(fields, false, "nvmlDeviceGetFieldValues"),
	SYMBOL(mig_mode, false, "nvmlDeviceGetMigMode"),
	SYMBOL(mig_max, false, "nvmlDeviceGetMaxMigDeviceCount"),
	SYMBOL(mig_by_index, false, "nvmlDeviceGetMigDeviceHandleByIndex"),
#undef SYMBOL
	/* clang-format on */
};

/* nvmlPciInfo_v3 begins with the old 16 byte bus id and ends with the full one. */
struct pci_info {
	char bus_id_legacy[16];
	unsigned domain, bus, device, pci_device_id, pci_subsystem_id;
	char bus_id[32];
	char spare[64]; /* a newer library may write more */
};

enum fg_status fg_nvml_status(int code)
{
	switch (code) {
	case FG_NVML_SUCCESS:
		return FG_OK;
	case FG_NVML_INVALID_ARGUMENT:
		return FG_INVALID;
	case FG_NVML_NOT_SUPPORTED:
	case FG_NVML_FUNCTION_NOT_FOUND:
		return FG_NOT_SUPPORTED;
	case FG_NVML_NO_PERMISSION:
		return FG_NOT_PERMITTED;
	case FG_NVML_NOT_FOUND:
	case FG_NVML_DRIVER_NOT_LOADED:
	case FG_NVML_LIBRARY_NOT_FOUND:
		return FG_NOT_FOUND;
	case FG_NVML_GPU_IS_LOST:
	case FG_NVML_RESET_REQUIRED:
		return FG_LOST;
	case FG_NVML_LIB_RM_VERSION_MISMATCH:
		return FG_SYSTEM;
	default:
		return FG_READ_FAILED;
	}
}

static bool is_printable(char c)
{
	return c >= ' ' && c <= '~';
}

/* Make a text from the library printable: ended by NUL, ASCII without control characters. */
static void make_printable(char *text, size_t size)
{
	text[size - 1] = '\0';
	for (; *text != '\0'; text++)
		if (!is_printable(*text))
			*text = '?';
}

const char *fg_nvml_text(struct fg_nvml *nvml, int code)
{
	const char *text = nvml != NULL && nvml->error_string != NULL ? nvml->error_string(code) : NULL;

	if (text == NULL)
		return "NVML error";
	for (const char *c = text; *c != '\0'; c++)
		if (!is_printable(*c))
			return "NVML error";
	return text;
}

static enum fg_status failed(struct fg_nvml *nvml, struct fg_error *err, const char *what, int code)
{
	return fg_error_set(err, fg_nvml_status(code), 0, code, "%s: %s (NVML %d)", what, fg_nvml_text(nvml, code), code);
}

static enum fg_status find_symbols(struct fg_nvml *nvml, const char *library, struct fg_error *err)
{
	for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
		void *found = NULL;

		for (size_t j = 0; j < 3 && found == NULL && symbols[i].names[j] != NULL; j++)
			found = dlsym(nvml->library, symbols[i].names[j]);
		if (found == NULL && symbols[i].required)
			return fg_error_set(err, FG_NOT_SUPPORTED, 0, FG_NVML_FUNCTION_NOT_FOUND,
								"%s has no function %s: the driver is too old", library, symbols[i].names[0]);
		/* POSIX lets an object pointer from dlsym stand for a function; ISO C has no cast for it. */
		memcpy((char *)nvml + symbols[i].offset, &found, sizeof found);
	}
	return FG_OK;
}

enum fg_status fg_nvml_open(const char *library, struct fg_nvml **out, struct fg_error *err)
{
	enum fg_status status;
	struct fg_nvml *nvml = calloc(1, sizeof *nvml);

	if (nvml == NULL)
		return fg_error_set(err, FG_NO_MEMORY, 0, 0, "not enough memory for NVML");
	if (library[0] == '\0') { /* for dlopen an empty name means this program itself */
		status = fg_error_set(err, FG_NOT_FOUND, 0, FG_NVML_LIBRARY_NOT_FOUND,
							  "library must be the name of a file, not empty");
		goto fail;
	}
	nvml->library = dlopen(library, RTLD_NOW | RTLD_LOCAL);
	if (nvml->library == NULL) {
		status = fg_error_set(err, FG_NOT_FOUND, 0, FG_NVML_LIBRARY_NOT_FOUND, "%s", dlerror());
		goto fail;
	}
	status = find_symbols(nvml, library, err);
	if (status != FG_OK)
		goto fail;
	int code = nvml->init();
	if (code != FG_NVML_SUCCESS) {
		status = failed(nvml, err, "nvmlInit", code);
		goto fail;
	}
	*out = nvml;
	return FG_OK;
fail:
	if (nvml->library != NULL)
		dlclose(nvml->library);
	free(nvml);
	return status;
}

void fg_nvml_close(struct fg_nvml *nvml)
{
	nvml->shutdown();
	dlclose(nvml->library);
	free(nvml);
}

int fg_nvml_init_again(struct fg_nvml *nvml)
{
	return nvml->init();
}

void fg_nvml_driver(struct fg_nvml *nvml, char *out, size_t size)
{
	out[0] = '\0';
	if (nvml->driver_version == NULL || nvml->driver_version(out, (unsigned)size) != FG_NVML_SUCCESS)
		out[0] = '\0';
	make_printable(out, size);
}

enum fg_status fg_nvml_device_count(struct fg_nvml *nvml, unsigned *out, struct fg_error *err)
{
	unsigned count;
	int code = nvml->count(&count);

	if (code != FG_NVML_SUCCESS)
		return failed(nvml, err, "nvmlDeviceGetCount", code);
	if (count > MOST_DEVICES)
		return fg_error_set(err, FG_MALFORMED, 0, 0, "nvmlDeviceGetCount reports %u devices, more than %d", count,
							MOST_DEVICES);
	*out = count;
	return FG_OK;
}

/* Whether a quantity can be read. A driver that is polled fast may refuse falsely, so only three refusals count. */
static int trial(struct fg_nvml *nvml, device_t handle, enum fg_nvml_quantity quantity, unsigned scope)
{
	int64_t raw;
	int code = FG_NVML_UNKNOWN;

	for (int i = 0; i < 3 && code != FG_NVML_SUCCESS && code != FG_NVML_FUNCTION_NOT_FOUND; i++)
		code = fg_nvml_read(nvml, handle, quantity, scope, &raw);
	return code;
}

/* UUIDs of the instances that a board is split into. Their numbers can have gaps. */
static void find_parts(struct fg_nvml *nvml, device_t handle, struct fg_nvml_device *device)
{
	unsigned places = 0;
	device_t part;

	if (nvml->mig_by_index == NULL || nvml->mig_max == NULL || nvml->mig_max(handle, &places) != FG_NVML_SUCCESS)
		return;
	for (unsigned i = 0; i < places && i < MOST_PLACES && device->mig_count < FG_NVML_PARTS; i++) {
		char *uuid = device->mig_uuids[device->mig_count];

		if (nvml->mig_by_index(handle, i, &part) != FG_NVML_SUCCESS ||
			nvml->uuid(part, uuid, sizeof device->mig_uuids[0]) != FG_NVML_SUCCESS)
			continue;
		make_printable(uuid, sizeof device->mig_uuids[0]);
		device->mig_count++;
	}
}

enum fg_status fg_nvml_device(struct fg_nvml *nvml, unsigned index, struct fg_nvml_device *out, struct fg_error *err)
{
	struct fg_nvml_device device = {.energy_code = FG_NVML_FUNCTION_NOT_FOUND};
	struct pci_info pci = {.bus_id = ""};
	unsigned mode = 0, pending = 0, limit_mw = 0;
	device_t handle;
	int code = nvml->by_index(index, &handle);

	if (code != FG_NVML_SUCCESS)
		return failed(nvml, err, "nvmlDeviceGetHandleByIndex", code);
	code = nvml->uuid(handle, device.uuid, sizeof device.uuid);
	if (code != FG_NVML_SUCCESS)
		return failed(nvml, err, "nvmlDeviceGetUUID", code);
	make_printable(device.uuid, sizeof device.uuid);
	if (nvml->name == NULL || nvml->name(handle, device.name, sizeof device.name) != FG_NVML_SUCCESS)
		snprintf(device.name, sizeof device.name, "GPU %u", index);
	make_printable(device.name, sizeof device.name);
	if (nvml->pci_info != NULL && nvml->pci_info(handle, &pci) == FG_NVML_SUCCESS)
		snprintf(device.bus_id, sizeof device.bus_id, "%.31s", pci.bus_id);
	make_printable(device.bus_id, sizeof device.bus_id);
	if (nvml->limit != NULL && nvml->limit(handle, &limit_mw) == FG_NVML_SUCCESS)
		device.power_limit_mw = limit_mw;
	if (nvml->mig_mode != NULL && nvml->mig_mode(handle, &mode, &pending) == FG_NVML_SUCCESS)
		device.mig = mode != 0;
	if (device.mig)
		find_parts(nvml, handle, &device);
	device.energy_code = trial(nvml, handle, FG_NVML_ENERGY, 0);
	device.usage_code = trial(nvml, handle, FG_NVML_POWER_USAGE, 0);
	/* Superchips can refuse the GPU scope and answer at the module's. */
	for (device.scope = 0; device.scope < 2; device.scope++) {
		device.instant_code = trial(nvml, handle, FG_NVML_POWER_INSTANT, device.scope);
		device.average_code = trial(nvml, handle, FG_NVML_POWER_AVERAGE, device.scope);
		if (device.instant_code == FG_NVML_SUCCESS || device.average_code == FG_NVML_SUCCESS)
			break;
	}
	if (device.scope == 2)
		device.scope = 0;
	*out = device;
	return FG_OK;
}

enum fg_status fg_nvml_find(struct fg_nvml *nvml, const char *uuid, struct fg_nvml_handle **out, struct fg_error *err)
{
	char found[96];
	unsigned count = 0;
	device_t handle;
	int code = FG_NVML_FUNCTION_NOT_FOUND;

	if (nvml->by_uuid != NULL)
		code = nvml->by_uuid(uuid, &handle);
	if (code == FG_NVML_SUCCESS) {
		*out = handle;
		return FG_OK;
	}
	if (code != FG_NVML_FUNCTION_NOT_FOUND)
		return failed(nvml, err, uuid, code);
	code = nvml->count(&count);
	for (unsigned i = 0; code == FG_NVML_SUCCESS && i < count && i < MOST_DEVICES; i++) {
		if (nvml->by_index(i, &handle) == FG_NVML_SUCCESS &&
			nvml->uuid(handle, found, sizeof found) == FG_NVML_SUCCESS && strncmp(found, uuid, sizeof found) == 0) {
			*out = handle;
			return FG_OK;
		}
	}
	return failed(nvml, err, uuid, code == FG_NVML_SUCCESS ? FG_NVML_NOT_FOUND : code);
}

/* False: the type of the field is unknown, or its value is not an integer of 63 bits. */
static bool field_value(const struct fg_nvml_field *field, int64_t *out)
{
	switch (field->value_type) {
	case 0:
		if (!(fabs(field->value.d) < 0x1p63)) /* nor NaN */
			return false;
		*out = (int64_t)field->value.d;
		return true;
	case 1:
		*out = field->value.u;
		return true;
	case 2:
		*out = (int64_t)field->value.ul;
		return true;
	case 3:
		*out = (int64_t)field->value.ull;
		return true;
	case 4:
		*out = field->value.sll;
		return true;
	case 5:
		*out = field->value.i;
		return true;
	case 6:
		*out = field->value.us;
		return true;
	default:
		return false;
	}
}

static int read_field(struct fg_nvml *nvml, device_t device, unsigned id, unsigned scope, int64_t *raw)
{
	struct fg_nvml_field field = {.field_id = id, .scope_id = scope};

	if (nvml->fields == NULL)
		return FG_NVML_FUNCTION_NOT_FOUND;
	int code = nvml->fields(device, 1, &field);
	if (code == FG_NVML_SUCCESS) /* the call succeeded; the field has its own status */
		code = field.status;
	if (code != FG_NVML_SUCCESS)
		return code;
	if (!field_value(&field, raw))
		return FG_NVML_UNKNOWN;
	return FG_NVML_SUCCESS;
}

int fg_nvml_read(struct fg_nvml *nvml, struct fg_nvml_handle *device, enum fg_nvml_quantity quantity, unsigned scope,
				 int64_t *raw)
{
	unsigned long long energy_mj;
	unsigned power_mw;
	int code;

	switch (quantity) {
	case FG_NVML_ENERGY:
		if (nvml->energy == NULL)
			return FG_NVML_FUNCTION_NOT_FOUND;
		code = nvml->energy(device, &energy_mj);
		if (code == FG_NVML_SUCCESS)
			*raw = (int64_t)energy_mj;
		return code;
	case FG_NVML_POWER_USAGE:
		if (nvml->usage == NULL)
			return FG_NVML_FUNCTION_NOT_FOUND;
		code = nvml->usage(device, &power_mw);
		if (code == FG_NVML_SUCCESS)
			*raw = power_mw;
		return code;
	case FG_NVML_POWER_INSTANT:
		return read_field(nvml, device, FIELD_POWER_INSTANT, scope, raw);
	case FG_NVML_POWER_AVERAGE:
		return read_field(nvml, device, FIELD_POWER_AVERAGE, scope, raw);
	}
	return FG_NVML_INVALID_ARGUMENT;
}
