/* A sampler on a scripted source and, where a test wants it, on a driven clock.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef FG_RIG_H
#define FG_RIG_H

#include "fg_driven.h"
#include "fg_sampler.h"
#include "fg_test.h"

#include <stdlib.h>

#define MS INT64_C(1000000)

/* A source that does what a script says: one status a read, the last for ever. The context travels in `path`. */
struct script {
	enum fg_status statuses[16];
	int64_t step, modulus; /* the counter grows by step a read */
	int64_t read_ns;       /* how long a read takes on the driven clock */
	struct fg_driven *driven;
	_Atomic int64_t reads;
	int64_t growing_reads; /* the counter stands still after so many; 0: never */
	int64_t hangs_at_read; /* that read does not come back before it is let go; 0: none */
	_Atomic bool let_go;
	_Atomic int closed;
};

struct fg_source {
	struct script *scripts[4];
};

static enum fg_status script_open(const struct fg_source_config *config, struct fg_source **out, struct fg_error *err)
{
	struct fg_source *source = calloc(1, sizeof *source);

	if (source == NULL)
		return fg_error_set(err, FG_NO_MEMORY, 0, 0, "no memory");
	for (size_t i = 0; i < config->count; i++)
		source->scripts[i] = (struct script *)(uintptr_t)config->sensors[i].path;
	*out = source;
	return FG_OK;
}

static enum fg_status script_read(struct fg_source *source, size_t index, struct fg_reading *out, struct fg_error *err)
{
	struct script *script = source->scripts[index];
	int64_t n = script->reads++;
	enum fg_status status = script->statuses[n < 15 ? n : 15];

	if (script->driven != NULL)
		script->driven->at_ns += script->read_ns;
	while (script->hangs_at_read > 0 && n >= script->hangs_at_read && !script->let_go)
		sched_yield();
	if (status != FG_OK)
		return fg_error_set(err, status, 0, 0, "scripted: %s", fg_status_text(status));
	if (script->growing_reads > 0 && n > script->growing_reads)
		n = script->growing_reads;
	out->raw = script->modulus > 0 ? n * script->step % script->modulus : n * script->step;
	return FG_OK;
}

static void script_close(struct fg_source *source)
{
	struct script *script = source->scripts[0];

	free(source);
	script->closed++;
}

/* Patience enough for a reader that a busy machine keeps waiting in the midst of a read. */
static const struct fg_source_ops scripted = {"script", script_open, script_read, script_close, NULL, FG_NS_PER_S};

struct rig {
	bool dither;
	struct script script;
	struct fg_sensor sensor;
	struct fg_traits traits;
	struct fg_driven driven;
	struct fg_sampler *sampler;
	struct fg_tally tally;
};

static void rig_init(struct rig *rig, int64_t end_ns)
{
	memset(rig, 0, sizeof *rig);
	rig->script.step = 10;
	rig->sensor = (struct fg_sensor){.path = (const char *)&rig->script, .fd = -1};
	rig->traits = (struct fg_traits){FG_ENERGY, 0, 1, MS, 0, 0, 0};
	fg_driven_init(&rig->driven, FG_NS_PER_S, FG_NS_PER_S + end_ns);
}

static enum fg_status rig_open(struct rig *rig, const struct fg_clock *clock, int64_t period_ns, size_t capacity)
{
	struct fg_sampler_config config = {&scripted, {.sensors = &rig->sensor, .count = 1, .clock = clock}, &rig->traits,
									   period_ns, capacity, rig->dither};
	struct fg_error err;

	return fg_sampler_open(&config, &rig->sampler, &err);
}

/* Run on the driven clock until its end, or until the channel has ended. */
static inline void rig_run(struct rig *rig, int64_t period_ns, size_t capacity, int64_t settle_ns)
{
	struct fg_live live = {0};

	fg_require(rig_open(rig, &rig->driven.clock, period_ns, capacity) == FG_OK);
	fg_require(fg_sampler_start(rig->sampler, 60 * FG_NS_PER_S, NULL) == FG_OK);
	while (rig->driven.at_ns + 2 * period_ns + rig->driven.lateness_ns <= rig->driven.end_at_ns && !live.ended) {
		sched_yield();
		fg_sampler_live(rig->sampler, 0, &live);
	}
	if (settle_ns > 0) /* else time stands still until it has stopped, however long that takes to happen */
		rig->driven.end_at_ns = INT64_MAX / 2;
	fg_sampler_stop(rig->sampler, settle_ns);
	fg_sampler_tally(rig->sampler, 0, &rig->tally);
}

static void rig_close(struct rig *rig)
{
	if (rig->sampler != NULL)
		fg_sampler_close(rig->sampler);
}

#endif
