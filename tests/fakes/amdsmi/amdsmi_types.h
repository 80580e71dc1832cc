/* The part of AMD's binary interface that the fake speaks; a test compares it with AMD's Python bindings.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef FAKES_AMDSMI_TYPES_H
#define FAKES_AMDSMI_TYPES_H

#include <stdint.h>

typedef struct {
	uint32_t major, minor, release;
	const char *build;
} version_26;

typedef struct {
	uint32_t year, major, minor, release;
	const char *build;
} version_25;

typedef union {
	struct {
		uint64_t function_number : 3, device_number : 5, bus_number : 8, domain_number : 48;
	} fields;
	uint64_t as_uint;
} bdf_t;

typedef struct {
	uint64_t power_cap, default_power_cap, dpm_cap, min_power_cap, max_power_cap, reserved[3];
} power_cap_t;

typedef struct {
	char market_name[256];
	uint32_t vendor_id;
	char vendor_name[256];
	uint32_t subvendor_id;
	uint64_t device_id;
	uint32_t rev_id;
	char asic_serial[256];
	uint32_t oam_id, num_of_compute_units;
	uint64_t target_graphics_version;
	uint32_t subsystem_id, reserved[21];
} asic_26;

typedef struct {
	char market_name[64];
	uint32_t vendor_id;
	char vendor_name[64];
	uint32_t subvendor_id;
	uint64_t device_id;
	uint32_t rev_id;
	char asic_serial[32];
	uint32_t reserved[3];
} asic_23;

#endif
