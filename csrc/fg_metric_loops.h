/* The loops of one path for one element type; a template, included twice by each fg_metric_<path>.c.
 * SPDX-License-Identifier: Apache-2.0
 *
 * The file that includes this one defines
 *     REAL          double or float
 *     SIGNED, MASK  the signed and the unsigned integer of its size
 *     REAL_MAX      its largest finite value
 *     ROUND_OFF     the relative error of a quotient of two REALs, 0 for double
 *     NAME(noun)    noun_f64 or noun_f32
 *     STREAM        writes a vector past the cache
 * and VECTOR_SIZE in bytes, the functions NAME(whole) and NAME(part), which fill parts of a row of a grid, NAME(BELOW),
 * which compares two vectors, and VECTORS_END, which ends the use of wide registers, because GCC can forget it. The
 * loops here are plain C, and the compiler vectorises them. At its end this file undefines the names of the list. */

#define AT(column, i) (*(const REAL *)((column).at + (column).step * (ptrdiff_t)(i)))
#define INLINE static inline __attribute__((always_inline))
#define VECTOR NAME(vector)
#define OUTSIDE_AT NAME(vector_at)
#define OUTSIDE NAME(vector_outside)
#define LANES (VECTOR_SIZE / sizeof(REAL))
#define BELOW(a, b) ((OUTSIDE)NAME(BELOW)(a, b))

typedef SIGNED OUTSIDE __attribute__((vector_size(VECTOR_SIZE)));

INLINE REAL NAME(weight)(REAL accuracy, REAL alpha)
{
	return (1 - alpha) * (1 - accuracy) + alpha;
}

INLINE REAL NAME(score_one)(REAL cost, REAL accuracy, REAL alpha, REAL beta)
{
	return accuracy / (beta * (cost * NAME(weight)(accuracy, alpha)) + 1);
}

/* NaN counts as inside: the result is then NaN without a warning. */
INLINE bool NAME(inside)(REAL cost, REAL accuracy, REAL alpha, REAL beta)
{
	return !(cost < 0 || cost > REAL_MAX || accuracy < 0 || accuracy > 1 || alpha < 0 || alpha > 1 || beta < 0 ||
			 beta > REAL_MAX);
}

/* Whatever the steps, and whatever the values. */
static bool NAME(score_singly)(const struct fg_metric_column *in, char *out, ptrdiff_t out_step, size_t n)
{
	bool made = false;
	for (size_t i = 0; i < n; i++) {
		const REAL c = AT(in[0], i), acc = AT(in[1], i), a = AT(in[2], i), b = AT(in[3], i);
		const bool inside = NAME(inside)(c, acc, a, b);
		made |= !inside && c == c && acc == acc && a == a && b == b;
		*(REAL *)(out + out_step * (ptrdiff_t)i) = inside ? NAME(score_one)(c, acc, a, b) : (REAL)NAN;
	}
	return made;
}

/* cost and accuracy are arrays, or one value where their step, a compile-time constant, is 0; out is an array. NumPy
 * promises that out is an input, element upon element, or shares nothing with it. A block is looked over before it is
 * written: in the domain no NaN is made, and the formula runs bare. */
INLINE bool NAME(score_block)(struct fg_metric_column cost, struct fg_metric_column accuracy, REAL alpha, REAL beta,
							  char *out, size_t n)
{
	const VECTOR zero = {0}, one = zero + 1, most = zero + REAL_MAX, cost0 = zero + AT(cost, 0),
				 accuracy0 = zero + AT(accuracy, 0), alphas = zero + alpha;
	OUTSIDE outside = {0};
	MASK any = 0;
	for (size_t i = 0; i < n; i += LANES) {
		const VECTOR c = cost.step ? *(const OUTSIDE_AT *)&AT(cost, i) : cost0;
		const VECTOR acc = accuracy.step ? *(const OUTSIDE_AT *)&AT(accuracy, i) : accuracy0;
		outside |= BELOW(c, zero) | BELOW(most, c) | BELOW(acc, zero) | BELOW(one, acc);
	}
	for (size_t i = 0; i < LANES; i++)
		any |= (MASK)outside[i];
	if (any)
		return false;
	for (size_t i = 0; i < n; i += LANES) {
		const VECTOR c = cost.step ? *(const OUTSIDE_AT *)&AT(cost, i) : cost0;
		const VECTOR acc = accuracy.step ? *(const OUTSIDE_AT *)&AT(accuracy, i) : accuracy0;
		const VECTOR weight = (one - alphas) * (one - acc) + alphas;
		*(OUTSIDE_AT *)((REAL *)out + i) = acc / (beta * (c * weight) + one);
	}
	return true;
}

