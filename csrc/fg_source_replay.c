/* Plays recorded channels again: each sample is handed out when its time has come, with its own stamp, so that windows
 * of now fall on the power of then.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fg_source.h"

#include <stdlib.h>

struct fg_source {
	const struct fg_clock *clock;
	int64_t opened_at_ns;
	double speed;
	size_t count;
	struct track {
		struct fg_recording record; /* the caller's columns */
		size_t next;
	} tracks[];
};

static enum fg_status replay_open(const struct fg_source_config *config, struct fg_source **out, struct fg_error *err)
{
	struct fg_source *source = calloc(1, sizeof *source + config->count * sizeof *source->tracks);

	if (source == NULL)
		return fg_error_set(err, FG_NO_MEMORY, 0, 0, "not enough memory to replay %zu channels", config->count);
	source->clock = config->clock;
	source->opened_at_ns = config->clock->now_ns(config->clock->context);
	source->speed = config->speed;
	source->count = config->count;
	for (size_t i = 0; i < config->count; i++)
		source->tracks[i].record = config->sensors[i].record;
	*out = source;
	return FG_OK;
}

/* As fast as it can, a run keeps its own time axis; else the axis is squeezed with the run. */
static int64_t stamp_at_ns(const struct fg_source *source, int64_t offset_ns)
{
	double scale = source->speed > 0.0 && source->speed != 1.0 ? 1.0 / source->speed : 1.0;

	return source->opened_at_ns + (scale == 1.0 ? offset_ns : (int64_t)((double)offset_ns * scale));
}

static enum fg_status replay_read(struct fg_source *source, size_t index, struct fg_reading *out, struct fg_error *err)
{
	struct track *track = &source->tracks[index];

	if (track->next == track->record.count)
		return fg_error_set(err, FG_NOT_READY, 0, 0, "the recording of channel %zu has ended", index);
	const struct fg_sample *sample = &track->record.samples[track->next];
	int64_t at_ns = stamp_at_ns(source, sample->at_ns);
	if (source->speed > 0.0 && at_ns > source->clock->now_ns(source->clock->context))
		return FG_NOT_READY;
	track->next++;
	*out = (struct fg_reading){sample->raw, at_ns, sample->half_ns, sample->wraps, sample->flags};
	return FG_OK;
}

static int64_t replay_due_at_ns(struct fg_source *source)
{
	int64_t due_at_ns = INT64_MAX;

	for (size_t i = 0; i < source->count; i++) {
		const struct track *track = &source->tracks[i];

		if (track->next == track->record.count)
			continue;
		int64_t at_ns = source->speed > 0.0 ? stamp_at_ns(source, track->record.samples[track->next].at_ns) : 0;
		due_at_ns = at_ns < due_at_ns ? at_ns : due_at_ns;
	}
	return due_at_ns;
}

static void replay_close(struct fg_source *source)
{
	free(source);
}

const struct fg_source_ops fg_source_replay = {
	.name = "replay",
	.open = replay_open,
	.read = replay_read,
	.close = replay_close,
	.due_at_ns = replay_due_at_ns,
};
