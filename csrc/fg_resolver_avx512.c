/* The AVX-512 path: eight instants at a time.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Its trick: sixteen breaks fit in two registers, out of which VPERMI2 looks up eight at once. So places are found by
 * bisection without a branch, and no instruction gathers from memory, which is slower than one load a lane. */
#include "fg_resolver_path.h"

#ifdef FG_WIDE

#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,popcnt,prefer-vector-width=512")

#include <immintrin.h>

enum {
	LANES = 8,
	REACH = 12, /* of sixteen breaks so many may be passed: those of the estimate and of `high` lie up to 3 beyond */
	AHEAD = 256 /* samples, instants, answers: blocks come and go too fast for the prefetcher of the CPU */
};

struct sixteen {
	__m512i first, second;
};

static bool usable(void)
{
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
		   __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("popcnt");
}

static inline struct sixteen load(const void *from)
{
	return (struct sixteen){_mm512_loadu_si512(from), _mm512_loadu_si512((const char *)from + 64)};
}

static inline __m512i pick(struct sixteen from, __m512i places)
{
	return _mm512_permutex2var_epi64(from.first, places, from.second);
}

static inline __m512d pick_pd(struct sixteen from, __m512i places)
{
	return _mm512_castsi512_pd(pick(from, places));
}

/* The eight values `back` before those of `now`, whose predecessors are `before`. */
#define BACK(now, before, back) _mm512_alignr_epi64(now, before, LANES - (back))

struct eight {
	__m512i at_ns, raw, half_ns, marks; /* marks: wraps and flags, in any order */
};

/* Eight samples of three words each, word by word. */
static inline struct eight columns(const struct fg_sample *samples)
{
	const char *from = (const char *)samples, *ahead = from + AHEAD * sizeof *samples;
	const __m512i a = _mm512_loadu_si512(from), b = _mm512_loadu_si512(from + 64), c = _mm512_loadu_si512(from + 128);
	const __m512i first = _mm512_permutex2var_epi64(a, _mm512_setr_epi64(0, 3, 6, 9, 12, 15, 0, 0), b);
	const __m512i second = _mm512_permutex2var_epi64(a, _mm512_setr_epi64(1, 4, 7, 10, 13, 0, 0, 0), b);
	const __m512i third = _mm512_permutex2var_epi64(a, _mm512_setr_epi64(2, 5, 8, 11, 14, 0, 0, 0), b);
	const __m512i rest = _mm512_permutex2var_epi64(third, _mm512_setr_epi64(0, 1, 2, 3, 4, 9, 12, 15), c);

	__builtin_prefetch(ahead);
	__builtin_prefetch(ahead + 64);
	__builtin_prefetch(ahead + 128);
	return (struct eight){
		_mm512_permutex2var_epi64(first, _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 10, 13), c),
		_mm512_permutex2var_epi64(second, _mm512_setr_epi64(0, 1, 2, 3, 4, 8, 11, 14), c),
		_mm512_and_si512(rest, _mm512_set1_epi64(UINT32_MAX)),
		_mm512_srli_epi64(rest, 32),
	};
}

/* Half of each, rounded towards zero. */
static inline __m512i half(__m512i x)
{
	return _mm512_srai_epi64(_mm512_add_epi64(x, _mm512_srli_epi64(x, 63)), 1);
}

/* The running maximum of x, lane by lane, over `before` too. */
static inline __m512i running_max(__m512i x, __m512i before)
{
	const __m512i least = _mm512_set1_epi64(INT64_MIN);

	x = _mm512_max_epi64(x, BACK(x, least, 1));
	x = _mm512_max_epi64(x, BACK(x, least, 2));
	x = _mm512_max_epi64(x, BACK(x, least, 4));
	return _mm512_max_epi64(x, before);
}

static inline __m512i last_lane(__m512i x)
{
	return _mm512_permutexvar_epi64(_mm512_set1_epi64(LANES - 1), x);
}

/* Write the lanes that `changed` one after the other; what lies behind them will be written over. (Compressing straight
 * into memory is slow on Zen 4.) */
static inline void append(int64_t *column, __mmask8 changed, __m512i x)
{
	_mm512_storeu_si512(column, _mm512_maskz_compress_epi64(changed, x));
}

/* See struct fg_table: whether the breaks of each change from `first` on lie within a few of each other. */
static bool near(const struct fg_table *t, size_t first)
{
	int64_t odd = 0;

	for (size_t i = first > 3 ? first : 3; i <= t->count; i++)
		odd |= (t->high_ns[i] - t->low_ns[i - 3]) | (t->knot_ns[i] - t->low_ns[i - 2]);
	return odd >= 0 && (first > 2 || t->count < 2 || t->knot_ns[2] >= t->low_ns[0]);
}

