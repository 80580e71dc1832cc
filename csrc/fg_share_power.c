/* See fg_share.h. Powers: a resolver answers the edges as instants, one step behind the samples.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fg_share_state.h"

#include <stdlib.h>
#include <string.h>

static void point(struct fg_share_meter *m)
{
	struct fg_stream *stream = &m->resolver->streams[0];

	stream->at_ns = m->query_at_ns;
	stream->out.low = m->answers;
	stream->out.estimate = m->answers + m->query_room;
	stream->out.high = m->answers + 2 * m->query_room;
}

static enum fg_status make_room(struct fg_share_meter *m, size_t wanted, struct fg_error *err)
{
	size_t room = m->query_room ? m->query_room : 64;

	if (wanted <= m->query_room)
		return FG_OK;
	while (room < wanted)
		room *= 2;
	int64_t *at_ns = realloc(m->query_at_ns, room * sizeof *at_ns);
	double *answers = at_ns != NULL ? malloc(3 * room * sizeof *answers) : NULL;

	if (at_ns != NULL)
		m->query_at_ns = at_ns;
	if (answers == NULL)
		return fg_error_set(err, FG_NO_MEMORY, 0, 0, "no memory for %zu edges", room);
	free(m->answers); /* every answer was taken out before more edges are asked for */
	m->answers = answers;
	m->query_room = room;
	return FG_OK;
}

enum fg_status fg_share_init_power(struct fg_share_meter *m, struct fg_error *err)
{
	struct fg_answers none = {.low = NULL};

	m->resolver = calloc(1, sizeof *m->resolver);
	if (m->resolver == NULL)
		return fg_error_set(err, FG_NO_MEMORY, 0, 0, "no memory for a channel");
	fg_resolver_init_instants(m->resolver, &m->traits, m->ceiling_per_ns, NULL, 0, &none);
	return make_room(m, 1, err);
}

void fg_share_free_power(struct fg_share_meter *m)
{
	free(m->resolver);
	free(m->query_at_ns);
	free(m->answers);
}

/* Have the edges that are new in the column, and behind them an instant that is never reached: a resolver with nothing
 * to answer would pass samples over. */
static enum fg_status ask(struct fg_share *share, struct fg_share_meter *m, struct fg_error *err)
{
	enum fg_status status = make_room(m, m->queried + (size_t)(share->edge_end - m->next_query) + 1, err);

	if (status != FG_OK)
		return status;
	for (; m->next_query < share->edge_end; m->next_query++)
		m->query_at_ns[m->queried++] = fg_share_edge(share, m->next_query)->at_ns;
	m->query_at_ns[m->queried] = FG_SHARE_EVER_NS;
	point(m);
	m->resolver->streams[0].count = m->queried + 1;
	return FG_OK;
}

static void take_answers(struct fg_share *share, size_t channel)
{
	struct fg_share_meter *m = &share->meters[channel];
	struct fg_stream *stream = &m->resolver->streams[0];
	size_t answered = stream->next < m->queried ? stream->next : m->queried;

	for (size_t i = 0; i < answered; i++) {
		double now[3] = {stream->out.estimate[i], stream->out.low[i], stream->out.high[i]};
		bool first = m->settled == 0; /* nothing before it: the curve's zero is wherever it is */

		fg_share_settle_edge(share, channel, m->settled, first ? 0.0 : now[0] - m->power[0],
							 first ? 0.0 : now[1] - m->power[1], first ? 0.0 : now[2] - m->power[2]);
		memcpy(m->power, now, sizeof now);
	}
	memmove(m->query_at_ns, m->query_at_ns + answered, (m->queried - answered) * sizeof *m->query_at_ns);
	m->queried -= answered;
	stream->next = 0;
}

enum fg_status fg_share_feed_power(struct fg_share *share, size_t channel, const struct fg_sample *samples,
								   size_t count, struct fg_error *err)
{
	struct fg_share_meter *m = &share->meters[channel];
	enum fg_status status = ask(share, m, err);

	if (status != FG_OK || count == 0)
		return status;
	m->started = true;
	fg_resolver_feed(m->resolver, samples, count);
	m->last = samples[count - 1];
	share->latest_ns = fg_clock_later_ns(share->latest_ns, m->last.at_ns + m->last.half_ns);
	take_answers(share, channel);
	return FG_OK;
}

enum fg_status fg_share_finish_power(struct fg_share *share, size_t channel, struct fg_error *err)
{
	struct fg_share_meter *m = &share->meters[channel];
	enum fg_status status = ask(share, m, err);

	if (status != FG_OK)
		return status;
	if (m->started) {
		fg_resolver_finish(m->resolver);
	} else { /* no sample at all: nothing is known but the ceiling */
		for (size_t i = 0; i < m->queried; i++) {
			m->answers[i] = m->answers[m->query_room + i] = 0.0;
			m->answers[2 * m->query_room + i] = m->ceiling_per_ns * (double)(m->query_at_ns[i] - m->query_at_ns[0]);
		}
		m->resolver->streams[0].next = m->queried;
	}
	m->started = m->finishing = true;
	take_answers(share, channel);
	return FG_OK;
}
