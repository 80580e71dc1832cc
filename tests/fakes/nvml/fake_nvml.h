/* The inside of the fake NVML: what a script says, and what every exported function does first and last.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef FAKE_NVML_H
#define FAKE_NVML_H

#include <stdatomic.h>
#include <stdint.h>

#include "../wave.h"
#include "fake_functions.h"
#include "nvml_types.h"

#define FAKE_DEVICES_MAX 16
#define FAKE_MIG_MAX 7
#define FAKE_RULES_MAX 64
#define FAKE_RELOADS_MAX 8
#define FAKE_PROCESSES_MAX 8
#define FAKE_UUID_SIZE 96

enum fake_reading { FAKE_INSTANT, FAKE_AVERAGE, FAKE_USAGE, FAKE_READINGS };

/* How a power reading looks at the waveform: its mean over the window that ends at each update. */
struct fake_sensor {
	struct updates updates;
	int64_t window_ns; /* 0: the power at that moment */
	double gain;
};

struct fake_device {
	char uuid[FAKE_UUID_SIZE], name[96], bus[32], serial[32];
	struct wave power;
	struct updates energy_updates;
	double energy_start_mj, energy_quantum_mj;
	struct fake_sensor sensor[FAKE_READINGS];
	unsigned int power_quantum_mw;
	double scope[3]; /* GPU, module, memory: power as a multiple of the waveform; 0 = not supported */
	int mig;         /* -1 cannot, 0 off, 1 on */
	int mig_count;
	char mig_uuid[FAKE_MIG_MAX][FAKE_UUID_SIZE];
	unsigned int limit_mw, limit_min_mw, limit_max_mw;
	unsigned int architecture, brand, compute_major, compute_minor;
	unsigned int utilization, memory_utilization, temperature, fan_speed;
	unsigned int clock[4], max_clock[4];
	unsigned long long memory_total, memory_used;
	unsigned int samples; /* depth of the driver's own buffer */
	int process_count;
	unsigned int process_pid[FAKE_PROCESSES_MAX];
	unsigned long long process_memory[FAKE_PROCESSES_MAX];
};

/* What happens to call number `from` to `to` (first is 1) of the functions it names. */
struct fake_rule {
	char function[64]; /* exact, or ending in '*'; a lone '*' numbers all calls together */
	int device;        /* -1: any, numbered together; else numbered within that device */
	unsigned long long from, to;
	int code;          /* 0: none */
	int64_t delay_us;
	double value;      /* shown instead of the true power or energy; NaN: none */
};

struct fake_script {
	int64_t epoch_ns;
	char driver[80], nvml[80];
	int cuda;
	int serialise; /* hold the driver's lock while a call is delayed */
	int field_stamp_call; /* stamp fields with the call instead of the update */
	int device_count, rule_count, reload_count;
	unsigned long long reload_at[FAKE_RELOADS_MAX]; /* numbers of calls */
	struct fake_device device[FAKE_DEVICES_MAX];
	struct fake_rule rule[FAKE_RULES_MAX];
};

/* Fills the script from a file; 0, or the line that could not be understood, or -1 when there is no file. */
int fake_script_read(struct fake_script *script, const char *path);

/* The file shared with the tests: counts of calls by function and device. */
struct fake_count {
	char name[64];
	_Atomic uint64_t total, device[FAKE_DEVICES_MAX];
};

struct fake_counts {
	_Atomic uint64_t script_version; /* raised by the test after it replaced the script */
	_Atomic uint64_t reloads;
	_Atomic int64_t reloaded_ns;
	uint64_t reserved[5];
	struct fake_count count[FAKE_FUNCTION_COUNT];
};

/* A device handle is the address of one of these. */
struct nvmlDevice_st {
	int device, mig; /* mig -1: the whole board */
};

/* One call from the first line to the last. Between enter and leave the script's lock is held. */
struct fake_call {
	int code;
	int index, mig; /* -1: none */
	const struct fake_script *script;
	const struct fake_device *device;
	int64_t now_ns;
	double value; /* NaN, or what a rule shows instead */
};

/* Counts the call, delays it, applies the script's rules. Returns 1 with the lock held, or 0 with call->code to return. */
int fake_enter(struct fake_call *call, enum fake_function function, nvmlDevice_t handle);
/* For functions that find their device themselves: the device's own count and rules. Returns as fake_enter. */
int fake_enter_device(struct fake_call *call, enum fake_function function, int index);
/* A field within a call: its own code, and value override in call->value. Keeps the lock whatever happens. */
int fake_field(struct fake_call *call, enum fake_function field);
int fake_leave(struct fake_call *call, int code);
int fake_init(enum fake_function function);
int fake_shutdown(void);
nvmlDevice_t fake_handle(int device, int mig);
int64_t fake_reloaded_ns(void);
int64_t fake_clock_offset_ns(void); /* realtime minus monotonic */

double fake_energy_mj(const struct fake_call *call, int64_t *update_ns);
double fake_power_mw(const struct fake_call *call, enum fake_reading reading, int64_t now_ns, int64_t *update_ns);

/* Opens a function of a device: counted, checked, with its output pointer looked at. */
#define FAKE_ENTER(name, out)                                                                                          \
	struct fake_call call;                                                                                             \
	if (!fake_enter(&call, FN_##name, device))                                                                         \
		return call.code;                                                                                              \
	if (device == NULL || (out) == NULL)                                                                               \
	return fake_leave(&call, NVML_ERROR_INVALID_ARGUMENT)

#endif
