/* fg_metric_loops.h for double and for float, given VECTOR_SIZE, STREAM_FENCE, VECTORS_END, and for both types STREAM_,
 * BELOW_, whole_ and part_; before it, what the search through runs does in double whatever its input.
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

/* What a look over values leaves behind: sign bits of differences that a good value makes positive, and sums that it
 * leaves finite. Cheaper than comparing, and a little too strict: NaN and -0 fail too, and are looked at one by one. */
struct suspicion {
	lanes_f64 signs;
	vector_f64 sum;
};

static inline bool any_sign(lanes_f64 lanes)
{
	int64_t any = 0;
	for (size_t k = 0; k < LANES_F64; k++)
		any |= lanes[k];
	return any < 0;
}

static inline bool is_clear(const struct suspicion *suspicion)
{
	double sum = 0;
	for (size_t k = 0; k < LANES_F64; k++)
		sum += suspicion->sum[k];
	return !any_sign(suspicion->signs) && sum <= DBL_MAX;
}

/* Whether one of SEARCH_BLOCK checkpoints can reach limit, without a division: the score rises with accuracy and falls
 * with cost, a centre lies within half a cell of its point, and the slack is far above all rounding. An accuracy above 1
 * only raises the bound. */
static inline bool hopeful(const double *cost, const double *accuracy, const struct fg_metric_goal *goal, double limit,
						   struct suspicion *suspicion)
{
	const double slack = 1e-6;
	const double half_accuracy = goal->quantize ? (0.5 + slack) * goal->accuracy_delta : 0;
	const double half_cost = goal->quantize ? (0.5 + slack) * goal->cost_delta : 0;
	const double half_beta = 0.5 * goal->beta, part = 1 - goal->alpha;
	const lanes_f64 magnitude = ((lanes_f64){0} + 1) * INT64_MAX;
	lanes_f64 hope = {0}, signs = suspicion->signs;
	vector_f64 sum = suspicion->sum;
	for (size_t k = 0; k < SEARCH_BLOCK; k += LANES_F64) {
		const vector_f64 acc = *(const vector_at_f64 *)(accuracy + k), c = *(const vector_at_f64 *)(cost + k);
		signs |= (lanes_f64)(acc - acc * acc) | (lanes_f64)c;
		sum += c;
		const vector_f64 high = acc * (1 + slack) + half_accuracy, low = c * (1 - slack) - half_cost;
		const vector_f64 twice = low + (vector_f64)((lanes_f64)low & magnitude); /* 2 max(low, 0) */
		const vector_f64 bound = limit * (half_beta * (twice * (part * (1 - high) + goal->alpha)) + 1);
		hope |= ~(lanes_f64)(high * (1 + slack) - bound);
	}
	suspicion->signs = signs;
	suspicion->sum = sum;
	return any_sign(hope);
}

static bool rises_singly(const double *x, size_t n)
{
	bool good = true;
	for (size_t i = 0; i < n; i++)
		good &= !(x[i] < 0 || x[i] > DBL_MAX || (i && x[i] < x[i - 1]));
	return good;
}

/* Whether no value is negative, infinite or below the one before it; NaN is passed over. */
static inline bool rises(const double *x, size_t n)
{
	struct suspicion suspicion = {{0}, {0}};
	double sum = n ? x[0] : 0;
	bool back = sum < 0;
	size_t i = 1;
	for (; n >= LANES_F64 + i; i += LANES_F64) {
		const vector_f64 before = *(const vector_at_f64 *)(x + i - 1), now = *(const vector_at_f64 *)(x + i);
		suspicion.signs |= (lanes_f64)(now - before);
		suspicion.sum += now;
	}
	for (; i < n; i++) {
		back |= x[i] < x[i - 1];
		sum += x[i];
	}
	return (!back && sum <= DBL_MAX && is_clear(&suspicion)) || rises_singly(x, n);
}

#define REAL double
#define SIGNED int64_t
#define MASK uint64_t
#define REAL_MAX DBL_MAX
#define ROUND_OFF 0.0
#define NAME(noun) noun##_f64
#define STREAM STREAM_f64
#include "fg_metric_loops.h"

#define REAL float
#define SIGNED int32_t
#define MASK uint32_t
#define REAL_MAX FLT_MAX
#define ROUND_OFF (double)FLT_EPSILON
#define NAME(noun) noun##_f32
#define STREAM STREAM_f32
#include "fg_metric_loops.h"
