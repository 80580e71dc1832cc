/* NVIDIA boards: one reading is one library call. When the library has forgotten its initialisation (fork, driver
 * reload), the source initialises it and finds each board by its UUID again: handles and indices do not survive.
 * Calls that may never return run on a thread that can be left behind.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fg_nvml.h"
#include "fg_thread.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* As Python's PLAUSIBLE_W: a board cannot draw a megawatt, so a larger value is not a reading. */
#define MOST_POWER_MW INT64_C(1000000000)

struct board {
	char *uuid;
	struct fg_nvml_handle *handle;
	enum fg_nvml_quantity quantity;
	unsigned scope;
};

struct fg_source {
	struct fg_nvml *nvml;
	/* for the thread that opens */
	char *library;
	enum fg_status status;
	struct fg_error err;
	size_t count;
	struct board boards[];
};

static void give_back(void *context)
{
	struct fg_source *source = context;

	for (size_t i = 0; i < source->count; i++)
		free(source->boards[i].uuid);
	if (source->nvml != NULL)
		fg_nvml_close(source->nvml);
	free(source->library);
	free(source);
}

static void nvml_close(struct fg_source *source)
{
	fg_thread_call(give_back, NULL, source, FG_PATIENCE_NS); /* a hung driver hangs here too */
}

static void connect_library(void *context)
{
	struct fg_source *source = context;

	source->status = fg_nvml_open(source->library, &source->nvml, &source->err);
	for (size_t i = 0; source->status == FG_OK && i < source->count; i++)
		source->status = fg_nvml_find(source->nvml, source->boards[i].uuid, &source->boards[i].handle, &source->err);
}

/* A copy of the configuration: the thread that opens may run longer than the caller waits. */
static struct fg_source *describe(const struct fg_source_config *config)
{
	struct fg_source *source = calloc(1, sizeof *source + config->count * sizeof *source->boards);

	if (source == NULL)
		return NULL;
	source->library = strdup(config->library);
	bool complete = source->library != NULL;
	for (size_t i = 0; complete && i < config->count; i++) {
		struct board *board = &source->boards[i];

		source->count = i + 1;
		board->quantity = config->sensors[i].quantity;
		board->scope = config->sensors[i].scope;
		board->uuid = strdup(config->sensors[i].uuid);
		complete = board->uuid != NULL;
	}
	if (!complete) {
		give_back(source);
		return NULL;
	}
	return source;
}

static enum fg_status nvml_open(const struct fg_source_config *config, struct fg_source **out, struct fg_error *err)
{
	struct fg_source *source = describe(config);

	if (source == NULL)
		return fg_error_set(err, FG_NO_MEMORY, 0, 0, "not enough memory for %zu NVIDIA channels", config->count);
	if (!fg_thread_call(connect_library, give_back, source, FG_PATIENCE_NS))
		return fg_error_set(err, FG_READ_FAILED, 0, 0, "%s does not answer", config->library);
	enum fg_status status = source->status;
	if (status != FG_OK) {
		if (err != NULL)
			*err = source->err;
		nvml_close(source);
		return status;
	}
	*out = source;
	return FG_OK;
}

static int recover(struct fg_source *source)
{
	int code = fg_nvml_init_again(source->nvml);

	for (size_t i = 0; code == FG_NVML_SUCCESS && i < source->count; i++) {
		struct fg_nvml_handle *handle;

		/* A board that is lost keeps its old handle and fails alone. */
		if (fg_nvml_find(source->nvml, source->boards[i].uuid, &handle, NULL) == FG_OK)
			source->boards[i].handle = handle;
	}
	return code;
}

static enum fg_status nvml_read(struct fg_source *source, size_t index, struct fg_reading *out, struct fg_error *err)
{
	struct board *board = &source->boards[index];
	bool is_energy = board->quantity == FG_NVML_ENERGY;
	int64_t raw;
	int code = fg_nvml_read(source->nvml, board->handle, board->quantity, board->scope, &raw);

	if (code == FG_NVML_UNINITIALIZED && recover(source) == FG_NVML_SUCCESS)
		code = fg_nvml_read(source->nvml, board->handle, board->quantity, board->scope, &raw);
	if (code != FG_NVML_SUCCESS)
		return fg_error_set(err, fg_nvml_status(code), 0, code, "%s: %s (NVML %d)", board->uuid,
							fg_nvml_text(source->nvml, code), code);
	/* Some drivers answer 0 mW when polled too fast; every board draws more than that. */
	if (!is_energy && raw == 0)
		return fg_error_set(err, FG_READ_FAILED, 0, 0, "%s reports a power of 0 mW", board->uuid);
	if (raw < 0 || (!is_energy && raw > MOST_POWER_MW))
		return fg_error_set(err, FG_MALFORMED, 0, 0, "%s reports an impossible %s: %" PRId64 " %s", board->uuid,
							is_energy ? "energy" : "power", raw, is_energy ? "mJ" : "mW");
	out->raw = raw;
	return FG_OK;
}

const struct fg_source_ops fg_source_nvml = {
	.name = "nvml",
	.open = nvml_open,
	.read = nvml_read,
	.close = nvml_close,
};
