/* The resolver's slow twin: for every instant all samples are looked at, straight from the definition in fg_resolver.h.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef SLOW_RESOLVER_H
#define SLOW_RESOLVER_H

#include "fg_resolver.h"

#include <math.h>

enum { SLOW_MOST = 64 }; /* samples */

struct slow_answer {
	double low, estimate, high, unknown;
};

/* A restart costs a quantum of certainty, unless the counter has not moved since the restart before. */
static bool slow_rounds(const struct fg_sample *s, size_t k)
{
	if (!(s[k].flags & FG_SAMPLE_RESET))
		return false;
	for (size_t j = k - 1; j > 0; j--) {
		if (s[j].flags & FG_SAMPLE_RESET)
			return false;
		if (s[j].raw != s[j - 1].raw || s[j].wraps > 0)
			return true;
	}
	return true;
}

/* Growth until sample k, wraps undone; less `quantum` for every restart that rounds. */
static int64_t slow_total(const struct fg_traits *traits, const struct fg_sample *s, size_t k, int64_t quantum)
{
	int64_t total = 0;

	for (size_t j = 1; j <= k; j++) {
		if (s[j].flags & FG_SAMPLE_RESET)
			total -= slow_rounds(s, j) ? quantum : 0;
		else
			total += s[j].raw - s[j - 1].raw + s[j].wraps * traits->modulus;
	}
	return total;
}

static bool slow_changed(const struct fg_traits *traits, const struct fg_sample *s, size_t k)
{
	return k > 0 && !(s[k].flags & FG_SAMPLE_RESET) && slow_total(traits, s, k, 0) != slow_total(traits, s, k - 1, 0);
}

/* The latest time at which the energy had surely not passed what sample k shows. */
static int64_t slow_reach(const struct fg_traits *traits, const struct fg_sample *s, size_t k)
{
	int64_t reach_ns = s[k].at_ns - s[k].half_ns - traits->period_ns;
	int64_t before_ns = k > 0 ? s[k - 1].at_ns - s[k - 1].half_ns : reach_ns;
	bool changed = slow_changed(traits, s, k) || (k > 0 && (s[k].flags & FG_SAMPLE_RESET));

	return changed && before_ns > reach_ns ? before_ns : reach_ns;
}

static int64_t slow_reach_of_all(const struct fg_traits *traits, const struct fg_sample *s, size_t count)
{
	int64_t most_ns = slow_reach(traits, s, 0);

	for (size_t k = 1; k < count; k++)
		most_ns = slow_reach(traits, s, k) > most_ns ? slow_reach(traits, s, k) : most_ns;
	return most_ns;
}

static double slow_low(const struct fg_traits *traits, double ceiling, const struct fg_sample *s, size_t count,
					   int64_t at_ns)
{
	if (at_ns < s[0].at_ns + s[0].half_ns)
		return -ceiling * (double)(s[0].at_ns + s[0].half_ns - at_ns);
	for (size_t k = count; k-- > 0;)
		if (s[k].at_ns + s[k].half_ns <= at_ns)
			return (double)slow_total(traits, s, k, traits->quantum);
	return 0;
}

static double slow_high(const struct fg_traits *traits, double ceiling, const struct fg_sample *s, size_t count,
						int64_t at_ns)
{
	double most = (double)(slow_total(traits, s, count - 1, traits->quantum) + traits->quantum);

	for (size_t k = 0; k < count; k++)
		/* not before the last sample that is sure by then: of several at one time the last holds */
		if (at_ns <= slow_reach(traits, s, k) && !(k + 1 < count && s[k + 1].at_ns + s[k + 1].half_ns <= at_ns))
			return (double)(slow_total(traits, s, k, traits->quantum) + traits->quantum);
	return most + ceiling * (double)(at_ns - slow_reach_of_all(traits, s, count));
}

/* Where sample k places its change. */
static int64_t slow_knot(const struct fg_traits *traits, const struct fg_sample *s, size_t k)
{
	int64_t after_ns = s[k].at_ns - traits->period_ns;

	if (s[k].flags & FG_SAMPLE_RESET)
		return s[k].at_ns;
	after_ns = s[k - 1].at_ns > after_ns ? s[k - 1].at_ns : after_ns;
	return (after_ns + s[k].at_ns) / 2;
}

