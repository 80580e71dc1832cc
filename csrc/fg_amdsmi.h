/* AMD's management library, loaded at run time: its declarations, its boards, and the energy counter of one of them.
 * SPDX-License-Identifier: Apache-2.0
 *
 * The build needs neither AMD's library nor its header. Only functions are called whose arguments are the same in all
 * interface versions from 23 to 26; a test compares the declarations with AMD's own bindings. Another version is
 * refused.
 *
 * The library is not thread-safe before ROCm 7.2, so every call takes a turn that all users in this process share. It
 * does not count its initialisations: a shutdown would end the library for all its users in this process, PyTorch
 * among them. So it is initialised once and stays loaded until the process ends.
 *
 * Every text from it is cut to its buffer and reduced to printable ASCII. */
#ifndef FG_AMDSMI_H
#define FG_AMDSMI_H

#include "fg_error.h"
#include "fg_source.h"
#include "fg_thread.h"

#include <stdbool.h>
#include <stdint.h>

/* amdsmi_status_t: the codes with a meaning here */
enum fg_amdsmi_return {
	FG_AMDSMI_SUCCESS = 0,
	FG_AMDSMI_INVAL = 1,
	FG_AMDSMI_NOT_SUPPORTED = 2,
	FG_AMDSMI_NOT_YET_IMPLEMENTED = 3,
	FG_AMDSMI_FAIL_LOAD_MODULE = 4,
	FG_AMDSMI_FAIL_LOAD_SYMBOL = 5,
	FG_AMDSMI_NO_PERM = 10,
	FG_AMDSMI_NOT_FOUND = 31,
	FG_AMDSMI_NOT_INIT = 32,
	FG_AMDSMI_DRIVER_NOT_LOADED = 34,
	/* of this file, not of the library */
	FG_AMDSMI_NO_TURN = -1, /* another call into the library has not come back */
};

struct fg_amdsmi;        /* a loaded and initialised library */
struct fg_amdsmi_handle; /* amdsmi_processor_handle points to one */

/* One reading of the energy counter. */
struct fg_amdsmi_energy {
	uint64_t accumulator; /* since the driver loaded, in steps of the resolution */
	double resolution_uj;
	uint64_t stamp_ns; /* CLOCK_BOOTTIME when the driver took the reading; 0 or old in some versions */
};

struct fg_amdsmi_device {
	char uuid[96];   /* empty: the library does not report it */
	char bus_id[32]; /* 0000:03:00.0; empty: the library does not report it */
	char name[256];
	unsigned socket;        /* the parts of a board in partition mode have one socket */
	int64_t power_limit_mw; /* 0 unknown */
	int energy_code;        /* amdsmi_status_t of a trial read of the counter */
	char energy_text[96];   /* its name */
	struct fg_amdsmi_energy energy;
};

/* dlopen `library`, find its functions, initialise it and check its version. `turn` belongs to the caller, outlives the
 * library, and is the same for all users in this process. FG_NOT_FOUND: there is no library or no driver;
 * FG_NOT_SUPPORTED: a required function is missing, or the interface is of another version. */
FG_MUST_CHECK enum fg_status fg_amdsmi_open(const char *library, struct fg_turn *turn, struct fg_amdsmi **out,
											struct fg_error *err);
void fg_amdsmi_close(struct fg_amdsmi *amdsmi);

/* The version of the interface, as a text. */
const char *fg_amdsmi_version(const struct fg_amdsmi *amdsmi);

/* GPUs of all sockets, in the library's order. */
FG_MUST_CHECK enum fg_status fg_amdsmi_device_count(struct fg_amdsmi *amdsmi, unsigned *out, struct fg_error *err);
FG_MUST_CHECK enum fg_status fg_amdsmi_device(struct fg_amdsmi *amdsmi, unsigned index, struct fg_amdsmi_device *out,
											  struct fg_error *err);
/* The GPU of that bus id or UUID, whichever `key` is. */
FG_MUST_CHECK enum fg_status fg_amdsmi_find(struct fg_amdsmi *amdsmi, const char *key, struct fg_amdsmi_handle **out,
											struct fg_error *err);

/* Read the counter; returns the amdsmi_status_t. `clock` stamps the call itself, without the wait for its turn, as
 * *begin_at_ns and *end_at_ns. */
int fg_amdsmi_read(struct fg_amdsmi *amdsmi, struct fg_amdsmi_handle *device, const struct fg_clock *clock,
				   struct fg_amdsmi_energy *out, int64_t *begin_at_ns, int64_t *end_at_ns);
/* Initialise again after another user of the library has shut it down. Returns the amdsmi_status_t. */
int fg_amdsmi_init_again(struct fg_amdsmi *amdsmi);

/* True if the counter counts 2^-16 J. The library shows that as 15.3 uJ (the driver: 15.259 uJ). */
bool fg_amdsmi_is_binary(double resolution_uj);

/* The status and the name of an amdsmi_status_t. */
enum fg_status fg_amdsmi_status(int code);
void fg_amdsmi_text(struct fg_amdsmi *amdsmi, int code, char *out, size_t size);

#endif