/* Without wraps and flags, and as long as no read ended before the one before it. */
static size_t tabulate(struct fg_resolver *r, const struct fg_sample *samples, size_t count)
{
	struct fg_table *t = &r->table;
	const size_t before = t->count;
	const __m512i period_ns = _mm512_set1_epi64(r->traits.period_ns), one = _mm512_set1_epi64(1);
	const __m512i least = _mm512_set1_epi64(INT64_MIN);
	const __m512i total = _mm512_set1_epi64(r->total - r->last.raw), rounded = _mm512_set1_epi64(r->rounded);
	__m512i at_ns = _mm512_set1_epi64(r->last.at_ns), raw = _mm512_set1_epi64(r->last.raw);
	__m512i begin_ns = _mm512_set1_epi64(r->last.at_ns - r->last.half_ns), sure_ns = _mm512_set1_epi64(r->sure_at_ns);
	__m512i reach_ns = _mm512_set1_epi64(r->reach_at_ns);
	size_t taken = 0;

	for (; taken + LANES <= count && t->count + FG_TABLE_STEP <= FG_TABLE; taken += LANES) {
		const struct eight now = columns(samples + taken);
		const __m512i begin = _mm512_sub_epi64(now.at_ns, now.half_ns);
		const __m512i end = _mm512_add_epi64(now.at_ns, now.half_ns);
		const __mmask8 changed = _mm512_cmpneq_epi64_mask(now.raw, BACK(now.raw, raw, 1));
		const __m512i still = _mm512_max_epi64(_mm512_sub_epi64(begin, period_ns),
											   _mm512_mask_mov_epi64(least, changed, BACK(begin, begin_ns, 1)));
		const __m512i reach = running_max(still, last_lane(reach_ns));
		const __m512i high = _mm512_min_epi64(_mm512_add_epi64(BACK(reach, reach_ns, 1), one), end);
		const __m512i since = _mm512_max_epi64(BACK(now.at_ns, at_ns, 1), _mm512_sub_epi64(now.at_ns, period_ns));
		const __m512i knot = half(_mm512_add_epi64(since, now.at_ns));
		const __m512i grown = _mm512_add_epi64(total, now.raw);
		const size_t new = t->count + 1;

		if ((_mm512_test_epi64_mask(now.marks, now.marks) | _mm512_cmplt_epi64_mask(end, BACK(end, sure_ns, 1))) != 0)
			break;
		append(&t->low_ns[new], changed, end);
		append(&t->high_ns[new], changed, high);
		append(&t->knot_ns[new], changed, knot);
		append(&t->total[new], changed, grown);
		_mm512_storeu_pd(&t->value[new],
						 _mm512_cvtepi64_pd(_mm512_sub_epi64(_mm512_maskz_compress_epi64(changed, grown), rounded)));
		t->count += (size_t)__builtin_popcount(changed);
		at_ns = now.at_ns;
		raw = now.raw;
		begin_ns = begin;
		sure_ns = end;
		reach_ns = reach;
	}
	if (!near(t, before + 1)) {
		t->count = before;
		return 0;
	}
	if (taken > 0) {
		r->total += samples[taken - 1].raw - r->last.raw;
		r->last = samples[taken - 1];
		r->sure_at_ns = r->last.at_ns + r->last.half_ns;
		r->reach_at_ns = _mm_cvtsi128_si64(_mm512_castsi512_si128(last_lane(reach_ns)));
	}
	return taken;
}

/* `places`, plus `step` where breaks[places + step - 1] <= at. */
static inline __m512i advance(struct sixteen breaks, __m512i places, __m512i at, int step)
{
	const __m512i probe = step > 1 ? _mm512_add_epi64(places, _mm512_set1_epi64(step - 1)) : places;
	const __mmask8 passed = _mm512_cmple_epi64_mask(pick(breaks, probe), at);
	return _mm512_mask_add_epi64(places, passed, places, _mm512_set1_epi64(step));
}

static inline __attribute__((always_inline)) void write_answers(const struct fg_answers *out, size_t i, __mmask8 lanes,
																enum fg_edge edge, __m512d low, __m512d estimate,
																__m512d high)
{
	if (edge == FG_END) {
		low = _mm512_max_pd(_mm512_setzero_pd(), _mm512_sub_pd(low, _mm512_maskz_loadu_pd(lanes, out->low + i)));
		estimate = _mm512_sub_pd(estimate, _mm512_maskz_loadu_pd(lanes, out->estimate + i));
		high = _mm512_sub_pd(high, _mm512_maskz_loadu_pd(lanes, out->high + i));
	}
	_mm512_mask_storeu_pd(out->low + i, lanes, low);
	_mm512_mask_storeu_pd(out->estimate + i, lanes, estimate);
	_mm512_mask_storeu_pd(out->high + i, lanes, high);
}

