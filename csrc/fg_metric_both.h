/* Includes fg_metric_loops.h for double and for float. Before that come the steps of a search through runs that both
 * types do in double.
 * SPDX-License-Identifier: Apache-2.0
 *
 * The file that includes this one defines VECTOR_SIZE, STREAM_FENCE and VECTORS_END, for both types STREAM_, BELOW_,
 * whole_ and part_, and for double
 *     FLOOR_f64(x)                floor of a value >= 0
 *     LESSER_f64(a, b)            the lesser; b if one is NaN
 *     SIGNS_f64(lanes)            a bit for each negative lane
 *     FUSED_f64(a, b, c)          a * b + c, in one rounding if the CPU has that instruction,
 *     FUSED_MINUS_f64(a, b, c)    and c - a * b */

typedef int64_t lanes_f64 __attribute__((vector_size(VECTOR_SIZE)));
typedef uint64_t bits_f64 __attribute__((vector_size(VECTOR_SIZE)));

enum { LANES_F64 = VECTOR_SIZE / sizeof(double) };

/* Between 1 / TAME_MOST and TAME_MOST no step of a search by whole vectors leaves the range of normal numbers. */
#define TAME_MOST 0x1p400

static inline lanes_f64 below(vector_f64 x, vector_f64 y)
{
	return (lanes_f64)BELOW_f64(x, y);
}

static inline vector_f64 choose(lanes_f64 which, vector_f64 x, vector_f64 y)
{
	return (vector_f64)(((lanes_f64)x & which) | ((lanes_f64)y & ~which));
}

static inline lanes_f64 lane_numbers(void)
{
	lanes_f64 numbers;
	for (int k = 0; k < LANES_F64; k++)
		numbers[k] = k;
	return numbers;
}

/* floor of x >= 0 without an instruction for it: 2^52 + x has no digits behind the point. */
static inline vector_f64 floor_positive(vector_f64 x)
{
	const vector_f64 whole = (x + 0x1p52) - 0x1p52;
	const vector_f64 one = (vector_f64){0} + 1;
	const vector_f64 down = choose(below(x, whole), whole - one, whole);
	return choose(below(x, (vector_f64){0} + 0x1p52), down, x);
}

/* A size of cells, and 1 / it as double has it; the same in all lanes. */
struct cells {
	vector_f64 delta, inverse;
};

/* x / cells->delta as IEEE 754 rounds it.
 *
 * With fused multiply-adds no division is needed (Markstein's theorem, see fg_metric_avx512.c): inverse is correctly
 * rounded, so q is good to an ulp, x - delta * q exact, and the last addition rounds to the quotient. */
static inline vector_f64 in_cells(vector_f64 x, const struct cells *cells)
{
#ifdef FUSED_f64
	const vector_f64 q = x * cells->inverse;
	return FUSED_f64(FUSED_MINUS_f64(cells->delta, q, x), cells->inverse, q);
#else
	return x / cells->delta;
#endif
}

/* fg_metric_goal, prepared: each vector holds one value in all lanes; GCC would make them again for each checkpoint. */
struct prepared {
	struct cells cost, accuracy;
	vector_f64 alpha, part, beta; /* part: 1 - alpha */
	vector_f64 top;               /* the last cell of accuracy */
	double start;                 /* what a score has to exceed */
	bool best, quantize, tame;
};

static struct prepared prepare(const struct fg_metric_goal *goal, double top)
{
	const vector_f64 zero = {0};
	const double cost = goal->cost_delta, accuracy = goal->accuracy_delta;
	const bool best = goal->target != goal->target;
	return (struct prepared){
		.cost = {zero + cost, zero + 1 / cost},
		.accuracy = {zero + accuracy, zero + 1 / accuracy},
		.alpha = zero + goal->alpha,
		.part = zero + (1 - goal->alpha),
		.beta = zero + goal->beta,
		.top = zero + top,
		.start = best ? -1 : nextafter(goal->target, -1),
		.best = best,
		.quantize = goal->quantize,
		.tame = accuracy >= 1 / TAME_MOST && cost >= 1 / TAME_MOST && cost <= TAME_MOST,
	};
}

