/* Sums of a regression of the growths of a counter on the expected times between its updates (fg_follow_times).
 * SPDX-License-Identifier: Apache-2.0
 *
 * Pure arithmetic, as fg_follow. The growth of change k is
 *     dC_k = sum over s of p_s x_ks + e_k
 * An instant that was later than expected adds to one growth what it takes from the next. So the errors of neighbours
 * have a part in common: with the width w_k of the bracket of update k and the distance l_k from the update before,
 *     variance of e_k = own * max(l_k^2, least) + shared * (w_(k-1)^2 + w_k^2),  covariance with the next = -shared * w_k^2 */
#ifndef FG_FOLLOW_FIT_H
#define FG_FOLLOW_FIT_H

#include "fg_follow.h"

enum { FG_FOLLOW_STATES = 254 }; /* most columns of a regression */

/* Rows first..until - 1; row k is the growth of changes[k] and the times from times[k * states] on; first is above 0.
 * A growth that is not known (of a restart, of a bracket without width) tells nothing. */
struct fg_follow_rows {
	const struct fg_change *changes;
	const double *times;
	size_t first, until, states;
};

struct fg_follow_errors {
	double own, least_ns2, shared;
};

/* The rows, given independent errors of variance 1: their squares, and their products with the growths. */
struct fg_follow_sums {
	double *matrix, *vector; /* states * states, states */
	double *time_ns;         /* in each state, of all rows */
	double grown;            /* in all rows */
	uint64_t known;          /* rows with a known growth */
};

/* Adds to the sums. The rows are taken as independent of those before the first. */
void fg_follow_sum(const struct fg_follow_rows *rows, const struct fg_follow_errors *errors,
				   struct fg_follow_sums *sums);

/* What is left of the growths by some powers, and how large brackets and distances are. */
struct fg_follow_left {
	double square;                /* of e_k */
	double neighbours;            /* e_k e_(k+1) */
	double shared_ns2;            /* w_k^2 between two known growths */
	double width_ns2, length_ns2; /* w_k^2 and l_k^2 of all known growths */
	uint64_t known;
};

/* Adds to `left`. */
void fg_follow_leave(const struct fg_follow_rows *rows, const double *power, struct fg_follow_left *left);

/* For each of `count` matrices M and vectors v, the x >= 0 that minimises x'Mx - 2v'x. M is symmetric and positive
 * semidefinite; a state with 0 on its diagonal gets 0. `work` has room for 2 * states * states numbers. */
void fg_follow_powers(const double *matrices, const double *vectors, size_t count, size_t states, double *work,
					  double *powers);

#endif
