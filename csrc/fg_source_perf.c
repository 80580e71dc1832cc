/* RAPL counters through perf_event_open: the events of one type and CPU are one group, and one read(2) brings all of
 * them. Sums of 64 bits, which the kernel keeps, so nothing wraps. Which events there are is Python's business.
 *
 * The one trick: the sampler asks for sensors one by one in rising order, and the first question of a round reads the
 * whole group; the others are answered from that read, with its time. A sensor that does not come after the last one
 * begins a new round.
 * SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* syscall */
#include "fg_source.h"
#include "fg_sysfs.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SLOTS = 32 }; /* a package has five domains */

struct group {
	size_t first;   /* the sensor that leads it; a group is nothing but the sensors that name the same leader */
	unsigned count; /* values to expect; 0: a descriptor that was handed in, with as many as it has */
	bool seekable;  /* a file in the place of an event */
	size_t next;    /* sensors from here on may be answered from the last read ... */
	uint64_t held;  /* ... which brought so many values, 0 when it failed */
	int64_t at_ns;
	uint32_t half_ns;
	uint64_t values[SLOTS];
};

struct event {
	char *path;
	int fd;
	unsigned slot;
	struct group *group;
};

struct fg_source {
	const struct fg_clock *clock;
	struct group *groups; /* as many as sensors, at most */
	size_t group_count;
	size_t count;
	struct event events[];
};

static void perf_close(struct fg_source *source)
{
	for (size_t i = source->count; i-- > 0;) {
		if (source->events[i].fd >= 0)
			close(source->events[i].fd);
		free(source->events[i].path);
	}
	free(source->groups);
	free(source);
}

static bool same_group(const struct fg_sensor *a, const struct fg_sensor *b)
{
	if (a->fd >= 0 || b->fd >= 0)
		return a->fd == b->fd;
	return a->event.type == b->event.type && a->event.cpu == b->event.cpu;
}

/* The group of sensor `index`: that of a sensor before it, or a new one. */
static struct group *find_group(struct fg_source *source, const struct fg_sensor *sensors, size_t index)
{
	for (size_t g = 0; g < source->group_count; g++)
		if (same_group(&sensors[source->groups[g].first], &sensors[index]))
			return &source->groups[g];
	struct group *group = &source->groups[source->group_count++];
	group->first = index;
	return group;
}

/* Pinned: an event that cannot be counted all the time is an error, never an extrapolation. The group starts when its
 * leader is enabled. */
static enum fg_status open_event(struct event *event, const struct fg_perf_event *what, int leader,
								 struct fg_error *err)
{
	struct perf_event_attr attr = {
		.size = sizeof attr,
		.type = what->type,
		.config = what->config,
		.read_format = PERF_FORMAT_GROUP,
		.disabled = leader < 0,
		.pinned = leader < 0,
	};

	event->fd = (int)syscall(SYS_perf_event_open, &attr, -1, what->cpu, leader, PERF_FLAG_FD_CLOEXEC);
	if (event->fd < 0) {
		int code = errno;
		return fg_error_set(err, fg_status_from_errno(code), code, 0, "perf_event_open %s on CPU %d: %s", event->path,
							what->cpu, strerror(code));
	}
	return FG_OK;
}

static enum fg_status open_sensor(struct fg_source *source, const struct fg_sensor *sensors, size_t index,
								  struct fg_error *err)
{
	const struct fg_sensor *sensor = &sensors[index];
	struct event *event = &source->events[index];
	struct group *group = find_group(source, sensors, index);
	bool leads = group->first == index;

	event->group = group;
	event->path = strdup(sensor->path);
	if (event->path == NULL)
		return fg_error_set(err, FG_NO_MEMORY, 0, 0, "not enough memory for the name of a perf event");
	event->slot = sensor->fd >= 0 ? sensor->event.slot : group->count;
	if (event->slot >= SLOTS)
		return fg_error_set(err, FG_INVALID, 0, 0, "%s: a group must not have more than %d perf events", event->path,
							SLOTS);
	if (sensor->fd < 0) {
		group->count++;
		return open_event(event, &sensor->event, leads ? -1 : source->events[group->first].fd, err);
	}
	if (!leads)
		return FG_OK; /* reads through its leader's descriptor */
	enum fg_status status = fg_sysfs_open(event->path, sensor->fd, &event->fd, err);
	if (status == FG_OK)
		group->seekable = lseek(event->fd, 0, SEEK_CUR) >= 0;
	return status;
}

