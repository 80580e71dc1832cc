/* hwmon attributes: an energy (uJ), a power (uW), or a current (mA) times a voltage (mV), as on Jetson's INA3221.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fg_source.h"
#include "fg_sysfs.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct hwmon_sensor {
	char *path, *factor_path; /* factor_path NULL: path alone */
	char *status_path;        /* NULL: no battery */
	int fd, factor_fd, status_fd;
	bool negate, charged; /* charged: the last reading was one of no discharge */
};

struct fg_source {
	size_t count;
	struct hwmon_sensor sensors[];
};

static void hwmon_close(struct fg_source *source)
{
	for (size_t i = 0; i < source->count; i++) {
		struct hwmon_sensor *sensor = &source->sensors[i];

		if (sensor->fd >= 0)
			close(sensor->fd);
		if (sensor->factor_fd >= 0)
			close(sensor->factor_fd);
		if (sensor->status_fd >= 0)
			close(sensor->status_fd);
		free(sensor->path);
		free(sensor->factor_path);
		free(sensor->status_path);
	}
	free(source);
}

static enum fg_status open_sensor(const struct fg_sensor *from, struct hwmon_sensor *to, struct fg_error *err)
{
	to->negate = from->negate;
	to->path = strdup(from->path);
	if (from->factor != NULL)
		to->factor_path = strdup(from->factor);
	if (from->status != NULL)
		to->status_path = strdup(from->status);
	if (to->path == NULL || (from->factor != NULL && to->factor_path == NULL) ||
		(from->status != NULL && to->status_path == NULL))
		return fg_error_set(err, FG_NO_MEMORY, 0, 0, "not enough memory for the path of a hwmon sensor");
	enum fg_status status = fg_sysfs_open(to->path, from->fd, &to->fd, err);
	if (status == FG_OK && from->factor != NULL)
		status = fg_sysfs_open(to->factor_path, -1, &to->factor_fd, err);
	if (status == FG_OK && from->status != NULL)
		status = fg_sysfs_open(to->status_path, -1, &to->status_fd, err);
	return status;
}

/* While a battery charges, its power flows into it, and what the machine draws is not known: a gap of no discharge. */
static void settle_battery(struct hwmon_sensor *sensor, struct fg_reading *out)
{
	static const char word[] = "Discharging";
	char text[sizeof word - 1];
	bool discharges = pread(sensor->status_fd, text, sizeof text, 0) == (ssize_t)sizeof text &&
					  memcmp(text, word, sizeof text) == 0;

	if (!discharges)
		out->raw = 0;
	if (!discharges || sensor->charged)
		out->flags |= FG_SAMPLE_GAP;
	sensor->charged = !discharges;
}

static enum fg_status hwmon_open(const struct fg_source_config *config, struct fg_source **out, struct fg_error *err)
{
	struct fg_source *source = calloc(1, sizeof *source + config->count * sizeof *source->sensors);

	if (source == NULL)
		return fg_error_set(err, FG_NO_MEMORY, 0, 0, "not enough memory for %zu hwmon sensors", config->count);
	for (size_t i = 0; i < config->count; i++) {
		source->sensors[i].fd = source->sensors[i].factor_fd = source->sensors[i].status_fd = -1;
		source->count = i + 1;
		enum fg_status status = open_sensor(&config->sensors[i], &source->sensors[i], err);
		if (status != FG_OK) {
			hwmon_close(source);
			return status;
		}
	}
	*out = source;
	return FG_OK;
}

static enum fg_status hwmon_read(struct fg_source *source, size_t index, struct fg_reading *out, struct fg_error *err)
{
	struct hwmon_sensor *sensor = &source->sensors[index];
	int64_t raw, factor;
	enum fg_status status = fg_sysfs_read(sensor->fd, sensor->path, &raw, err);

	if (status != FG_OK)
		return status;
	if (sensor->negate)
		raw = -raw; /* 63 bits and a sign: INT64_MIN cannot be read */
	if (sensor->factor_path != NULL) {
		status = fg_sysfs_read(sensor->factor_fd, sensor->factor_path, &factor, err);
		if (status != FG_OK)
			return status;
		if (__builtin_mul_overflow(raw, factor, &raw)) /* mA * mV = uW */
			return fg_error_set(err, FG_MALFORMED, 0, 0, "%s times %s is more than 63 bits", sensor->path,
								sensor->factor_path);
	}
	out->raw = raw;
	if (sensor->status_path != NULL)
		settle_battery(sensor, out);
	return FG_OK;
}

const struct fg_source_ops fg_source_hwmon = {
	.name = "hwmon",
	.open = hwmon_open,
	.read = hwmon_read,
	.close = hwmon_close,
};
