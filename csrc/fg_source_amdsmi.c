/* Energy counters of AMD boards: one reading is one library call. If another user of the library has shut it down, the
 * source initialises it and finds each board again: handles do not survive. Calls that may never return run on a
 * thread that can be left behind.
 *
 * A counter of 2^-16 J is shown modulo the channel's modulus. If that is 2^32, a counter of 32 bits wraps there and one
 * of 64 bits seems to; if it is 2^62, so does a counter of 64 bits that wraps. A counter of another resolution is shown
 * in uJ.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fg_amdsmi.h"
#include "fg_thread.h"
#include "fg_traits.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define WHOLE (UINT64_C(1) << 62)

struct board {
	char *key; /* bus id or UUID */
	struct fg_amdsmi_handle *handle;
	double resolution_uj;
	uint64_t modulus;
};

struct fg_source {
	struct fg_amdsmi *amdsmi;
	const struct fg_clock *clock;
	/* for the thread that opens */
	char *library;
	struct fg_turn *turn;
	enum fg_status status;
	struct fg_error err;
	size_t count;
	struct board boards[];
};

static void give_back(void *context)
{
	struct fg_source *source = context;

	for (size_t i = 0; i < source->count; i++)
		free(source->boards[i].key);
	if (source->amdsmi != NULL)
		fg_amdsmi_close(source->amdsmi);
	free(source->library);
	free(source);
}

static void amdsmi_close(struct fg_source *source)
{
	give_back(source); /* calls nothing of the library */
}

static void connect_library(void *context)
{
	struct fg_source *source = context;

	source->status = fg_amdsmi_open(source->library, source->turn, &source->amdsmi, &source->err);
	for (size_t i = 0; source->status == FG_OK && i < source->count; i++)
		source->status = fg_amdsmi_find(source->amdsmi, source->boards[i].key, &source->boards[i].handle, &source->err);
}

/* A copy of the configuration: the thread that opens may run longer than the caller waits. */
static struct fg_source *describe(const struct fg_source_config *config)
{
	struct fg_source *source = calloc(1, sizeof *source + config->count * sizeof *source->boards);

	if (source == NULL)
		return NULL;
	source->turn = config->turn;
	source->clock = config->clock;
	source->library = strdup(config->library);
	bool complete = source->library != NULL;
	for (size_t i = 0; complete && i < config->count; i++) {
		struct board *board = &source->boards[i];

		source->count = i + 1;
		board->resolution_uj = config->sensors[i].resolution_uj;
		board->modulus = config->sensors[i].modulus;
		board->key = strdup(config->sensors[i].uuid);
		complete = board->key != NULL;
	}
	if (!complete) {
		give_back(source);
		return NULL;
	}
	return source;
}

static enum fg_status amdsmi_open(const struct fg_source_config *config, struct fg_source **out, struct fg_error *err)
{
	struct fg_source *source = describe(config);

	if (source == NULL)
		return fg_error_set(err, FG_NO_MEMORY, 0, 0, "not enough memory for %zu AMD channels", config->count);
	if (!fg_thread_call(connect_library, give_back, source, FG_PATIENCE_NS))
		return fg_error_set(err, FG_READ_FAILED, 0, 0, "%s does not answer", config->library);
	enum fg_status status = source->status;
	if (status != FG_OK) {
		if (err != NULL)
			*err = source->err;
		give_back(source);
		return status;
	}
	*out = source;
	return FG_OK;
}

/* Initialise again and find the board again. A board that cannot be found is lost. */
static enum fg_status recover(struct fg_source *source, struct board *board, struct fg_error *err)
{
	int code = fg_amdsmi_init_again(source->amdsmi);

	if (code != FG_AMDSMI_SUCCESS) {
		char text[96];

		fg_amdsmi_text(source->amdsmi, code, text, sizeof text);
		return fg_error_set(err, fg_amdsmi_status(code), 0, code, "amdsmi_init: %s (AMD SMI %d)", text, code);
	}
	enum fg_status status = fg_amdsmi_find(source->amdsmi, board->key, &board->handle, err);
	if (status == FG_NOT_FOUND)
		return fg_error_set(err, FG_LOST, 0, FG_AMDSMI_NOT_FOUND, "%s is gone (AMD SMI %d)", board->key,
							FG_AMDSMI_NOT_FOUND);
	return status;
}

