/* A unit-test harness in one header: a test is a void function, a check prints what failed and where.
 * SPDX-License-Identifier: Apache-2.0
 *
 *	FG_TEST(a_ring_gives_back_what_was_pushed)
 *	{
 *		fg_require(fg_ring_init(&ring, 8, &err) == FG_OK);   leaves the test when it fails
 *		fg_check(fg_ring_count(&ring) == 0);                 notes the failure and goes on
 *		fg_check_near(power_w, 42.0, 1e-12);                 relative tolerance; prints both numbers
 *		fg_check_int(total, 12345);                          prints both numbers
 *	}
 *	int main(void)
 *	{
 *		fg_run(a_ring_gives_back_what_was_pushed);
 *		return fg_report();
 *	}
 *
 * Checks may run on any thread. The last line printed is "N passed, N failed"; the exit code is 1 when one failed. */
#ifndef FG_TEST_H
#define FG_TEST_H

#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

static _Atomic int fg_test_failures; /* failed checks of the running test */
static int fg_test_passed, fg_test_failed;

#define FG_TEST(name) static void name(void)

static inline int fg_test_note(int holds, const char *file, int line, const char *text)
{
	if (!holds) {
		fprintf(stderr, "%s:%d: failed: %s\n", file, line, text);
		fg_test_failures++;
	}
	return holds;
}

static inline void fg_test_int(int64_t seen, int64_t wanted, const char *file, int line, const char *text)
{
	if (!fg_test_note(seen == wanted, file, line, text))
		fprintf(stderr, "    seen %" PRId64 ", wanted %" PRId64 "\n", seen, wanted);
}

/* Within a fraction of the wanted value; a wanted 0 takes the tolerance as it stands, and NaN is never near. */
static inline void fg_test_near(double seen, double wanted, double tolerance, const char *file, int line,
								const char *text)
{
	double allowed = tolerance * (wanted != 0 ? fabs(wanted) : 1);

	if (!fg_test_note(fabs(seen - wanted) <= allowed, file, line, text))
		fprintf(stderr, "    seen %.17g, wanted %.17g within %g\n", seen, wanted, allowed);
}

#define fg_check(expression) ((void)fg_test_note(!!(expression), __FILE__, __LINE__, #expression))
#define fg_check_int(seen, wanted) fg_test_int((seen), (wanted), __FILE__, __LINE__, #seen " == " #wanted)
#define fg_check_near(seen, wanted, tolerance)                                                                         \
	fg_test_near((seen), (wanted), (tolerance), __FILE__, __LINE__, #seen " ~ " #wanted)
#define fg_require(expression)                                                                                         \
	do {                                                                                                               \
		if (!fg_test_note(!!(expression), __FILE__, __LINE__, #expression))                                            \
			return;                                                                                                    \
	} while (0)

#define fg_run(test) fg_test_run(#test, test)

static inline void fg_test_run(const char *name, void (*test)(void))
{
	fg_test_failures = 0;
	test();
	if (fg_test_failures == 0)
		fg_test_passed++;
	else {
		fg_test_failed++;
		fprintf(stderr, "FAILED %s\n", name);
	}
}

static inline int fg_report(void)
{
	printf("%d passed, %d failed\n", fg_test_passed, fg_test_failed);
	return fg_test_failed > 0;
}

#endif
