/* See fg_jump.h. What keeps it sound: a jump up can only end a dip, so only places where the counter went down are
 * looked at; after a jump down every earlier place that is not higher, and from which one step led up half as far (what
 * a jump adds may come in two). A place does not count once the counter has been
 * away from its line for longer than it had been on it: then the line is the lie.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fg_jump.h"

#include <string.h>

enum { ROW_FASTER = 25 }; /* a wrong limit is believed to be wrong by no more than this */

void fg_jumps_init(struct fg_jumps *jumps, int64_t modulus, int64_t quantum, int64_t period_ns, int64_t plausible_per_s)
{
	memset(jumps, 0, sizeof *jumps);
	jumps->modulus = modulus;
	jumps->quantum = quantum;
	jumps->slack_ns = period_ns + FG_BURST_NS;
	jumps->plausible_per_ns = (double)plausible_per_s * 1e-9;
	jumps->trail_next_ns = INT64_MIN;
}

static struct fg_place *trail_at(struct fg_jumps *jumps, size_t back)
{
	return &jumps->trail[(jumps->trail_count - 1 - back) % FG_JUMP_TRAIL];
}

/* The counter wraps after `last`, or leaves its line by a jump: a place to come back to. */
static void leave(struct fg_jumps *jumps, const struct fg_place *last, int64_t raw, bool believed)
{
	if (jumps->departure_count == FG_JUMP_DEPARTURES) {
		jumps->departure_count--;
		memmove(jumps->departures, jumps->departures + 1, jumps->departure_count * sizeof *jumps->departures);
	}
	struct fg_place *place = &jumps->departures[jumps->departure_count++];
	*place = *last;
	place->most = jumps->step_most;
	place->believed = believed;
	if (__builtin_sub_overflow(last->raw, raw, &place->step))
		place->step = last->raw < raw ? INT64_MIN : INT64_MAX;
}

void fg_jumps_forget(struct fg_jumps *jumps, uint64_t next_index)
{
	jumps->departure_count = 0;
	jumps->trail_known = 0;
	jumps->row = 0;
	jumps->line_from = next_index;
}

/* Whether the sample after `last` can continue the line of `place`, and with what growth. It can have wrapped since
 * where a jump up from there went round too, and now comes down as far. */
static bool continues(const struct fg_jumps *jumps, const struct fg_place *place, const struct fg_place *last,
					  int64_t raw, int64_t until_ns, int64_t *growth)
{
	uint64_t between = last->index - place->index, stood = place->index - place->line_from + 1;

	if (between == 0 || between > FG_JUMP_LONGEST || between > stood || __builtin_sub_overflow(raw, place->raw, growth))
		return false;
	/* Unsigned, a fall from one end of 64 bits to the other does not overflow. */
	uint64_t fall = raw < last->raw ? (uint64_t)last->raw - (uint64_t)raw : 0;
	bool wraps = *growth < 0 && place->step > 0 && fall > 0 && *growth + jumps->modulus < jumps->modulus / 2;
	if (wraps && jumps->modulus - place->step >= (int64_t)(fall / 2))
		*growth += jumps->modulus;
	return *growth >= 0 && fg_jumps_allow(jumps, (double)*growth, place->since_ns, until_ns);
}

/* Whether a step from `last` to the sample undoes the one by which the counter left `place`. */
static bool undoes(const struct fg_place *place, const struct fg_place *last, int64_t raw)
{
	int64_t step;

	if (raw < last->raw)
		return true; /* what remains of a jump up comes down, however many steps it had */
	return place->step > 0 && !__builtin_sub_overflow(raw, last->raw, &step) && step >= place->step / 2 &&
		   step / 2 <= place->step;
}

/* The place where the counter left its line that the sample continues with the least growth. A plausible sample leaves
 * a plausible wrap as it was: a counter that is read seldom wraps at every other sample. */
static const struct fg_place *left(const struct fg_jumps *jumps, const struct fg_place *last, int64_t raw,
								   int64_t until_ns, bool plausible)
{
	const struct fg_place *found = NULL;
	int64_t growth, least = INT64_MAX;

	for (size_t i = jumps->departure_count; i-- > 0;) {
		const struct fg_place *place = &jumps->departures[i];

		if (plausible && place->believed)
			continue;
		if (undoes(place, last, raw) && continues(jumps, place, last, raw, until_ns, &growth) && growth < least) {
			found = place;
			least = growth;
		}
	}
	return found;
}

/* The same for a sample that is not plausible, along the trail too. */
static const struct fg_place *find(struct fg_jumps *jumps, const struct fg_place *last, int64_t raw, int64_t until_ns)
{
	const struct fg_place *found = left(jumps, last, raw, until_ns, false);
	int64_t fall, growth, most = jumps->step_most;

	if (__builtin_sub_overflow(last->raw, raw, &fall) || fall <= 0)
		return found;
	for (size_t back = 0; back < jumps->trail_known; back++) {
		const struct fg_place *place = trail_at(jumps, back);

		if (found != NULL && place->index <= found->index)
			break;
		if (most >= fall / 2 && raw >= place->raw && continues(jumps, place, last, raw, until_ns, &growth))
			return place;
		most = back + 1 < jumps->trail_known && trail_at(jumps, back + 1)->step > most ? trail_at(jumps, back + 1)->step
																					   : most;
	}
	return found;
}