/* The integer to show for what the counter shows. False: it fits no integer. */
static bool shown(const struct board *board, uint64_t accumulator, int64_t *raw)
{
	if (fg_amdsmi_is_binary(board->resolution_uj)) {
		*raw = (int64_t)(accumulator % (board->modulus > 0 ? board->modulus : WHOLE));
		return true;
	}
	long double energy_uj = (long double)accumulator * board->resolution_uj;
	*raw = energy_uj < 0x1p62L ? (int64_t)energy_uj : 0;
	return energy_uj < 0x1p62L;
}

/* Time of the value: between the begin of the call and the driver's own stamp, where the stamp is of this call. A stamp
 * from before is of a value that the library had kept; for such a value the counter has only not moved. */
static void stamp(const struct fg_amdsmi_energy *energy, int64_t boot_ahead_ns, int64_t begin_ns, int64_t end_ns,
				  struct fg_reading *out)
{
	int64_t driver_ns = energy->stamp_ns < INT64_MAX / 2 ? (int64_t)energy->stamp_ns - boot_ahead_ns : INT64_MAX;

	if (driver_ns >= begin_ns && driver_ns < end_ns)
		end_ns = driver_ns;
	out->at_ns = fg_clock_middle_ns(begin_ns, end_ns);
	out->half_ns = fg_clock_half_ns(begin_ns, end_ns);
}

/* By how much CLOCK_BOOTTIME is ahead, or by a little less: so a stamp of the driver is never taken as too early. */
static int64_t boot_ahead_ns(const struct fg_clock *clock)
{
	struct timespec boot;

	clock_gettime(CLOCK_BOOTTIME, &boot);
	return (int64_t)boot.tv_sec * FG_NS_PER_S + boot.tv_nsec - clock->now_ns(clock->context);
}

static enum fg_status amdsmi_read(struct fg_source *source, size_t index, struct fg_reading *out, struct fg_error *err)
{
	struct board *board = &source->boards[index];
	struct fg_amdsmi_energy energy;
	int64_t raw, begin_ns, end_ns, ahead_ns = boot_ahead_ns(source->clock);
	int code = fg_amdsmi_read(source->amdsmi, board->handle, source->clock, &energy, &begin_ns, &end_ns);

	if (code == FG_AMDSMI_NOT_INIT || code == FG_AMDSMI_NOT_FOUND) {
		enum fg_status status = recover(source, board, err);

		if (status != FG_OK)
			return status;
		code = fg_amdsmi_read(source->amdsmi, board->handle, source->clock, &energy, &begin_ns, &end_ns);
	}
	if (code != FG_AMDSMI_SUCCESS) {
		char text[96];

		fg_amdsmi_text(source->amdsmi, code, text, sizeof text);
		return fg_error_set(err, fg_amdsmi_status(code), 0, code > 0 ? code : 0, "%s: %s (AMD SMI %d)", board->key,
							text, code);
	}
	if (energy.resolution_uj != board->resolution_uj)
		return fg_error_set(err, FG_MALFORMED, 0, 0, "%s reports a resolution of %g uJ, not %g as before", board->key,
							energy.resolution_uj, board->resolution_uj);
	if (!shown(board, energy.accumulator, &raw))
		return fg_error_set(err, FG_MALFORMED, 0, 0, "%s reports an impossible energy: %" PRIu64 " times %g uJ",
							board->key, energy.accumulator, energy.resolution_uj);
	out->raw = raw;
	stamp(&energy, ahead_ns, begin_ns, end_ns, out);
	return FG_OK;
}

const struct fg_source_ops fg_source_amdsmi = {
	.name = "amdsmi",
	.open = amdsmi_open,
	.read = amdsmi_read,
	.close = amdsmi_close,
};