/* The samples that show a change or a restart. Returns their number. */
static size_t slow_changes(const struct fg_traits *traits, const struct fg_sample *s, size_t count, size_t *at)
{
	size_t changes = 0;

	for (size_t k = 1; k < count; k++)
		if (slow_changed(traits, s, k) || (s[k].flags & FG_SAMPLE_RESET))
			at[changes++] = k;
	return changes;
}

/* The mean time between four successive changes, from `first` on, weighted by power and at most T. */
static double slow_mean_period(const struct fg_traits *traits, const struct fg_sample *s, const size_t *at,
							   size_t changes, size_t first)
{
	double grown = 0, power = 0;

	for (size_t i = first; i + 1 < changes && i < first + 3; i++) {
		double growth = (double)(slow_total(traits, s, at[i + 1], 0) - slow_total(traits, s, at[i], 0));
		int64_t ns = slow_knot(traits, s, at[i + 1]) - slow_knot(traits, s, at[i]);

		grown += growth > 0 ? growth : 0;
		power += growth > 0 ? growth / (double)(ns > 0 ? ns : 1) : 0;
	}
	return power > 0 ? fmin(grown / power, (double)traits->period_ns) : (double)traits->period_ns;
}

static double slow_estimate(const struct fg_traits *traits, double ceiling, const struct fg_sample *s, size_t count,
							int64_t at_ns)
{
	size_t at[SLOW_MOST] = {0}, changes = slow_changes(traits, s, count, at);
	int64_t knot_ns = s[0].at_ns - (int64_t)(slow_mean_period(traits, s, at, changes, 0) / 2), total = 0;
	double slope = 0;

	if (at_ns < knot_ns || changes == 0)
		return 0;
	for (size_t i = 0; i < changes; i++) {
		int64_t next_ns = slow_knot(traits, s, at[i]), next_total = slow_total(traits, s, at[i], 0);
		/* until there the samples before show that the counter stood still */
		int64_t from_ns = slow_reach_of_all(traits, s, at[i]);

		from_ns = from_ns > knot_ns ? from_ns : knot_ns;
		slope = (double)(next_total - total) / (double)(next_ns > from_ns ? next_ns - from_ns : 1);
		if (at_ns < next_ns)
			return (double)total + (at_ns > from_ns ? slope * (double)(at_ns - from_ns) : 0);
		knot_ns = next_ns;
		total = next_total;
	}
	double period_ns = slow_mean_period(traits, s, at, changes, changes > 4 ? changes - 4 : 0);
	double still_ns = (double)(s[count - 1].at_ns - knot_ns);
	double unseen_ns = still_ns < (double)traits->period_ns ? fmax(fmin(period_ns, 2 * (2 * period_ns - still_ns)), 0)
															: 0;
	int64_t reach_ns = slow_reach_of_all(traits, s, count);
	int64_t until_ns = at_ns < s[count - 1].at_ns ? at_ns : s[count - 1].at_ns;
	double most = (double)traits->quantum + ceiling * (double)(until_ns > reach_ns ? until_ns - reach_ns : 0);
	return (double)total + fmin(slope * fmin((double)(until_ns > knot_ns ? until_ns - knot_ns : 0), unseen_ns), most);
}

static double slow_unknown(const struct fg_traits *traits, double ceiling, const struct fg_sample *s, size_t count,
						   int64_t at_ns, double sign)
{
	double sum = 0;
	int64_t known_ns = INT64_MIN; /* where the stretch before ended */

	for (size_t k = 1; k < count; k++) {
		int64_t sure_ns = s[k].at_ns + s[k].half_ns;

		if (!(s[k].flags & FG_SAMPLE_RESET))
			continue;
		double rounding = slow_rounds(s, k) ? 2.0 * (double)traits->quantum : 0.0;
		int64_t from_ns = slow_reach_of_all(traits, s, k);
		from_ns = from_ns > known_ns ? from_ns : known_ns;
		known_ns = sure_ns;
		if (at_ns >= sure_ns)
			sum += ceiling * (double)(sure_ns - from_ns) + rounding;
		else if (at_ns > from_ns)
			sum += ceiling * (double)(at_ns - from_ns) + (sign > 0 ? rounding : 0.0);
	}
	return sum;
}

