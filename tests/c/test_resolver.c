/* SPDX-License-Identifier: Apache-2.0 */
#include "fg_resolver_path.h"
#include "fg_test.h"
#include "slow_resolver.h"

#include <stdlib.h>

enum { MOST = 900 };

struct columns {
	double low[MOST], estimate[MOST], high[MOST], unknown[MOST];
};

static uint64_t random_state = 1;

static int64_t random_below(int64_t n)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (int64_t)((random_state >> 33) % (uint64_t)n);
}

static int ascending(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

/* Outputs begin as NaN: the resolver must write each, not trust what it finds. */
static struct fg_answers answers(struct columns *out)
{
	memset(out, 0xff, sizeof *out);
	memset(out->unknown, 0, sizeof out->unknown);
	return (struct fg_answers){out->low, out->estimate, out->high, out->unknown, NULL};
}

/* Feed in chunks of at most `chunk` samples, of random size where it is negative. */
static void feed(struct fg_resolver *resolver, const struct fg_sample *samples, size_t count, int64_t chunk)
{
	for (size_t i = 0; i < count;) {
		size_t n = (size_t)(chunk > 0 ? chunk : 1 + random_below(-chunk));
		n = n > count - i ? count - i : n;
		fg_resolver_feed(resolver, samples + i, n);
		i += n;
	}
	fg_resolver_finish(resolver);
}

static void windows(const struct fg_traits *traits, double ceiling, const struct fg_sample *samples, size_t count,
					int64_t chunk, const int64_t *begin, const int64_t *end, size_t n, struct columns *out)
{
	struct fg_resolver resolver;
	struct fg_answers a = answers(out);

	fg_resolver_init_windows(&resolver, traits, ceiling, begin, end, n, &a);
	feed(&resolver, samples, count, chunk);
}

static void instants(const struct fg_traits *traits, double ceiling, const struct fg_sample *samples, size_t count,
					 int64_t chunk, const int64_t *at, size_t n, struct columns *out)
{
	struct fg_resolver resolver;
	struct fg_answers a = answers(out);

	fg_resolver_init_instants(&resolver, traits, ceiling, at, n, &a);
	feed(&resolver, samples, count, chunk);
}

/* Samples as a sampler makes them: reads do not overlap; stamps may be equal where reads took no time. */
static size_t random_samples(struct fg_sample *s, size_t most, const struct fg_traits *traits, int regular)
{
	size_t count = (size_t)random_below((int64_t)most + 1);
	int64_t at_ns = random_below(2000), half_ns = 0;
	bool instant = random_below(3) == 0, often = random_below(2), steady = random_below(2); /* changes at every read */

	for (size_t k = 0; k < count; k++) {
		int64_t step_ns = regular ? 100 + random_below(20) : random_below(often ? 30 : 300);
		int64_t next_half_ns = instant ? 0 : random_below(8);

		at_ns += step_ns > half_ns + next_half_ns ? step_ns : instant ? step_ns : half_ns + next_half_ns;
		half_ns = next_half_ns;
		s[k] = (struct fg_sample){at_ns, random_below(traits->modulus / traits->quantum) * traits->quantum,
								  (uint32_t)half_ns, 0, 0};
		if (k == 0)
			continue;
		s[k].flags = (random_below(steady ? 90 : 30) == 0 ? FG_SAMPLE_RESET : 0) |
					 (random_below(steady ? 60 : 20) == 0 ? FG_SAMPLE_GAP : 0);
		if (steady ? random_below(60) == 0 : random_below(3) != 0)
			s[k].raw = s[k - 1].raw;
		else if (steady && s[k - 1].raw < traits->modulus - 20)
			s[k].raw = s[k - 1].raw + 1 + random_below(9);
		else if (s[k].raw < s[k - 1].raw)
			s[k].wraps = (uint16_t)(1 + (random_below(9) == 0 ? random_below(4) : 0));
	}
	return count;
}

static size_t random_edges(int64_t *at, size_t most, const struct fg_sample *s, size_t count)
{
	size_t n = (size_t)random_below((int64_t)most + 1);
	int64_t first_ns = count > 0 ? s[0].at_ns : 0, last_ns = count > 0 ? s[count - 1].at_ns : 1000;

	for (size_t i = 0; i < n; i++) {
		if (count > 0 && random_below(3) == 0) /* right on an edge of something */
			at[i] = s[random_below((int64_t)count)].at_ns + random_below(15) - 7;
		else
			at[i] = first_ns - 300 + random_below(last_ns - first_ns + 600);
	}
	qsort(at, n, sizeof *at, ascending);
	return n;
}

static void compare_instants(const struct fg_traits *traits, double ceiling, const struct fg_sample *s, size_t count,
							 const int64_t *at, size_t n)
{
	static struct columns out;

	instants(traits, ceiling, s, count, (int64_t)count + 1, at, n, &out);
	for (size_t i = 0; i < n; i++) {
		struct slow_answer slow = traits->kind == FG_ENERGY ? slow_energy(traits, ceiling, s, count, at[i], 1)
															: slow_power(traits, ceiling, s, count, at[i]);
		if (count == 0) {
			fg_check(isnan(out.low[i]) && isnan(out.estimate[i]) && isnan(out.high[i]));
			continue;
		}
		fg_check_near(out.low[i], slow.low, 1e-12);
		fg_check_near(out.high[i], slow.high, 1e-12);
		fg_check_near(out.unknown[i], slow.unknown, 1e-12);
		fg_check(fabs(out.estimate[i] - slow.estimate) <= 1e-9 * (1 + fabs(slow.estimate)));
	}
}

static void compare_windows(const struct fg_traits *traits, double ceiling, const struct fg_sample *s, size_t count,
							const int64_t *begin, const int64_t *end, size_t n)
{
	static struct columns out;

	windows(traits, ceiling, s, count, (int64_t)count + 1, begin, end, n, &out);
	for (size_t i = 0; i < n && count > 0; i++) {
		struct slow_answer from, to;
		if (traits->kind == FG_ENERGY) {
			from = slow_energy(traits, ceiling, s, count, begin[i], -1);
			to = slow_energy(traits, ceiling, s, count, end[i], 1);
			fg_check_near(out.low[i], fmax(to.low - from.high, 0), 1e-9);
			fg_check_near(out.high[i], to.high - from.low + to.unknown - from.unknown, 1e-9);
			fg_check(out.low[i] <= out.estimate[i] + 1e-6 && out.estimate[i] <= out.high[i] + 1e-6);
		} else {
			double scale = 1 + fabs(out.high[i]);
			from = slow_power(traits, ceiling, s, count, begin[i]);
			to = slow_power(traits, ceiling, s, count, end[i]);
			fg_check(fabs(out.low[i] - fmax(to.low - from.low, 0)) <= 1e-6 * scale);
			fg_check(fabs(out.high[i] - (to.high - from.high)) <= 1e-6 * scale);
		}
		fg_check(fabs(out.estimate[i] - (to.estimate - from.estimate)) <= 1e-6 * (1 + fabs(out.estimate[i])));
	}
}

static struct fg_traits random_traits(enum fg_kind kind)
{
	static const int64_t periods[] = {0, 1, 50, 120, 500, 5000};

	int64_t quantum = 1 + random_below(9);

	return (struct fg_traits){kind, quantum * (100 + random_below(10000)), quantum, periods[random_below(6)], 0, 0, 0};
}

static void twins(enum fg_kind kind, int cases)
{
	static struct fg_sample samples[40];
	static int64_t begin[60], end[60];

	for (int c = 0; c < cases; c++) {
		struct fg_traits traits = random_traits(kind);
		size_t count = random_samples(samples, 40, &traits, random_below(2) == 0);
		size_t n = random_edges(begin, 60, samples, count);
		int64_t width_ns = random_below(400), ceiling = random_below(3) == 0 ? 0 : 200000;
		bool vague = kind == FG_POWER && random_below(4) == 0; /* another's stamps, less certain than they are apart */

		for (size_t k = 0; vague && k < count; k++)
			samples[k].half_ns = (uint32_t)random_below(400);
		compare_instants(&traits, (double)ceiling, samples, count, begin, n);
		for (size_t i = 0; i < n; i++)
			end[i] = begin[i] + width_ns;
		compare_windows(&traits, (double)ceiling, samples, count, begin, end, n);
		if (fg_test_failures > 0)
			return;
	}
}

FG_TEST(a_counter_is_resolved_as_its_slow_twin_does)
{
	twins(FG_ENERGY, 4000);
}

FG_TEST(a_power_is_resolved_as_its_slow_twin_does)
{
	twins(FG_POWER, 500);
}

FG_TEST(chunks_of_any_size_give_the_same_bits)
{
	static struct fg_sample samples[MOST];
	static int64_t begin[MOST], end[MOST];
	static struct columns whole, part;

	for (int c = 0; c < 200; c++) {
		struct fg_traits traits = random_traits(c % 4 == 0 ? FG_POWER : FG_ENERGY);
		size_t count = random_samples(samples, MOST, &traits, c % 2);
		size_t n = random_edges(begin, MOST, samples, count);
		int64_t width_ns = random_below(4000);

		for (size_t i = 0; i < n; i++)
			end[i] = begin[i] + width_ns;
		windows(&traits, 7.5, samples, count, (int64_t)count + 1, begin, end, n, &whole);
		windows(&traits, 7.5, samples, count, c % 3 == 0 ? 1 : -1 - (int64_t)(count % 300), begin, end, n, &part);
		fg_check(memcmp(whole.low, part.low, n * sizeof *whole.low) == 0);
		fg_check(memcmp(whole.estimate, part.estimate, n * sizeof *whole.low) == 0);
		fg_check(memcmp(whole.high, part.high, n * sizeof *whole.low) == 0);
		fg_check(memcmp(whole.unknown, part.unknown, n * sizeof *whole.low) == 0);
		if (fg_test_failures > 0)
			return;
	}
}

FG_TEST(every_path_gives_the_same_bits)
{
	static struct fg_sample samples[MOST];
	static int64_t begin[MOST], end[MOST];
	static struct columns plain, best;
	struct fg_resolver resolver;
	struct fg_answers a;

	for (int c = 0; c < 1000; c++) {
		struct fg_traits traits = random_traits(FG_ENERGY);
		size_t count = random_samples(samples, MOST, &traits, c % 2);
		size_t n = random_edges(begin, MOST, samples, count), few = n / (size_t)(1 + random_below(9));
		int64_t width_ns = random_below(4000), slow = random_below(3), half_ns = 40 + random_below(300);

		for (size_t k = 0; k < count; k++) /* in one third some reads were slow and go on beside others, in one all */
			if (slow == 2 || (slow == 1 && random_below(30) == 0))
				samples[k].half_ns = (uint32_t)(half_ns + random_below(slow == 2 ? 20 : 300));
		for (size_t i = 0; i < n; i++)
			end[i] = begin[i] + width_ns;
		windows(&traits, 7.5, samples, count, (int64_t)count + 1, begin, end, few, &best);
		a = answers(&plain);
		fg_resolver_init_windows(&resolver, &traits, 7.5, begin, end, few, &a);
		resolver.path = &fg_resolver_path_baseline;
		feed(&resolver, samples, count, 1 + random_below(400));
		fg_check(memcmp(plain.low, best.low, few * sizeof *best.low) == 0);
		fg_check(memcmp(plain.estimate, best.estimate, few * sizeof *best.low) == 0);
		fg_check(memcmp(plain.high, best.high, few * sizeof *best.low) == 0);
		if (fg_test_failures > 0)
			return;
	}
}

FG_TEST(windows_round_wraps_are_exact_to_the_unit)
{
	/* Read every 100 ns without delay; modulus 1000, 70 units a read, so every 14th or so wraps. */
	enum { COUNT = 400 };
	struct fg_traits traits = {FG_ENERGY, 1000, 1, 0, 0, 0, 0};
	static struct fg_sample samples[COUNT];
	static struct columns out;
	int64_t begin[MOST], end[MOST];
	size_t n = 0;

	for (int64_t k = 0; k < COUNT; k++)
		samples[k] = (struct fg_sample){k * 100, 70 * k % 1000, 0, k > 0 && 70 * k % 1000 < 70 * (k - 1) % 1000, 0};
	for (int64_t width = 0; width < 60; width += 7, n += 90)
		for (int64_t i = 0; i < 90; i++) { /* over, just before, just after and between wraps */
			begin[i] = i * 300;
			end[i] = (i * 3 + width) * 100;
			if (i == 89)
				windows(&traits, 1, samples, COUNT, 64, begin, end, 90, &out);
			for (int64_t j = 0; i == 89 && j < 90; j++) {
				fg_check_near(out.estimate[j], (double)(70 * width), 0);
				fg_check_near(out.low[j], (double)(width > 0 ? 70 * width - 1 : 0), 0);
				fg_check_near(out.high[j], (double)(70 * width + 1), 0);
			}
		}
	fg_check(n > 0);
}

/* Energy of a waveform from 0 to x, x in 0 .. 1. */
static double constant(double x) { return x; }
static double ramp(double x) { return x * x; }
static double steps(double x) { return (floor(x * 10) + (x * 10 - floor(x * 10)) * ((int)floor(x * 10) % 2)) / 10; }
static double sine(double x) { return x - sin(40 * x) / 40; }

FG_TEST(a_counter_gives_known_waveforms_in_closed_form)
{
	static double (*const forms[])(double) = {constant, ramp, steps, sine};
	struct fg_traits traits = {FG_ENERGY, 0, 1, 0, 0, 0, 0};
	static struct fg_sample samples[MOST];
	static struct columns out;
	int64_t begin[MOST], end[MOST];
	size_t n = MOST / 2;

	for (size_t f = 0; f < 4; f++) {
		int64_t at_ns = 12345;
		for (size_t k = 0; k < MOST; k++) { /* irregular stamps, energies of up to 2^50 units */
			at_ns += 1 + random_below(2000000);
			samples[k] = (struct fg_sample){at_ns, (int64_t)floor(forms[f]((double)at_ns / 2e9) * 0x1p50), 0, 0, 0};
		}
		for (size_t i = 0; i < n; i++) {
			begin[i] = samples[i].at_ns;
			end[i] = samples[i + n].at_ns;
		}
		windows(&traits, 0, samples, MOST, 100, begin, end, n, &out);
		for (size_t i = 0; i < n; i++) {
			double truth = (forms[f]((double)end[i] / 2e9) - forms[f]((double)begin[i] / 2e9)) * 0x1p50;
			fg_check_near(out.estimate[i], truth, 1e-12);
		}
	}
}

FG_TEST(a_power_gives_known_waveforms_within_the_trapezoids_error)
{
	struct fg_traits traits = {FG_POWER, 0, 1, 0, 0, 0, 0};
	static struct fg_sample samples[MOST];
	static struct columns out;
	int64_t begin[1], end[1];

	for (int form = 0; form < 3; form++) {
		int64_t at_ns = 777;
		double longest_ns = 0;
		for (size_t k = 0; k < MOST; k++) {
			int64_t step_ns = 1 + random_below(2000000);
			double x;
			longest_ns = fmax(longest_ns, (double)step_ns);
			at_ns += step_ns;
			x = (double)at_ns / 1e9;
			samples[k] = (struct fg_sample){at_ns, form == 0 ? 1 << 30 : form == 1 ? at_ns : llrint(1e12 * (1 + sin(x))),
											0, 0, 0};
		}
		begin[0] = samples[0].at_ns + 1234567;
		end[0] = samples[MOST - 1].at_ns - 3456789;
		windows(&traits, 4e12, samples, MOST, 64, begin, end, 1, &out);
		double a = (double)begin[0], b = (double)end[0];
		double truth = form == 0 ? 0x1p30 * (b - a) : form == 1 ? (b - a) * (a + b) / 2
									: 1e12 * (b - a + 1e9 * (cos(a / 1e9) - cos(b / 1e9)));
		/* trapezoid: h^2 / 12 * |f''| * length; none for straight lines */
		double error = form < 2 ? 0 : longest_ns * longest_ns / 12 * 1e12 / 1e18 * (b - a);
		fg_check(fabs(out.estimate[0] - truth) <= error + 1e-12 * truth);
		fg_check(out.low[0] <= truth * (1 + 1e-12) && truth <= out.high[0] * (1 + 1e-12));
	}
}

FG_TEST(a_gap_widens_the_bounds_of_a_power_and_only_there)
{
	struct fg_traits traits = {FG_POWER, 0, 1, 0, 0, 0, 0};
	struct fg_sample samples[] = {{0, 10, 0, 0, 0}, {100, 10, 0, 0, 0}, {200, 10, 0, 0, FG_SAMPLE_GAP}, {300, 10, 0, 0, 0}};
	int64_t begin[] = {0, 100, 200}, end[] = {100, 200, 300};
	static struct columns out;

	windows(&traits, 50, samples, 4, 1, begin, end, 3, &out);
	for (int i = 0; i < 3; i++) {
		fg_check_near(out.estimate[i], 1000, 0);
		fg_check_near(out.low[i], i == 1 ? 0 : 1000, 0);
		fg_check_near(out.high[i], i == 1 ? 5000 : 1000, 0);
	}
}

enum { SPAN_NS = 4000, CEILING = 500 };

/* Reads of a power that takes its values at some instant of each, and does between two of them what it likes. */
static size_t lasting_reads(struct fg_sample *s, int64_t *power)
{
	size_t count = 0;
	int64_t at_ns = 0, taken_ns = 0, value = random_below(CEILING), since_ns = random_below(300);

	for (int64_t begin_ns = since_ns; begin_ns < SPAN_NS - 600 && count < MOST; count++) {
		int64_t half_ns = random_below(3) == 0 ? random_below(150) : 0;
		int64_t next = random_below(4) ? random_below(CEILING) : value;
		int64_t least = next < value ? next : value, most = next < value ? value : next;
		int how = (int)random_below(3);

		taken_ns = begin_ns + (how == 0 ? 0 : how == 1 ? 2 * half_ns : random_below(2 * half_ns + 1));
		for (bool any = count == 0; at_ns < taken_ns; at_ns++)
			power[at_ns] = any ? random_below(CEILING + 1) : random_below(2) ? least : most;
		s[count] = (struct fg_sample){begin_ns + half_ns, next, (uint32_t)half_ns, 0, 0};
		value = next;
		begin_ns += 2 * half_ns + random_below(200);
	}
	for (; at_ns < SPAN_NS; at_ns++)
		power[at_ns] = random_below(CEILING + 1);
	return count;
}

FG_TEST(a_power_lies_within_its_bounds_whenever_in_a_read_its_value_was_taken)
{
	struct fg_traits traits = {FG_POWER, 0, 1, 100, 0, 0, 0};
	static struct fg_sample samples[MOST];
	static struct columns out;
	static int64_t power[SPAN_NS];
	int64_t begin[1], end[1];

	for (int c = 0; c < 20000; c++) {
		size_t count = lasting_reads(samples, power);
		double truth = 0;
		begin[0] = random_below(SPAN_NS);
		end[0] = begin[0] + random_below(random_below(2) ? SPAN_NS - begin[0] + 1 : 1 + (SPAN_NS - begin[0]) / 20);
		for (int64_t ns = begin[0]; ns < end[0]; ns++)
			truth += (double)power[ns];
		windows(&traits, CEILING, samples, count, 7, begin, end, 1, &out);
		fg_check(out.low[0] <= truth && truth <= out.high[0]);
	}
}

FG_TEST(a_power_goes_on_at_its_last_value_for_a_period_and_no_longer)
{
	struct fg_traits traits = {FG_POWER, 0, 1, 40, 0, 0, 0};
	struct fg_sample samples[] = {{0, 10, 0, 0, 0}, {100, 20, 0, 0, 0}};
	int64_t begin[] = {100, 100, 120, 150}, end[] = {130, 300, 300, 300};
	double estimate[] = {600, 800, 400, 0};
	static struct columns out;

	windows(&traits, 50, samples, 2, 1, begin, end, 4, &out);
	for (int i = 0; i < 4; i++) {
		fg_check_near(out.estimate[i], estimate[i], 0);
		fg_check_near(out.low[i], 0, 0);
		fg_check_near(out.high[i], 50.0 * (double)(end[i] - begin[i]), 0);
	}
	windows(&traits, 15, samples, 2, 1, begin, end, 1, &out); /* never above the bound */
	fg_check_near(out.estimate[0], 450, 0);
}

FG_TEST(the_first_window_out_of_order_is_found)
{
	int64_t begin[] = {-5, -5, 0, 3, INT64_MAX}, end[] = {INT64_MIN, -5, 0, 3, INT64_MAX};

	fg_check(fg_windows_sorted(begin, end, 0) == 0);
	fg_check(fg_windows_sorted(begin, end, 5) == 0);
	end[0] = -5;
	fg_check(fg_windows_sorted(begin, end, 5) == 5);
	end[3] = 2; /* before its begin */
	fg_check(fg_windows_sorted(begin, end, 5) == 3);
	end[2] = 4, end[3] = 3; /* before the end of the window before */
	fg_check(fg_windows_sorted(begin, end, 5) == 3);
	begin[1] = -6;
	fg_check(fg_windows_sorted(begin, end, 5) == 1);
}

FG_TEST(a_restart_widens_only_the_windows_that_touch_it)
{
	struct fg_traits traits = {FG_ENERGY, 0, 1, 0, 0, 0, 0};
	struct fg_sample samples[] = {{0, 0, 0, 0, 0}, {100, 10, 0, 0, 0}, {200, 3, 0, 0, FG_SAMPLE_RESET}, {300, 13, 0, 0, 0}};
	int64_t begin[] = {0, 100, 200}, end[] = {100, 200, 300};
	static struct columns out;

	windows(&traits, 5, samples, 4, 2, begin, end, 3, &out);
	for (int i = 0; i < 3; i++) {
		fg_check_near(out.estimate[i], i == 1 ? 0 : 10, 0);
		fg_check(i == 1 ? out.low[i] == 0 : out.low[i] == 9);
		fg_check_near(out.high[i], i == 1 ? 500 + 2 : 11, 0);
	}
}

FG_TEST(no_samples_give_nan_and_no_windows_give_nothing)
{
	struct fg_traits traits = {FG_ENERGY, 0, 1, 1000, 0, 0, 0};
	struct fg_sample one = {500, 42, 3, 0, 0};
	int64_t begin[] = {0, 499, 1000}, end[] = {400, 501, 2000};
	static struct columns out;

	windows(&traits, 2, NULL, 0, 1, begin, end, 3, &out);
	for (int i = 0; i < 3; i++)
		fg_check(isnan(out.low[i]) && isnan(out.estimate[i]) && isnan(out.high[i]));
	windows(&traits, 2, &one, 1, 1, begin, end, 0, &out);
	fg_check(isnan(out.low[0]));
	windows(&traits, 2, &one, 1, 1, begin, end, 3, &out);
	for (int i = 0; i < 3; i++) {
		fg_check_near(out.low[i], 0, 0);
		fg_check_near(out.estimate[i], 0, 0);
		fg_check(out.high[i] >= 2.0 * (double)(end[i] - begin[i])); /* the ceiling is all that is known */
	}
}

int main(void)
{
	fg_run(a_counter_is_resolved_as_its_slow_twin_does);
	fg_run(a_power_is_resolved_as_its_slow_twin_does);
	fg_run(chunks_of_any_size_give_the_same_bits);
	fg_run(every_path_gives_the_same_bits);
	fg_run(windows_round_wraps_are_exact_to_the_unit);
	fg_run(a_counter_gives_known_waveforms_in_closed_form);
	fg_run(a_power_gives_known_waveforms_within_the_trapezoids_error);
	fg_run(a_gap_widens_the_bounds_of_a_power_and_only_there);
	fg_run(a_power_lies_within_its_bounds_whenever_in_a_read_its_value_was_taken);
	fg_run(a_power_goes_on_at_its_last_value_for_a_period_and_no_longer);
	fg_run(the_first_window_out_of_order_is_found);
	fg_run(a_restart_widens_only_the_windows_that_touch_it);
	fg_run(no_samples_give_nan_and_no_windows_give_nothing);
	return fg_report();
}