static bool NAME(score)(const struct fg_metric_column *in, char *out, ptrdiff_t out_step, size_t n)
{
	enum { BLOCK = 256 };
	const ptrdiff_t size = sizeof(REAL), cost_step = in[0].step, accuracy_step = in[1].step;
	if (n < LANES || out_step != size || in[2].step || in[3].step || (cost_step && cost_step != size) ||
		(accuracy_step && accuracy_step != size) ||
		!NAME(inside)(0, 0, *(const REAL *)in[2].at, *(const REAL *)in[3].at))
		return NAME(score_singly)(in, out, out_step, n);
	bool made = false;
	const REAL alpha = *(const REAL *)in[2].at, beta = *(const REAL *)in[3].at;
	for (size_t i = 0; i < n; i += BLOCK) {
		const size_t count = n - i < BLOCK ? n - i : BLOCK, even = count - count % LANES;
		const char *cost = in[0].at + cost_step * (ptrdiff_t)i, *accuracy = in[1].at + accuracy_step * (ptrdiff_t)i;
		char *to = out + size * (ptrdiff_t)i;
		bool done;
		if (cost_step && accuracy_step)
			done = NAME(score_block)((struct fg_metric_column){cost, size}, (struct fg_metric_column){accuracy, size},
									 alpha, beta, to, even);
		else
			done = cost_step
					   ? NAME(score_block)((struct fg_metric_column){cost, size},
										   (struct fg_metric_column){accuracy, 0}, alpha, beta, to, even)
					   : NAME(score_block)((struct fg_metric_column){cost, 0},
										   (struct fg_metric_column){accuracy, accuracy_step}, alpha, beta, to, even);
		const size_t rest = done ? even : 0;
		const struct fg_metric_column left[4] = {{cost + cost_step * (ptrdiff_t)rest, cost_step},
												 {accuracy + accuracy_step * (ptrdiff_t)rest, accuracy_step},
												 in[2],
												 in[3]};
		made |= NAME(score_singly)(left, to + size * (ptrdiff_t)rest, size, count - rest);
	}
	VECTORS_END();
	return made;
}

static bool NAME(weigh)(const struct fg_metric_column *in, char *out, ptrdiff_t out_step, size_t n)
{
	bool made = false;
	for (size_t i = 0; i < n; i++) {
		const REAL c = AT(in[0], i), acc = AT(in[1], i), a = AT(in[2], i);
		const bool inside = NAME(inside)(c, acc, a, 0);
		made |= !inside && c == c && acc == acc && a == a;
		*(REAL *)(out + out_step * (ptrdiff_t)i) = inside ? c * NAME(weight)(acc, a) : (REAL)NAN;
	}
	return made;
}

/* The last cell of accuracy. */
INLINE double NAME(top_cell)(double accuracy_delta)
{
	return ceil(1 / accuracy_delta - 1e-9) - 1;
}

/* The cell that a quotient lies in. The 1e-9 lets 0.58 / 0.01, a little below 58, be 58; a float is allowed its own
 * rounding on top. */
INLINE double NAME(cell)(double quotient)
{
	return floor((ROUND_OFF > 0 ? quotient + quotient * ROUND_OFF : quotient) + 1e-9);
}

/* As a number; the largest where it has none. */
static inline int64_t NAME(cell_number)(double quotient)
{
	const double number = NAME(cell)(quotient);
	return number < 0x1p63 ? (int64_t)number : INT64_MAX;
}

/* The score of the centre of the cell; top is the last cell of accuracy. In double even for floats: a cell is a matter
 * of counting. */
INLINE double NAME(closest_one)(double cost, double accuracy, double cost_delta, double accuracy_delta, double top,
								double alpha, double beta)
{
	double i = NAME(cell)(accuracy / accuracy_delta), j = NAME(cell)(cost / cost_delta);
	i = i < 0 ? 0 : i;
	i = i > top ? top : i;
	double centre = (i + 0.5) * accuracy_delta;
	centre = centre > 1 ? 1 : centre;
	const double centre_cost = ((j < 0 ? 0 : j) + 0.5) * cost_delta;
	return centre / (beta * (centre_cost * ((1 - alpha) * (1 - centre) + alpha)) + 1);
}

#define PARAMETER(k) (*(const double *)(in[k].at + in[k].step * (ptrdiff_t)i))
static bool NAME(closest)(const struct fg_metric_column *in, char *out, ptrdiff_t out_step, size_t n)
{
	bool made = false;
	for (size_t i = 0; i < n; i++) {
		const double cost = AT(in[0], i), accuracy = AT(in[1], i), cost_delta = PARAMETER(2), delta = PARAMETER(3);
		const double alpha = PARAMETER(4), beta = PARAMETER(5);
		const bool inside = cost >= 0 && cost <= REAL_MAX && accuracy >= 0 && accuracy <= 1 && cost_delta > 0 &&
							cost_delta <= DBL_MAX && delta > 0 && delta <= 1 && alpha >= 0 && alpha <= 1 && beta >= 0 &&
							beta <= DBL_MAX;
		const double top = NAME(top_cell)(delta);
		const double q = inside ? NAME(closest_one)(cost, accuracy, cost_delta, delta, top, alpha, beta) : (double)NAN;
		made |= q != q && cost == cost && accuracy == accuracy && cost_delta == cost_delta && delta == delta &&
				alpha == alpha && beta == beta;
		*(REAL *)(out + out_step * (ptrdiff_t)i) = (REAL)q;
	}
	return made;
}
#undef PARAMETER

#include "fg_metric_grid.h"

static size_t NAME(outside)(const REAL *x, size_t n, double low, double high)
{
	const REAL lowest = (REAL)low, highest = high > REAL_MAX ? REAL_MAX : (REAL)high;
	enum { BLOCK = 1024 };
	for (size_t from = 0; from < n; from += BLOCK) {
		const size_t to = n - from < BLOCK ? n : from + BLOCK;
		MASK out = 0;
		for (size_t i = from; i < to; i++)
			out |= (MASK)((x[i] < lowest) | (x[i] > highest));
		for (size_t i = from; out && i < to; i++)
			if (x[i] < lowest || x[i] > highest)
				return i;
	}
	return n;
}

#include "fg_metric_reach.h"

#undef AT
#undef INLINE
#undef VECTOR
#undef OUTSIDE_AT
#undef OUTSIDE
#undef LANES
#undef BELOW
#undef REAL
#undef SIGNED
#undef MASK
#undef REAL_MAX
#undef ROUND_OFF
#undef NAME
#undef STREAM
