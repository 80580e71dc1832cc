/* fg_metric_loops.h for double and for float, given VECTOR_SIZE, STREAM_FENCE, VECTORS_END, BELOW_f64, BELOW_f32, row_f64
 * and row_f32; before it, what the search through runs does in double whatever its input.
 * SPDX-License-Identifier: Apache-2.0 */

typedef int64_t lanes_f64 __attribute__((vector_size(VECTOR_SIZE)));

enum { LANES_F64 = VECTOR_SIZE / sizeof(double), SEARCH_BLOCK = 32 };

static inline lanes_f64 below(vector_f64 x, vector_f64 y)
{
	return (lanes_f64)BELOW_f64(x, y);
}

static inline vector_f64 choose(lanes_f64 which, vector_f64 x, vector_f64 y)
{
	return (vector_f64)(((lanes_f64)x & which) | ((lanes_f64)y & ~which));
}

/* floor of x >= 0 without an instruction for it: 2^52 + x has no digits behind the point. */
static inline vector_f64 floor_positive(vector_f64 x)
{
	const vector_f64 whole = (x + 0x1p52) - 0x1p52;
	const vector_f64 one = (vector_f64){0} + 1;
	const vector_f64 down = choose(below(x, whole), whole - one, whole);
	return choose(below(x, (vector_f64){0} + 0x1p52), down, x);
}

/* The closest scores of n points of the domain, n a multiple of LANES_F64: closest_one, vector by vector. */
static inline void closest_block(const double *cost, const double *accuracy, double *score, size_t n,
								 const struct fg_metric_goal *goal, double top, double round_off)
{
	const vector_f64 zero = {0}, one = zero + 1, tops = zero + top, alpha = zero + goal->alpha;
	for (size_t k = 0; k < n; k += LANES_F64) {
		vector_f64 i = *(const vector_at_f64 *)(accuracy + k) / goal->accuracy_delta;
		vector_f64 j = *(const vector_at_f64 *)(cost + k) / goal->cost_delta;
		if (round_off > 0) {
			i += i * round_off;
			j += j * round_off;
		}
		i = floor_positive(i + 1e-9);
		j = floor_positive(j + 1e-9);
		i = choose(below(tops, i), tops, i);
		vector_f64 centre = (i + 0.5) * goal->accuracy_delta;
		centre = choose(below(one, centre), one, centre);
		const vector_f64 weight = (one - alpha) * (one - centre) + alpha;
		*(vector_at_f64 *)(score + k) = centre / (goal->beta * ((j + 0.5) * goal->cost_delta * weight) + one);
	}
}

static inline bool any_lane(lanes_f64 lanes)
{
	int64_t any = 0;
	for (size_t k = 0; k < LANES_F64; k++)
		any |= lanes[k];
	return any != 0;
}

/* Whether one of SEARCH_BLOCK checkpoints can reach limit, without a division: the score rises with accuracy and falls
 * with cost, a centre lies within half a cell of its point, and the slack is far above all rounding. Adds to *outside the
 * lanes in which a value lies outside the domain. */
static inline bool hopeful(const double *cost, const double *accuracy, const struct fg_metric_goal *goal, double limit,
						   lanes_f64 *outside)
{
	const double slack = 1e-6;
	const double half_accuracy = goal->quantize ? (0.5 + slack) * goal->accuracy_delta : 0;
	const double half_cost = goal->quantize ? (0.5 + slack) * goal->cost_delta : 0;
	const vector_f64 zero = {0}, one = zero + 1, most = zero + DBL_MAX, alpha = zero + goal->alpha;
	lanes_f64 hope = {0}, bad = *outside;
	for (size_t k = 0; k < SEARCH_BLOCK; k += LANES_F64) {
		const vector_f64 acc = *(const vector_at_f64 *)(accuracy + k), c = *(const vector_at_f64 *)(cost + k);
		bad |= below(acc, zero) | below(one, acc) | below(c, zero) | below(most, c);
		vector_f64 high = acc * (1 + slack) + half_accuracy, low = c * (1 - slack) - half_cost;
		high = choose(below(one, high), one, high);
		low = choose(below(low, zero), zero, low);
		const vector_f64 weight = (one - alpha) * (one - high) + alpha;
		hope |= ~below(high * (1 + slack), limit * (goal->beta * (low * weight) + one));
	}
	*outside = bad;
	return any_lane(hope);
}

/* Whether no value is negative, infinite or below the one before it; NaN is passed over. */
static inline bool rises(const double *x, size_t n)
{
	const vector_f64 zero = {0}, most = zero + DBL_MAX;
	lanes_f64 outside = {0};
	bool any = n > 0 && (x[0] < 0 || x[0] > DBL_MAX);
	size_t i = 1;
	for (; n >= LANES_F64 + i; i += LANES_F64) {
		const vector_f64 before = *(const vector_at_f64 *)(x + i - 1), now = *(const vector_at_f64 *)(x + i);
		outside |= below(now, before) | below(now, zero) | below(most, now);
	}
	for (; i < n; i++)
		any |= x[i] < x[i - 1] || x[i] < 0 || x[i] > DBL_MAX;
	return !any && !any_lane(outside);
}

#define REAL double
#define SIGNED int64_t
#define MASK uint64_t
#define REAL_MAX DBL_MAX
#define ROUND_OFF 0.0
#define NAME(noun) noun##_f64
#define ROW row_f64
#include "fg_metric_loops.h"

#define REAL float
#define SIGNED int32_t
#define MASK uint32_t
#define REAL_MAX FLT_MAX
#define ROUND_OFF (double)FLT_EPSILON
#define NAME(noun) noun##_f32
#define ROW row_f32
#include "fg_metric_loops.h"
