/* A source: one way to read sensors, as a table of functions.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A source knows nothing about rings, samplers or other sources. Python (fastgreen/sensors/) finds the sensors, names
 * them and explains why one cannot be read. C gets plain descriptions and only reads.
 * A source belongs to one thread at a time; open may run on another thread than read. */
#ifndef FG_SOURCE_H
#define FG_SOURCE_H

#include "fg_clock.h"
#include "fg_error.h"
#include "fg_ring.h"

#include <stdbool.h>

/* The quantity to read from an NVIDIA device; the first three are in the order of preference. */
enum fg_nvml_quantity {
	FG_NVML_ENERGY,        /* nvmlDeviceGetTotalEnergyConsumption, mJ */
	FG_NVML_POWER_INSTANT, /* field 186, mW */
	FG_NVML_POWER_AVERAGE, /* field 185, mW */
	FG_NVML_POWER_USAGE,   /* nvmlDeviceGetPowerUsage, mW: a different mean on every generation */
};

/* A recorded channel to play again. The columns belong to the caller and must outlive the source. */
struct fg_recording {
	const struct fg_sample *samples; /* at_ns counts from the moment the source is opened */
	size_t count;
};

/* One counter of a kernel event source, in the words of perf_event_open(2). */
struct fg_perf_event {
	uint32_t type;
	uint64_t config;
	int cpu;       /* the CPU that reads for its package */
	unsigned slot; /* if sensor.fd is not -1: the position of the value in that group */
};

/* One sensor; each source uses only some of the members. open copies the strings. */
struct fg_sensor {
	const char *path;   /* rapl, hwmon: the attribute; procstat: the stat file; perf: its name in messages */
	const char *factor; /* hwmon: a second attribute to multiply with (current x voltage), or NULL */
	const char *status; /* hwmon: a battery's status: unless it is "Discharging", nothing is drawn from it; or NULL */
	bool negate;        /* hwmon: the sign is the other way round */
	int fd;             /* an open descriptor to use instead of path (duplicated by open), or -1 */
	const char *uuid;   /* nvml: the device; amdsmi: the same, or its bus id */
	enum fg_nvml_quantity quantity;
	unsigned scope;             /* nvml: 0 GPU, 1 module, 2 memory */
	double resolution_uj;       /* amdsmi: a reading of another resolution is refused */
	uint64_t modulus;           /* amdsmi: show a counter of 2^-16 J modulo this */
	int64_t idle_mw, slope_mw;  /* procstat: whole machine idle, and what one busy CPU adds */
	struct fg_perf_event event; /* perf */
	struct fg_recording record; /* replay */
};

struct fg_turn;

struct fg_source_config {
	const struct fg_sensor *sensors;
	size_t count;
	const char *library;  /* nvml, amdsmi: the library to load */
	struct fg_turn *turn; /* amdsmi: the one turn of this process for that library; outlives the source */
	double speed;         /* replay: 1 in real time, 2 twice as fast, 0 as fast as it can */
	const struct fg_clock *clock;
};

struct fg_reading {
	int64_t raw;
	/* Set by a source that knows the time of the value better than the sampler; at_ns 0: the sampler stamps it. */
	int64_t at_ns;
	uint32_t half_ns;
	uint16_t wraps; /* replay only */
	uint16_t flags; /* enum fg_sample_flag */
};

struct fg_source; /* each source defines its own */

/* Some drivers held a lock for 10 s and then continued; a call that takes longer than this counts as hung. */
#define FG_PATIENCE_NS (15 * FG_NS_PER_S)

struct fg_source_ops {
	const char *name;
	/* Open all sensors of the configuration; if one fails, close the others. The error message names the sensor. */
	enum fg_status (*open)(const struct fg_source_config *config, struct fg_source **out, struct fg_error *err);
	/* Read sensor `index`. FG_NOT_READY: no new value, which is not a fault. FG_LOST: the sensor is gone for
	 * ever. It never allocates, and formats text only if it fails. */
	enum fg_status (*read)(struct fg_source *source, size_t index, struct fg_reading *out, struct fg_error *err);
	void (*close)(struct fg_source *source);
	/* NULL, or for a source with its own timetable: the instant of the next value (INT64_MAX: there are no more). The
	 * sampler reads this source until FG_NOT_READY at every tick. */
	int64_t (*due_at_ns)(struct fg_source *source);
	/* If one read takes longer than this, the source counts as hung and is left behind; 0: FG_PATIENCE_NS. */
	int64_t patience_ns;
};

extern const struct fg_source_ops fg_source_rapl;     /* powercap counters, uJ */
extern const struct fg_source_ops fg_source_perf;     /* the same through perf_event_open, the PMU's own unit */
extern const struct fg_source_ops fg_source_hwmon;    /* hwmon counters, uJ, and powers, uW */
extern const struct fg_source_ops fg_source_nvml;     /* NVIDIA boards, mJ and mW */
extern const struct fg_source_ops fg_source_amdsmi;   /* AMD boards, 2^-16 J or uJ */
extern const struct fg_source_ops fg_source_procstat; /* an estimate from CPU time, uJ */
extern const struct fg_source_ops fg_source_replay;   /* a recorded run */

/* The source of that name, or NULL. */
const struct fg_source_ops *fg_source_find(const char *name);

#endif