static enum fg_status perf_open(const struct fg_source_config *config, struct fg_source **out, struct fg_error *err)
{
	enum fg_status status;
	struct fg_source *source = calloc(1, sizeof *source + config->count * sizeof *source->events);

	if (source == NULL)
		return fg_error_set(err, FG_NO_MEMORY, 0, 0, "not enough memory for %zu perf events", config->count);
	source->clock = config->clock;
	source->groups = calloc(config->count, sizeof *source->groups);
	if (source->groups == NULL) {
		status = fg_error_set(err, FG_NO_MEMORY, 0, 0, "not enough memory for %zu groups of perf events",
							  config->count);
		goto fail;
	}
	for (size_t i = 0; i < config->count; i++) {
		source->events[i].fd = -1;
		source->count = i + 1;
		status = open_sensor(source, config->sensors, i, err);
		if (status != FG_OK)
			goto fail;
	}
	for (size_t g = 0; g < source->group_count; g++) {
		const struct group *group = &source->groups[g];
		const struct event *leader = &source->events[group->first];

		if (group->count > 0 && ioctl(leader->fd, PERF_EVENT_IOC_ENABLE, PERF_IOC_FLAG_GROUP) != 0) {
			int code = errno;
			status = fg_error_set(err, fg_status_from_errno(code), code, 0, "enable %s: %s", leader->path,
								  strerror(code));
			goto fail;
		}
	}
	*out = source;
	return FG_OK;
fail:
	perf_close(source);
	return status;
}

/* One read for the whole group: the number of values, then the values. */
static enum fg_status read_group(struct fg_source *source, struct group *group, struct fg_error *err)
{
	const struct event *leader = &source->events[group->first];
	uint64_t words[1 + SLOTS];
	int64_t begin_ns = source->clock->now_ns(source->clock->context);
	ssize_t length = group->seekable ? pread(leader->fd, words, sizeof words, 0)
									 : read(leader->fd, words, sizeof words);
	int code = errno;
	int64_t end_ns = source->clock->now_ns(source->clock->context);

	if (length < 0)
		return fg_error_set(err, fg_status_from_errno(code), code, 0, "read %s: %s", leader->path, strerror(code));
	if (length == 0 && !group->seekable) /* what a pinned group in error state answers, see perf_event_open(2) */
		return fg_error_set(err, FG_LOST, 0, 0, "the kernel no longer counts %s", leader->path);
	if ((size_t)length < sizeof *words || words[0] > SLOTS || (size_t)length != (1 + words[0]) * sizeof *words ||
		(group->count > 0 && words[0] != group->count))
		return fg_error_set(err, FG_MALFORMED, 0, 0, "read %s: %zd bytes are not a group of perf values", leader->path,
							length);
	memcpy(group->values, words + 1, words[0] * sizeof *words);
	group->held = words[0];
	group->at_ns = fg_clock_middle_ns(begin_ns, end_ns);
	group->half_ns = fg_clock_half_ns(begin_ns, end_ns);
	return FG_OK;
}

static enum fg_status perf_read(struct fg_source *source, size_t index, struct fg_reading *out, struct fg_error *err)
{
	const struct event *event = &source->events[index];
	struct group *group = event->group;

	if (index < group->next || group->held == 0) {
		group->held = 0;
		enum fg_status status = read_group(source, group, err);

		if (status != FG_OK)
			return status;
	}
	group->next = index + 1;
	if (event->slot >= group->held)
		return fg_error_set(err, FG_MALFORMED, 0, 0, "read %s: the group has no value %u", event->path, event->slot);
	if (group->values[event->slot] > INT64_MAX)
		return fg_error_set(err, FG_MALFORMED, 0, 0, "%s has a value of more than 63 bits", event->path);
	out->raw = (int64_t)group->values[event->slot];
	out->at_ns = group->at_ns;
	out->half_ns = group->half_ns;
	return FG_OK;
}

const struct fg_source_ops fg_source_perf = {
	.name = "perf",
	.open = perf_open,
	.read = perf_read,
	.close = perf_close,
};
