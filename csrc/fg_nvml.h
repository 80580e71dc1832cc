/* NVIDIA's management library, loaded at run time: its declarations, its devices, and reading one of them.
 * SPDX-License-Identifier: Apache-2.0
 *
 * The build needs neither NVIDIA's library nor its header; a test compares the structure below with that header. The
 * library is thread-safe and counts its initialisations; its state does not survive fork. Every text from it is cut to
 * its buffer and reduced to printable ASCII. */
#ifndef FG_NVML_H
#define FG_NVML_H

#include "fg_error.h"
#include "fg_source.h"

#include <stdbool.h>

/* nvmlReturn_t: the codes with a meaning here (nvml.h of driver 580) */
enum fg_nvml_return {
	FG_NVML_SUCCESS = 0,
	FG_NVML_UNINITIALIZED = 1,
	FG_NVML_INVALID_ARGUMENT = 2,
	FG_NVML_NOT_SUPPORTED = 3,
	FG_NVML_NO_PERMISSION = 4,
	FG_NVML_NOT_FOUND = 6,
	FG_NVML_DRIVER_NOT_LOADED = 9,
	FG_NVML_LIBRARY_NOT_FOUND = 12,
	FG_NVML_FUNCTION_NOT_FOUND = 13,
	FG_NVML_GPU_IS_LOST = 15,
	FG_NVML_RESET_REQUIRED = 16,
	FG_NVML_LIB_RM_VERSION_MISMATCH = 18,
	FG_NVML_NOT_READY = 27,
	FG_NVML_UNKNOWN = 999,
};

/* nvmlFieldValue_t */
struct fg_nvml_field {
	unsigned field_id;
	unsigned scope_id;
	long long timestamp_us; /* CPU epoch */
	long long latency_us;
	int value_type; /* 0 double, 1 unsigned, 2 unsigned long, 3 unsigned long long, 4 long long, 5 int, 6 u. short */
	int status;     /* of this one field */
	union {
		double d;
		unsigned u;
		unsigned long ul;
		unsigned long long ull;
		long long sll;
		int i;
		unsigned short us;
	} value;
};

struct fg_nvml;        /* a loaded and initialised library */
struct fg_nvml_handle; /* nvmlDevice_t points to one */

enum { FG_NVML_PARTS = 8 }; /* the largest known split of a board is 7 */

struct fg_nvml_device {
	char uuid[96];
	char name[96];
	char bus_id[32]; /* empty: the library does not report it */
	bool mig;        /* split into MIG instances; power and energy remain the whole board's */
	unsigned mig_count;
	char mig_uuids[FG_NVML_PARTS][96];
	int64_t power_limit_mw; /* enforced limit; 0 unknown */
	int energy_code;        /* nvmlReturn of a trial read of each quantity */
	int instant_code;
	int average_code;
	int usage_code;
	unsigned scope; /* scope at which instant or average power answered: 0 GPU, 1 module */
};

/* dlopen `library`, find its functions (versioned names first) and initialise it. FG_NOT_FOUND: there is no library
 * or no driver of this name; FG_NOT_SUPPORTED: the library lacks a required function. */
FG_MUST_CHECK enum fg_status fg_nvml_open(const char *library, struct fg_nvml **out, struct fg_error *err);
void fg_nvml_close(struct fg_nvml *nvml);

FG_MUST_CHECK enum fg_status fg_nvml_device_count(struct fg_nvml *nvml, unsigned *out, struct fg_error *err);
FG_MUST_CHECK enum fg_status fg_nvml_device(struct fg_nvml *nvml, unsigned index, struct fg_nvml_device *out,
											struct fg_error *err);
/* The driver's version, or an empty string. */
void fg_nvml_driver(struct fg_nvml *nvml, char *out, size_t size);

FG_MUST_CHECK enum fg_status fg_nvml_find(struct fg_nvml *nvml, const char *uuid, struct fg_nvml_handle **out,
										  struct fg_error *err);
/* Read one quantity; returns the nvmlReturn. */
int fg_nvml_read(struct fg_nvml *nvml, struct fg_nvml_handle *device, enum fg_nvml_quantity quantity, unsigned scope,
				 int64_t *raw);
/* Initialise again after the library lost its state (fork, driver reload). Returns the nvmlReturn. */
int fg_nvml_init_again(struct fg_nvml *nvml);

/* The status and the name of an nvmlReturn. */
enum fg_status fg_nvml_status(int code);
const char *fg_nvml_text(struct fg_nvml *nvml, int code);

#endif
