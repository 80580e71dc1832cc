/* SPDX-License-Identifier: Apache-2.0 */
#include "fg_share_columns.h"
#include "fg_test.h"

#include <stdlib.h>

#define MS INT64_C(1000000)

static const struct fg_share_channel counter = {{FG_ENERGY, 0, 1, 10, 0, 0, 0}, 5.0};
static struct fg_error err;

static struct fg_share *engine(const struct fg_share_channel *channels, size_t count)
{
	struct fg_share *share = NULL;

	fg_check(fg_share_new(channels, count, &share, &err) == FG_OK);
	return share;
}

static uint32_t open(struct fg_share *share, int64_t at_ns, uint64_t id, uint64_t weight)
{
	uint32_t span = 0;

	fg_check(fg_share_open(share, at_ns, id, weight, true, &span, &err) == FG_OK);
	return span;
}

static void close(struct fg_share *share, uint32_t span, int64_t at_ns)
{
	fg_check(fg_share_close(share, span, at_ns, &err) == FG_OK);
}

/* Samples of a counter that grows by `raw_per_step` each 10 ns, up to an instant. */
static void feed(struct fg_share *share, size_t channel, int64_t from_ns, int64_t until_ns, int64_t per_step)
{
	for (int64_t at_ns = from_ns; at_ns <= until_ns; at_ns += 10) {
		struct fg_sample sample = {.at_ns = at_ns, .raw = at_ns / 10 * per_step};

		fg_check(fg_share_feed(share, channel, &sample, 1, &err) == FG_OK);
	}
}

FG_TEST(two_spans_at_once_halve_the_energy_and_one_alone_has_all)
{
	struct fg_share *share = engine(&counter, 1);
	struct fg_shared_span spans[3];
	struct fg_shared shares[3];
	uint32_t a = open(share, 1000, 7, FG_SHARE_WEIGHT), b = open(share, 2000, 8, FG_SHARE_WEIGHT);

	close(share, b, 3000);
	close(share, a, 4000);
	feed(share, 0, 0, 6000, 10);
	fg_require(fg_share_take(share, spans, shares, 3) == 2);
	fg_check_int((int64_t)spans[0].id, 8);
	fg_check_near(shares[0].estimate, 500, 1e-9);
	fg_check_near(shares[1].estimate, 2500, 1e-9);
	fg_check_near(spans[1].time_ns, 2500, 1e-12);
	fg_check(shares[0].low < 500 && shares[0].high > 500 && shares[0].high - shares[0].low < 40);
	fg_check_near(fg_share_attributed(share, 0), 3000, 1e-9);
	fg_check_int((int64_t)fg_share_spans(share), 0);
	fg_share_free(share);
}

FG_TEST(weights_are_exact_and_a_span_of_weight_0_is_charged_nothing)
{
	struct fg_share *share = engine(&counter, 1);
	struct fg_shared_span spans[4];
	struct fg_shared shares[4];
	uint32_t heavy = open(share, 1000, 0, 3 * FG_SHARE_WEIGHT), light = open(share, 1000, 1, FG_SHARE_WEIGHT);
	uint32_t none = open(share, 1000, 2, 0), later = open(share, 2000, 3, 0);

	close(share, heavy, 2000);
	close(share, light, 2000);
	close(share, none, 2000);
	close(share, later, 3000);
	feed(share, 0, 0, 4000, 10);
	fg_require(fg_share_take(share, spans, shares, 4) == 4);
	fg_check_near(shares[0].estimate, 750, 1e-9);
	fg_check_near(shares[1].estimate, 250, 1e-9);
	fg_check(shares[2].estimate == 0 && shares[2].high == 0 && shares[3].estimate == 0 && shares[3].high == 0);
	fg_check_near(fg_share_unattributed(share, 0), 1000, 1e-9);
	fg_share_free(share);
}

FG_TEST(a_change_of_weight_bounds_the_span_as_a_whole)
{
	struct fg_share *share = engine(&counter, 1);
	struct fg_shared_span spans[3];
	struct fg_shared shares[3];
	uint32_t a = open(share, 1000, 0, FG_SHARE_WEIGHT), plain = open(share, 1000, 1, FG_SHARE_WEIGHT);

	for (int64_t at_ns = 1001; at_ns < 2000; at_ns++) /* no change, so no new piece */
		fg_check(fg_share_weigh(share, a, at_ns, FG_SHARE_WEIGHT, &err) == FG_OK);
	fg_check(fg_share_weigh(share, a, 2005, 3 * FG_SHARE_WEIGHT, &err) == FG_OK);
	close(share, a, 3005);
	close(share, plain, 3005);
	feed(share, 0, 0, 4000, 10);
	fg_require(fg_share_take(share, spans, shares, 3) == 2);
	fg_check_near(shares[0].estimate, 502.5 + 750, 1e-9);
	fg_check_near(shares[0].estimate + shares[1].estimate, 2005, 1e-9);
	fg_check(shares[0].high - shares[0].low < 40);
	fg_share_free(share);
}