/* The first of several jumps up in a row, where they are as many as a counter makes that draws more than its limit. */
static const struct fg_place *outgrown(struct fg_jumps *jumps, const struct fg_place *last, int64_t raw,
									   int64_t until_ns)
{
	if (raw <= last->raw)
		jumps->row = 0;
	else if (jumps->row > 0 && jumps->line_from == last->index)
		jumps->row++;
	else
		jumps->row = 1;
	if (jumps->row == 1)
		jumps->row_from = *last;
	int64_t exact;
	if (jumps->row < FG_JUMP_ROW || __builtin_sub_overflow(raw, jumps->row_from.raw, &exact))
		return NULL;

	double time_ns = (double)(until_ns - jumps->row_from.at_ns);
	double growth = (double)exact;
	if (growth > ROW_FASTER * jumps->plausible_per_ns * time_ns)
		return NULL;
	jumps->plausible_per_ns = 4.0 * growth / time_ns;
	return &jumps->row_from;
}

/* Two counters in turn and a counter that jumps look alike but for how long each line is shown. */
static void weigh(struct fg_jumps *jumps, const struct fg_place *place, const struct fg_place *last)
{
	uint64_t home = place->index + 1 - jumps->returned_at;
	bool moves = jumps->left_raw != last->raw;

	jumps->left_raw = last->raw;
	jumps->returned_at = last->index + 1;
	if (3 * (last->index - place->index) >= home && moves)
		jumps->exchanges++;
	else if (jumps->exchanges > 0)
		jumps->exchanges--;
	jumps->in_turn = jumps->in_turn || jumps->exchanges >= FG_JUMP_TURNS;
}

/* Forget what came after the place, and the place itself where the counter had left from it. */
static void come_back(struct fg_jumps *jumps, const struct fg_place *place)
{
	/* The memory of what is forgotten stays as it is until the next place is left. */
	while (jumps->departure_count > 0 && jumps->departures[jumps->departure_count - 1].index >= place->index)
		jumps->departure_count--;
	while (jumps->trail_known > 0 && trail_at(jumps, 0)->index > place->index) {
		jumps->trail_count--;
		jumps->trail_known--;
	}
	jumps->step_most = place->most;
	jumps->line_from = place->line_from;
	jumps->ups = place->ups;
	jumps->row = 0;
	jumps->count += !place->counted;
}

/* The sample lands on the line of a place. */
static void land_on(struct fg_jumps *jumps, const struct fg_place *place, const struct fg_place *last, int64_t raw,
					int64_t until_ns, struct fg_landing *landing)
{
	bool wrapped = raw < place->raw;

	*landing = (struct fg_landing){place, last->index - place->index, raw - place->raw + (wrapped ? jumps->modulus : 0),
								   wrapped};
	if (jumps->first_ns == 0)
		jumps->first_ns = place->at_ns;
	jumps->last_ns = until_ns;
	come_back(jumps, place);
}

bool fg_jumps_pass(struct fg_jumps *jumps, const struct fg_place *last, int64_t raw, int64_t until_ns,
				   struct fg_landing *landing)
{
	size_t departures = jumps->departure_count;
	int64_t growth;

	if (__builtin_sub_overflow(raw, last->raw, &growth))
		growth = raw < last->raw ? INT64_MIN : INT64_MAX;
	if (departures > 0 && last->index - jumps->departures[departures - 1].index > FG_JUMP_LONGEST)
		jumps->departure_count = 0; /* too long ago, as all before it */
	const struct fg_place *place = left(jumps, last, raw, until_ns, true);
	if (place != NULL) {
		weigh(jumps, place, last);
		land_on(jumps, place, last, raw, until_ns, landing);
		return true;
	}
	if (last->at_ns >= jumps->trail_next_ns) {
		if (jumps->trail_known > 0)
			trail_at(jumps, 0)->step = jumps->step_most;
		jumps->trail[jumps->trail_count++ % FG_JUMP_TRAIL] = *last; /* its `most` is 0 */
		jumps->trail_known += jumps->trail_known < FG_JUMP_TRAIL;
		jumps->trail_next_ns = last->at_ns + FG_JUMP_TRAIL_NS;
		jumps->step_most = 0;
	}
	if (growth < 0) {
		leave(jumps, last, raw, true); /* a wrap, or a moment's value near 0 */
		/* At exactly 0 it is nearly always the latter. The counter may have wrapped before the moment ends, so that it
		 * never returns to this line. */
		bool zero = raw == 0 && growth + jumps->modulus > FG_JUMP_ZERO * jumps->quantum &&
					growth + jumps->modulus < jumps->modulus / FG_JUMP_ZERO; /* or it wraps all the time */
		jumps->departures[jumps->departure_count - 1].counted = zero;
		jumps->count += zero;
	} else if (growth > jumps->step_most)
		jumps->step_most = growth;
	return false;
}

void fg_jumps_land(struct fg_jumps *jumps, const struct fg_place *last, int64_t raw, int64_t until_ns,
				   struct fg_landing *landing)
{
	const struct fg_place *place = find(jumps, last, raw, until_ns);

	if (place != NULL)
		weigh(jumps, place, last);
	else
		place = outgrown(jumps, last, raw, until_ns);
	if (place != NULL) {
		land_on(jumps, place, last, raw, until_ns, landing);
		return;
	}
	*landing = (struct fg_landing){.place = NULL};
	if (jumps->first_ns == 0)
		jumps->first_ns = last->at_ns;
	jumps->last_ns = until_ns;
	leave(jumps, last, raw, false);
	jumps->line_from = last->index + 1;
	jumps->ups += raw > last->raw;
	/* A counter that restarts goes down, and only down. */
	uint64_t resets = last->resets + 1;
	jumps->in_turn = jumps->in_turn || (jumps->ups >= 2 && resets - jumps->ups >= 2);
}
