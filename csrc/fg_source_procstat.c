/* An estimate of CPU energy from CPU time: idle watts at all times, and a slope for each busy CPU. It is
 * cumulative like a counter, so it misses no work between two readings.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fg_source.h"
#include "fg_sysfs.h"
#include "fg_traits.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct fg_source {
	int fd;
	const struct fg_clock *clock;
	int64_t opened_at_ns;
	int64_t idle_mw, slope_mw;
	int64_t ns_per_tick;
	char *path;
};

static void procstat_close(struct fg_source *source)
{
	if (source->fd >= 0)
		close(source->fd);
	free(source->path);
	free(source);
}

static enum fg_status procstat_open(const struct fg_source_config *config, struct fg_source **out, struct fg_error *err)
{
	const struct fg_sensor *sensor = config->sensors;
	enum fg_status status;

	if (config->count != 1)
		return fg_error_set(err, FG_INVALID, 0, 0, "procstat must have one channel, not %zu", config->count);
	struct fg_source *source = calloc(1, sizeof *source);
	if (source == NULL)
		return fg_error_set(err, FG_NO_MEMORY, 0, 0, "not enough memory for the procstat source");
	source->fd = -1;
	source->clock = config->clock;
	source->opened_at_ns = config->clock->now_ns(config->clock->context);
	source->idle_mw = sensor->idle_mw;
	source->slope_mw = sensor->slope_mw;
	source->ns_per_tick = FG_NS_PER_S / sysconf(_SC_CLK_TCK);
	source->path = strdup(sensor->path);
	if (source->path == NULL) {
		status = fg_error_set(err, FG_NO_MEMORY, 0, 0, "not enough memory for the path of the stat file");
		goto fail;
	}
	status = fg_sysfs_open(source->path, sensor->fd, &source->fd, err);
	if (status != FG_OK)
		goto fail;
	*out = source;
	return FG_OK;
fail:
	procstat_close(source);
	return status;
}

/* Busy ticks of the first line, "cpu  user nice system idle iowait irq softirq steal guest guest_nice"; guest time is
 * already inside user and nice. False: the line has another form. */
static bool busy_ticks(const char *line, int64_t *out)
{
	static const bool busy[] = {true, true, true, false, false, true, true, true};
	int64_t sum = 0;
	char *end;

	if (strncmp(line, "cpu ", 4) != 0)
		return false;
	line += 4;
	for (size_t i = 0; i < sizeof busy / sizeof *busy; i++) {
		errno = 0;
		long long ticks = strtoll(line, &end, 10);
		if (end == line || errno != 0 || ticks < 0)
			return i >= 4 && *line == '\n' ? (*out = sum, true) : false; /* old kernels end after idle */
		if (busy[i] && __builtin_add_overflow(sum, (int64_t)ticks, &sum))
			return false;
		line = end;
	}
	*out = sum;
	return true;
}

static enum fg_status procstat_read(struct fg_source *source, size_t index, struct fg_reading *out,
									struct fg_error *err)
{
	char text[256];
	int64_t ticks;
	ssize_t length = pread(source->fd, text, sizeof text - 1, 0);

	(void)index;
	if (length < 0) {
		int code = errno;
		return fg_error_set(err, fg_status_from_errno(code), code, 0, "pread %s: %s", source->path, strerror(code));
	}
	text[length] = '\0';
	if (!busy_ticks(text, &ticks))
		return fg_error_set(err, FG_MALFORMED, 0, 0, "%s must begin with a line of CPU times", source->path);
	/* mW * ns = pJ, which 63 bits hold for 9 MJ only: a day of 100 W. */
	int64_t elapsed_ns = source->clock->now_ns(source->clock->context) - source->opened_at_ns;
	fg_int128 energy_uj = ((fg_int128)source->idle_mw * elapsed_ns +
						   (fg_int128)source->slope_mw * ((fg_int128)ticks * source->ns_per_tick)) /
						  1000000;
	if (energy_uj > INT64_MAX)
		return fg_error_set(err, FG_MALFORMED, 0, 0, "%s shows an impossible CPU time", source->path);
	out->raw = (int64_t)energy_uj;
	return FG_OK;
}

const struct fg_source_ops fg_source_procstat = {
	.name = "procstat",
	.open = procstat_open,
	.read = procstat_read,
	.close = procstat_close,
};