FG_TEST(a_counter_that_stands_still_leaves_a_quantum_above_and_keeps_few_edges)
{
	struct fg_share *share = engine(&counter, 1);
	struct fg_shared_span span;
	struct fg_shared shared;
	uint32_t whole = open(share, 0, UINT64_MAX, FG_SHARE_WEIGHT);
	size_t most = 0;

	for (int64_t at_ns = 0; at_ns < 3000000; at_ns += 10) {
		struct fg_sample sample = {.at_ns = at_ns, .raw = 5};
		uint32_t one = open(share, at_ns, 1, FG_SHARE_WEIGHT);

		close(share, one, at_ns + 5);
		fg_require(fg_share_feed(share, 0, &sample, 1, &err) == FG_OK);
		while (fg_share_take(share, &span, &shared, 1) == 1)
			fg_require(shared.low == 0 && shared.high >= 0.5 && (at_ns < 100 || shared.high < 2));
		most = fg_share_edges(share) > most ? fg_share_edges(share) : most;
	}
	fg_check(most < 150000);
	fg_check(fg_share_spans(share) < 10);
	close(share, whole, 3000000);
	fg_check(fg_share_finish(share, &err) == FG_OK);
	fg_check_int((int64_t)fg_share_edges(share), 0);
	fg_share_free(share);
}

FG_TEST(memory_is_that_of_the_open_spans)
{
	struct fg_share *share = engine(&counter, 1);
	struct fg_shared_span spans[64];
	struct fg_shared shares[64];
	uint32_t kept[100], live[20] = {0};
	double sum = 0;

	for (int i = 0; i < 100; i++)
		kept[i] = open(share, 1000, 1000000, FG_SHARE_WEIGHT);
	for (int64_t at_ns = 1000; at_ns < 2000000; at_ns += 10) {
		struct fg_sample sample = {.at_ns = at_ns, .raw = at_ns};
		uint32_t *one = &live[at_ns / 10 % 20];

		if (at_ns >= 1200)
			close(share, *one, at_ns);
		*one = open(share, at_ns, (uint64_t)at_ns, FG_SHARE_WEIGHT);
		fg_require(fg_share_feed(share, 0, &sample, 1, &err) == FG_OK);
		for (size_t n = fg_share_take(share, spans, shares, 64); n-- > 0;)
			sum += shares[n].estimate;
		fg_require(fg_share_edges(share) < 300 && fg_share_spans(share) < 150);
	}
	for (int i = 0; i < 100; i++)
		close(share, kept[i], 2000000);
	for (int i = 0; i < 20; i++)
		close(share, live[i], 2000000);
	fg_check(fg_share_finish(share, &err) == FG_OK);
	for (size_t n; (n = fg_share_take(share, spans, shares, 64)) > 0;)
		while (n-- > 0)
			sum += shares[n].estimate;
	fg_check_near(sum, fg_share_attributed(share, 0), 1e-9);
	fg_check_near(sum, 2000000 - 1000, 1e-4);
	fg_share_free(share);
}

FG_TEST(running_sums_begin_again_and_nothing_shows_it)
{
	struct fg_share_channel far = counter;
	struct fg_shared_span span;
	struct fg_shared shared;
	struct fg_share *share = engine(&far, 1);
	int64_t step = INT64_C(1) << 40;
	uint32_t whole = open(share, 1000, 1, FG_SHARE_WEIGHT), other = open(share, 1000, 2, FG_SHARE_WEIGHT);

	feed(share, 0, 0, 41000, step); /* 2^40 each 10 ns: the sums pass 2^46 at once */
	close(share, other, 41005);
	feed(share, 0, 41010, 80000, step);
	fg_require(fg_share_take(share, &span, &shared, 1) == 1);
	fg_check_near(shared.estimate, 4000.5 / 2 * (double)step, 1e-9);
	fg_check(shared.low <= shared.estimate && shared.high >= shared.estimate);
	fg_check(shared.high - shared.low < 5 * (double)step);
	close(share, whole, 80005);
	fg_check(fg_share_finish(share, &err) == FG_OK);
	fg_share_free(share);
}

FG_TEST(a_channel_without_samples_is_bounded_by_its_ceiling)
{
	struct fg_share_channel channels[2] = {counter, {{FG_POWER, 0, 1, 10, 0, 0, 0}, 7.0}};
	struct fg_share *share = engine(channels, 2);
	struct fg_shared_span span;
	struct fg_shared shared[2];

	close(share, open(share, 100, 0, FG_SHARE_WEIGHT), 200);
	fg_check(fg_share_finish(share, &err) == FG_OK);
	fg_require(fg_share_take(share, &span, shared, 1) == 1);
	fg_check(shared[0].low == 0 && shared[0].estimate == 0 && shared[1].low == 0);
	fg_check_near(shared[0].high, 500 + 1, 1e-9);
	fg_check_near(shared[1].high, 700, 1e-9);
	fg_share_free(share);
}