/* The answers of the instants `at` in `lanes`, which lie at most REACH changes past `place`. */
static inline __attribute__((always_inline)) void answer(const struct fg_table *t, size_t place, struct sixteen lows,
														 __m512i at, const struct fg_answers *out, size_t i,
														 __mmask8 lanes, enum fg_edge edge)
{
	const __mmask8 far = _mm512_cmple_epi64_mask(_mm512_set1_epi64(t->low_ns[place + LANES]), at);
	const __m512i low_8 = _mm512_maskz_mov_epi64(far, _mm512_set1_epi64(LANES));
	const __m512i low = advance(lows, advance(lows, advance(lows, low_8, at, 4), at, 2), at, 1);
	const struct sixteen knots = load(&t->knot_ns[place + 1]), highs = load(&t->high_ns[place + 1]);
	const __m512i knot = advance(knots, advance(knots, low, at, 1), at, 1);
	const __m512i high = advance(highs, advance(highs, advance(highs, low, at, 1), at, 1), at, 1);
	const __m512i since = _mm512_max_epi64(_mm512_sub_epi64(at, pick(load(&t->from_ns[place]), knot)),
										   _mm512_setzero_si512());
	const __m512d rise = _mm512_mul_pd(pick_pd(load(&t->slope[place]), knot), _mm512_cvtepi64_pd(since));
	const struct sixteen values = load(&t->value[place]);

	write_answers(out, i, lanes, edge, pick_pd(values, low), _mm512_add_pd(pick_pd(load(&t->base[place]), knot), rise),
				  _mm512_add_pd(pick_pd(values, high), _mm512_set1_pd(t->quantum)));
}

static inline size_t passed(struct sixteen breaks, int64_t at_ns)
{
	const __m512i at = _mm512_set1_epi64(at_ns);

	return (size_t)__builtin_popcount(_mm512_cmple_epi64_mask(breaks.first, at)) +
		   (size_t)__builtin_popcount(_mm512_cmple_epi64_mask(breaks.second, at));
}

static inline __attribute__((always_inline)) void look_ahead(const struct fg_stream *s, size_t i, enum fg_edge edge)
{
	__builtin_prefetch(s->at_ns + i + AHEAD);
	if (edge != FG_END) {
		__builtin_prefetch(s->out.low + i + AHEAD, 1);
		__builtin_prefetch(s->out.estimate + i + AHEAD, 1);
		__builtin_prefetch(s->out.high + i + AHEAD, 1);
	}
}

static inline __attribute__((always_inline)) void look_up_edge(const struct fg_table *t, struct fg_stream *stream,
															   int64_t until_ns, enum fg_edge edge)
{
	const struct fg_stream s = *stream;
	size_t i = s.next, place = 0, n;

	for (; i < s.count && s.at_ns[i] < until_ns; i += n) {
		const struct sixteen lows = load(&t->low_ns[place + 1]);
		const int64_t far_ns = t->low_ns[place + 1 + REACH], end_ns = far_ns < until_ns ? far_ns : until_ns;

		if (__builtin_expect(i + LANES <= s.count && s.at_ns[i + LANES - 1] < end_ns, 1)) {
			answer(t, place, lows, _mm512_loadu_si512(s.at_ns + i), &s.out, i, 0xff, edge);
			look_ahead(&s, i, edge);
			n = LANES;
		} else {
			const __mmask8 there = s.count - i < LANES ? (__mmask8)((1u << (s.count - i)) - 1) : 0xff;
			const __m512i at = _mm512_maskz_loadu_epi64(there, s.at_ns + i);
			const __mmask8 lanes = _mm512_mask_cmplt_epi64_mask(there, at, _mm512_set1_epi64(end_ns));

			n = (size_t)__builtin_popcount(lanes);
			if (n == 0) {
				place += REACH + 1;
				continue;
			}
			answer(t, place, lows, at, &s.out, i, lanes, edge);
		}
		place += passed(lows, s.at_ns[i + n - 1]);
	}
	stream->next = i;
}

#include "fg_resolver_loops.h"

const struct fg_resolver_path fg_resolver_path_avx512 = {"avx512", usable, tabulate, draw, look_up};

#pragma GCC pop_options
#endif