/* The energy until `at_ns`; sign +1 for an instant or a window's end, -1 for its begin. */
static struct slow_answer slow_energy(const struct fg_traits *traits, double ceiling, const struct fg_sample *s,
									  size_t count, int64_t at_ns, double sign)
{
	if (count == 0)
		return (struct slow_answer){NAN, NAN, NAN, 0};
	return (struct slow_answer){
		slow_low(traits, ceiling, s, count, at_ns),
		slow_estimate(traits, ceiling, s, count, at_ns),
		slow_high(traits, ceiling, s, count, at_ns),
		slow_unknown(traits, ceiling, s, count, at_ns, sign),
	};
}

/* Least and most power of step k, which ends at sample k; nothing is known of what lies before and after all. */
static struct fg_band slow_band(double ceiling, const struct fg_sample *s, size_t count, size_t k)
{
	if (k == 0 || k == count)
		return (struct fg_band){0, ceiling};
	double from = (double)s[k - 1].raw, to = (double)s[k].raw;
	bool gap = s[k].flags & FG_SAMPLE_GAP;

	return (struct fg_band){gap ? 0 : fmin(from, to), gap ? fmax(fmax(from, to), ceiling) : fmax(from, to)};
}

/* The same at one instant: which step it is of is uncertain while a read lasts. */
static struct fg_band slow_band_at(double ceiling, const struct fg_sample *s, size_t count, double at_ns)
{
	size_t k = 0;

	while (k < count && (double)s[k].at_ns <= at_ns)
		k++;
	struct fg_band band = slow_band(ceiling, s, count, k), other = band;
	if (k > 0 && at_ns < (double)s[k - 1].at_ns + s[k - 1].half_ns)
		other = slow_band(ceiling, s, count, k - 1);
	band = (struct fg_band){fmin(band.least, other.least), fmax(band.most, other.most)};
	if (k < count && at_ns > (double)s[k].at_ns - s[k].half_ns)
		other = slow_band(ceiling, s, count, k + 1);
	return (struct fg_band){fmin(band.least, other.least), fmax(band.most, other.most)};
}

/* The running integrals of a power channel; of its bounds nanosecond by nanosecond. */
static struct slow_answer slow_power(const struct fg_traits *traits, double ceiling, const struct fg_sample *s,
									 size_t count, int64_t at_ns)
{
	struct slow_answer a = {0, 0, 0, 0};

	if (count == 0)
		return (struct slow_answer){NAN, NAN, NAN, 0};
	for (int64_t ns = at_ns < s[0].at_ns ? at_ns : s[0].at_ns; ns < at_ns || ns < s[0].at_ns; ns++) {
		struct fg_band band = slow_band_at(ceiling, s, count, (double)ns + 0.5);
		double sign = ns < s[0].at_ns ? -1 : 1;

		a.low += sign * band.least;
		a.high += sign * band.most;
	}
	if (at_ns < s[0].at_ns)
		a.estimate = (double)s[0].raw * (double)(at_ns - s[0].at_ns);
	for (size_t k = 1; k < count && s[k - 1].at_ns <= at_ns; k++) {
		double from = (double)s[k - 1].raw, to = (double)s[k].raw, step = (double)(s[k].at_ns - s[k - 1].at_ns);
		double part = fmin((double)(at_ns - s[k - 1].at_ns), step);

		a.estimate += step > 0 ? from * part + (to - from) * part * part / step / 2 : 0;
	}
	if (at_ns > s[count - 1].at_ns) {
		int64_t past_ns = at_ns - s[count - 1].at_ns;

		a.estimate += fmin((double)s[count - 1].raw, ceiling) *
					  (double)(past_ns < traits->period_ns ? past_ns : traits->period_ns);
	}
	return a;
}

#endif
