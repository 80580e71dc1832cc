/* See fg_follow_fit.h. The factors L D L' of a matrix of three diagonals have two, so each row needs only the row before:
 * with the errors' variance v_k and covariance -c_k, d_k = v_k - c_(k-1)^2 / d_(k-1), and the rows
 * u_k = z_k + c_(k-1) / d_(k-1) u_(k-1) have independent errors of variance d_k.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fg_follow_fit.h"

#include <string.h>

static inline double square(double x)
{
	return x * x;
}

static inline double width_2(const struct fg_change *change)
{
	return square((double)(change->at_ns - change->after_ns));
}

static inline double length_2(const struct fg_change *change)
{
	return square((double)(change->at_ns - change[-1].at_ns));
}

static inline bool known(const struct fg_change *change)
{
	return change->grown > 0 && change->at_ns > change->after_ns;
}

static inline void add_square(const double *row, double weight, size_t states, double *matrix, double *vector)
{
	double grown = row[states];

	for (size_t a = 0; a < states; a++) {
		double one = weight * row[a], *out = matrix + a * states;

		vector[a] += one * grown;
		for (size_t b = 0; b < states; b++)
			out[b] += one * row[b];
	}
}

/* Inlined for each small number of states: the loops over states unroll, and their sums stay in registers. */
static inline __attribute__((always_inline)) void sum_rows(const struct fg_follow_rows *rows,
														   const struct fg_follow_errors *errors, size_t states,
														   double *restrict row, double *restrict matrix,
														   double *restrict vector, double *restrict time_ns,
														   struct fg_follow_sums *sums)
{
	double side = 0.0, shared_before = 0.0; /* c_(k-1) / d_(k-1), c_(k-1); 0 if the row before is not known */
	double width_before = errors->shared * width_2(&rows->changes[rows->first - 1]), grown = 0.0;
	uint64_t known_rows = 0;

	for (size_t k = rows->first; k < rows->until; k++) {
		const struct fg_change *change = &rows->changes[k];
		const double *times = rows->times + k * states;
		double shared = errors->shared * width_2(change);

		for (size_t s = 0; s < states; s++)
			time_ns[s] += times[s];
		grown += (double)change->grown;
		if (known(change)) {
			double length_ns2 = length_2(change);
			double own = errors->own * (length_ns2 > errors->least_ns2 ? length_ns2 : errors->least_ns2);
			double variance = own + width_before + shared - shared_before * side;
			double weight = variance > 0.0 ? 1.0 / variance : 0.0;

			for (size_t s = 0; s < states; s++)
				row[s] = times[s] + side * row[s];
			row[states] = (double)change->grown + side * row[states];
			add_square(row, weight, states, matrix, vector);
			shared_before = shared;
			side = shared * weight;
			known_rows++;
		} else {
			shared_before = side = 0.0;
		}
		width_before = shared;
	}
	sums->grown += grown;
	sums->known += known_rows;
}

enum { FEW = 4 };

static inline __attribute__((always_inline)) void sum_few(const struct fg_follow_rows *rows,
														  const struct fg_follow_errors *errors, size_t states,
														  struct fg_follow_sums *sums)
{
	double row[FEW + 1] = {0}, matrix[FEW * FEW] = {0}, vector[FEW] = {0}, time_ns[FEW] = {0};

	sum_rows(rows, errors, states, row, matrix, vector, time_ns, sums);
	for (size_t a = 0; a < states; a++) {
		sums->vector[a] += vector[a];
		sums->time_ns[a] += time_ns[a];
		for (size_t b = 0; b < states; b++)
			sums->matrix[a * states + b] += matrix[a * states + b];
	}
}

void fg_follow_sum(const struct fg_follow_rows *rows, const struct fg_follow_errors *errors,
				   struct fg_follow_sums *sums)
{
	double row[FG_FOLLOW_STATES + 1];

	switch (rows->states) {
	case 3:
		sum_few(rows, errors, 3, sums);
		break;
	case 4:
		sum_few(rows, errors, 4, sums);
		break;
	default:
		memset(row, 0, sizeof row);
		sum_rows(rows, errors, rows->states, row, sums->matrix, sums->vector, sums->time_ns, sums);
	}
}

void fg_follow_leave(const struct fg_follow_rows *rows, const double *power, struct fg_follow_left *left)
{
	bool before = false;
	double last = 0.0;

	for (size_t k = rows->first; k < rows->until; k++) {
		const struct fg_change *change = &rows->changes[k];
		const double *times = rows->times + k * rows->states;
		bool now = known(change);

		if (now) {
			double error = (double)change->grown;

			for (size_t s = 0; s < rows->states; s++)
				error -= power[s] * times[s];
			left->square += error * error;
			if (before) {
				left->neighbours += error * last;
				left->shared_ns2 += width_2(change - 1);
			}
			left->width_ns2 += width_2(change);
			left->length_ns2 += length_2(change);
			left->known++;
			last = error;
		}
		before = now;
	}
}
