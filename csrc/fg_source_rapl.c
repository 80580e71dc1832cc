/* RAPL counters through powercap: descriptors kept open, one pread a reading. Wraps are the account's business, zones
 * and their names Python's.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fg_source.h"
#include "fg_sysfs.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct attribute {
	char *path;
	int fd;
};

struct fg_source {
	size_t count;
	struct attribute attributes[];
};

static void rapl_close(struct fg_source *source)
{
	for (size_t i = 0; i < source->count; i++) {
		if (source->attributes[i].fd >= 0)
			close(source->attributes[i].fd);
		free(source->attributes[i].path);
	}
	free(source);
}

static enum fg_status rapl_open(const struct fg_source_config *config, struct fg_source **out, struct fg_error *err)
{
	enum fg_status status;
	struct fg_source *source = calloc(1, sizeof *source + config->count * sizeof *source->attributes);

	if (source == NULL)
		return fg_error_set(err, FG_NO_MEMORY, 0, 0, "not enough memory for %zu powercap zones", config->count);
	for (size_t i = 0; i < config->count; i++) {
		struct attribute *attribute = &source->attributes[i];

		attribute->fd = -1;
		source->count = i + 1;
		attribute->path = strdup(config->sensors[i].path);
		if (attribute->path == NULL) {
			status = fg_error_set(err, FG_NO_MEMORY, 0, 0, "not enough memory for the path of a powercap zone");
			goto fail;
		}
		status = fg_sysfs_open(attribute->path, config->sensors[i].fd, &attribute->fd, err);
		if (status != FG_OK)
			goto fail;
	}
	*out = source;
	return FG_OK;
fail:
	rapl_close(source);
	return status;
}

static enum fg_status rapl_read(struct fg_source *source, size_t index, struct fg_reading *out, struct fg_error *err)
{
	const struct attribute *attribute = &source->attributes[index];
	int64_t raw;
	enum fg_status status = fg_sysfs_read(attribute->fd, attribute->path, &raw, err);

	if (status != FG_OK)
		return status;
	if (raw < 0)
		return fg_error_set(err, FG_MALFORMED, 0, 0, "%s holds a negative energy", attribute->path);
	out->raw = raw;
	return FG_OK;
}

const struct fg_source_ops fg_source_rapl = {
	.name = "rapl",
	.open = rapl_open,
	.read = rapl_read,
	.close = rapl_close,
};
