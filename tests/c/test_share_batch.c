/* Shares of known spans against those of the stream, on random runs. SPDX-License-Identifier: Apache-2.0 */
#include "fg_share_batch.h"
#include "fg_test.h"

#include <stdlib.h>

enum { SPANS = 300, SAMPLES = 400, RUNS = 300 };

static struct fg_error err;
static uint64_t state = 88172645463325252;

static int64_t below(int64_t limit)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (int64_t)(state % (uint64_t)limit);
}

struct run {
	struct fg_share_channel channel;
	struct fg_sample samples[SAMPLES];
	int64_t begin_ns[SPANS], end_ns[SPANS];
	uint64_t weight[SPANS];
};

static void draw(struct run *run)
{
	int64_t at_ns = 1000, raw = 0, longest = 1 + below(2000), quantum = 1 + below(2) * 6;
	bool power = below(4) == 0, restarts = below(2);

	run->channel = (struct fg_share_channel){{power ? FG_POWER : FG_ENERGY, 0, quantum, 1 + below(100), 0, 0, 0}, 3.0};
	for (int i = 0; i < SAMPLES; i++) {
		raw += below(3) * quantum * (below(20) == 0 ? 100 : 1);
		at_ns += 12 + below(40);
		run->samples[i] = (struct fg_sample){
			.at_ns = at_ns, .raw = power ? below(90) : raw, .half_ns = (uint32_t)below(12)};
		if (restarts && i > 0 && below(12) == 0)
			run->samples[i].flags = power ? FG_SAMPLE_GAP : FG_SAMPLE_RESET;
	}
	for (int i = 0; i < SPANS; i++) {
		run->begin_ns[i] = 500 + below(at_ns);
		run->end_ns[i] = run->begin_ns[i] + below(longest);
		run->weight[i] = (uint64_t)below(4) * FG_SHARE_WEIGHT / 2;
	}
}

/* All begins and ends first: the stream then takes the samples in one piece. */
static void by_stream(const struct run *run, const struct fg_share_columns *columns, struct fg_shared *out)
{
	struct fg_share *share = NULL;
	uint32_t number[SPANS];
	struct fg_shared_span span;
	struct fg_shared shared;
	size_t opened = 0, closed = 0;

	fg_check(fg_share_new(&run->channel, 1, &share, &err) == FG_OK);
	while (closed < SPANS) {
		uint32_t open = opened < SPANS ? fg_share_by_begin(columns, opened) : 0;
		uint32_t close = fg_share_by_end(columns, closed);

		if (opened < SPANS && run->begin_ns[open] <= run->end_ns[close]) {
			fg_check(fg_share_open(share, run->begin_ns[open], open, run->weight[open], true, &number[open], &err) ==
					 FG_OK);
			opened++;
		} else {
			fg_check(fg_share_close(share, number[close], run->end_ns[close], &err) == FG_OK);
			closed++;
		}
	}
	fg_check(fg_share_feed(share, 0, run->samples, SAMPLES, &err) == FG_OK);
	fg_check(fg_share_finish(share, &err) == FG_OK);
	while (fg_share_take(share, &span, &shared, 1) == 1)
		out[span.id] = shared;
	fg_share_free(share);
}

static void by_batch(const struct run *run, const struct fg_share_columns *columns, struct fg_shared *out)
{
	struct fg_share_batch *batch = NULL;
	double drawn[2], time_ns[SPANS] = {0.0};
	size_t cut = (size_t)below(SAMPLES);

	fg_require(fg_share_batch_new(columns, &run->channel, time_ns, out, 1, &batch, &err) == FG_OK);
	fg_check(fg_share_batch_feed(batch, run->samples, cut, &err) == FG_OK);
	fg_check(fg_share_batch_feed(batch, run->samples + cut, SAMPLES - cut, &err) == FG_OK);
	fg_check(fg_share_batch_finish(batch, drawn, &err) == FG_OK);
	fg_share_batch_free(batch);
}

FG_TEST(known_spans_get_what_a_stream_of_them_gets)
{
	static struct run run;

	for (int n = 0; n < RUNS; n++) {
		struct fg_shared streamed[SPANS] = {{0}}, found[SPANS] = {{0}};
		struct fg_share_columns columns;

		draw(&run);
		fg_require(fg_share_columns_init(&columns, run.begin_ns, run.end_ns, run.weight, SPANS, &err) == FG_OK);
		by_stream(&run, &columns, streamed);
		by_batch(&run, &columns, found);
		fg_share_columns_destroy(&columns);
		for (int i = 0; i < SPANS; i++) {
			fg_check(fabs(found[i].low - streamed[i].low) < 1e-6);
			fg_check(fabs(found[i].estimate - streamed[i].estimate) < 1e-6);
			fg_check(fabs(found[i].high - streamed[i].high) < 1e-6);
		}
	}
}

FG_TEST(no_span_and_no_sample_are_no_fault)
{
	struct fg_share_channel channel = {{FG_ENERGY, 0, 1, 10, 0, 0, 0}, 5.0};
	struct fg_share_columns columns;
	struct fg_share_batch *batch = NULL;
	double drawn[2];

	fg_require(fg_share_columns_init(&columns, NULL, NULL, NULL, 0, &err) == FG_OK);
	fg_require(fg_share_batch_new(&columns, &channel, NULL, NULL, 1, &batch, &err) == FG_OK);
	fg_check(fg_share_batch_finish(batch, drawn, &err) == FG_OK);
	fg_check(drawn[0] == 0 && drawn[1] == 0);
	fg_share_batch_free(batch);
	fg_share_batch_free(NULL);
	fg_share_columns_destroy(&columns);
}

int main(void)
{
	fg_run(known_spans_get_what_a_stream_of_them_gets);
	fg_run(no_span_and_no_sample_are_no_fault);
	return fg_report();
}