/* The closest scores of a few points: closest_one for a vector. round_off is a constant. */
static inline __attribute__((always_inline)) vector_f64 closest_few(const struct prepared *goal, vector_f64 cost,
																	vector_f64 accuracy, double round_off)
{
	const vector_f64 one = (vector_f64){0} + 1;
	vector_f64 i = in_cells(accuracy, &goal->accuracy), j = in_cells(cost, &goal->cost);
	if (round_off > 0) {
		i += i * round_off;
		j += j * round_off;
	}
	i = LESSER_f64(goal->top, FLOOR_f64(i + 1e-9));
	j = FLOOR_f64(j + 1e-9);
	const vector_f64 centre = LESSER_f64(one, (i + 0.5) * goal->accuracy.delta);
	const vector_f64 weight = goal->part * (one - centre) + goal->alpha;
	return centre / (goal->beta * ((j + 0.5) * goal->cost.delta * weight) + one);
}

/* A sign where x is negative, -0, NaN or above most: the bits of doubles from 0 on are in their order. */
static inline lanes_f64 odd_amounts(vector_f64 x, double most)
{
	const bits_f64 bits = (bits_f64)x, last = (bits_f64)((vector_f64){0} + most);
	return (lanes_f64)((last - bits) | bits);
}

/* State of a search, lane by lane: the score to exceed, and its checkpoint, or -1. */
struct search {
	vector_f64 score;
	lanes_f64 index;
	lanes_f64 odd; /* signs of values that need another look */
	bool over;     /* what was searched for is found */
};

static inline void search_begin(struct search *search, const struct prepared *goal)
{
	const vector_f64 zero = {0};
	*search = (struct search){zero + goal->start, (lanes_f64){0} - 1, {0}, false};
}

/* The checkpoint found, or -1, and its score or NaN. A search that is over left off at once, so that its lanes hold one
 * vector of checkpoints, in their order; else the highest is meant, and of equals the earliest. */
static inline int64_t search_end(const struct search *search, double *score)
{
	int64_t index = INT64_MAX;
	double highest = search->score[0];
	if (search->over) {
		const int lane = __builtin_ctz(~(unsigned)SIGNS_f64(search->index));
		*score = search->score[lane];
		return search->index[lane];
	}
	/* Without a branch, as none could be foretold. */
	for (int k = 1; k < LANES_F64; k++)
		highest = search->score[k] > highest ? search->score[k] : highest;
	const lanes_f64 lower = below(search->score, (vector_f64){0} + highest);
	for (int k = 0; k < LANES_F64; k++) {
		const int64_t i = lower[k] ? INT64_MAX : search->index[k];
		index = i < index ? i : index;
	}
	*score = index < 0 ? (double)NAN : highest;
	return index;
}

static bool rises_singly(const double *x, size_t n)
{
	bool good = true;
	for (size_t i = 0; i < n; i++)
		good &= x[i] >= 0 && x[i] <= DBL_MAX && !(i && x[i] < x[i - 1]);
	return good;
}

/* A sign where a value is negative, NaN or below the one before it, of the vector at x. */
static inline lanes_f64 odd_steps(const double *x)
{
	const bits_f64 before = (bits_f64) * (const vector_at_f64 *)(x - 1), now = (bits_f64) * (const vector_at_f64 *)x;
	return (lanes_f64)((now - before) | now);
}

/* Whether no value is negative, infinite, NaN or below the one before it. */
static inline bool rises(const double *x, size_t n)
{
	lanes_f64 odd = {0};
	if (n <= LANES_F64)
		return rises_singly(x, n);
	for (size_t i = 1; i < n - LANES_F64; i += LANES_F64)
		odd |= odd_steps(x + i);
	odd |= odd_steps(x + n - LANES_F64);
	return (!SIGNS_f64(odd) && x[0] >= 0 && x[n - 1] <= DBL_MAX) || rises_singly(x, n);
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