FG_TEST(spans_known_beforehand_get_what_the_stream_gives)
{
	enum { SPANS = 400 };
	int64_t begin_ns[SPANS], end_ns[SPANS];
	uint64_t weight[SPANS];
	double times[SPANS] = {0}, stream_times[SPANS] = {0};
	struct fg_shared known[SPANS] = {{0}}, streamed[SPANS] = {{0}};

	for (int i = 0; i < SPANS; i++) {
		begin_ns[i] = (int64_t)i * 7919 % 5000 - 200;
		end_ns[i] = begin_ns[i] + (i % 9 ? (int64_t)i * 104729 % 1500 : 0);
		weight[i] = (uint64_t)(i % 4) << 20;
	}
	for (int attached = 0; attached < 2; attached++) {
		struct fg_share *share = engine(&counter, 1);
		struct fg_share_columns columns;

		fg_require(fg_share_columns_init(&columns, begin_ns, end_ns, weight, SPANS, &err) == FG_OK);
		if (attached)
			fg_require(fg_share_columns_attach(share, &columns, times, known, &err) == FG_OK);
		for (int64_t at_ns = 0; at_ns < 4500; at_ns += 10) {
			struct fg_sample sample = {.at_ns = at_ns, .raw = at_ns * at_ns / 50, .half_ns = 1};

			fg_require(fg_share_columns_run(share, &columns, at_ns + 1, &err) == FG_OK);
			fg_require(fg_share_feed(share, 0, &sample, 1, &err) == FG_OK);
		}
		fg_require(fg_share_columns_run(share, &columns, INT64_MAX, &err) == FG_OK);
		fg_require(fg_share_finish(share, &err) == FG_OK);
		fg_share_columns_take(share, 1, stream_times, streamed);
		fg_share_columns_destroy(&columns);
		fg_share_free(share);
	}
	for (int i = 0; i < SPANS; i++) {
		fg_check_near(times[i], stream_times[i], 1e-6);
		fg_check_near(known[i].estimate, streamed[i].estimate, 1e-6);
		fg_check_near(known[i].low, streamed[i].low, 1e-6);
		fg_check(known[i].high <= streamed[i].high + 1e-6); /* the stream cannot wait for the last quantum */
		fg_check(known[i].high >= known[i].estimate);
	}
	struct fg_share_channel power = {{FG_POWER, 0, 1, 10, 0, 0, 0}, 7.0};
	struct fg_share *share = engine(&power, 1);
	struct fg_share_columns columns;

	fg_require(fg_share_columns_init(&columns, begin_ns, end_ns, NULL, SPANS, &err) == FG_OK);
	fg_check(fg_share_columns_attach(share, &columns, times, known, &err) == FG_INVALID);
	fg_share_columns_destroy(&columns);
	fg_share_free(share);
}

FG_TEST(what_cannot_be_is_refused)
{
	struct fg_share *share = engine(&counter, 1);
	struct fg_sample sample = {.at_ns = 5};
	uint32_t span = 0;
	int64_t begin_ns = 5, end_ns = 4;
	struct fg_share_columns columns;

	fg_check(fg_share_open(share, 0, 0, UINT64_MAX, true, &span, &err) == FG_INVALID);
	fg_check(fg_share_close(share, 0, 5, &err) == FG_INVALID);
	span = open(share, 0, 0, 1);
	close(share, span, 5);
	fg_check(fg_share_close(share, span, 6, &err) == FG_INVALID);
	fg_check(fg_share_weigh(share, span, 6, 1, &err) == FG_INVALID);
	fg_check(fg_share_feed(share, 1, &sample, 1, &err) == FG_INVALID);
	fg_check(fg_share_new(&counter, 0, &share, &err) == FG_INVALID);
	fg_check(fg_share_columns_init(&columns, &begin_ns, &end_ns, NULL, 1, &err) == FG_INVALID);
	fg_share_free(share);
	fg_share_free(NULL);
}

int main(void)
{
	fg_run(two_spans_at_once_halve_the_energy_and_one_alone_has_all);
	fg_run(weights_are_exact_and_a_span_of_weight_0_is_charged_nothing);
	fg_run(a_change_of_weight_bounds_the_span_as_a_whole);
	fg_run(a_counter_that_stands_still_leaves_a_quantum_above_and_keeps_few_edges);
	fg_run(memory_is_that_of_the_open_spans);
	fg_run(running_sums_begin_again_and_nothing_shows_it);
	fg_run(a_channel_without_samples_is_bounded_by_its_ceiling);
	fg_run(spans_known_beforehand_get_what_the_stream_gives);
	fg_run(what_cannot_be_is_refused);
	return fg_report();
}
