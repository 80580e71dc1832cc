/* Random streams of spans and samples for csrc/fg_share.h, whose order and values are those of the text: sums hold,
 * bounds are in order, everything becomes final. SPDX-License-Identifier: Apache-2.0 */
#include "fg_clock.h"
#include "fg_share.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MUST(holds) ((holds) ? (void)0 : abort())

enum { CHANNELS = 2, SPANS = 24 };

struct state {
	struct fg_share *share;
	uint32_t span[SPANS];
	uint64_t weight[SPANS];
	bool open[SPANS];
	int64_t now_ns, sampled_ns[CHANNELS], raw[CHANNELS];
	double sum[CHANNELS];
	unsigned opened, taken;
};

static void take(struct state *s)
{
	struct fg_shared_span spans[3];
	struct fg_shared shares[3 * CHANNELS];
	size_t count;

	while ((count = fg_share_take(s->share, spans, shares, 3)) > 0) {
		s->taken += (unsigned)count;
		for (size_t i = 0; i < count * CHANNELS; i++) {
			double slack = 1e-6 * (1 + fabs(shares[i].high));

			MUST(shares[i].low <= shares[i].estimate + slack && shares[i].estimate <= shares[i].high + slack);
			MUST(shares[i].low >= -slack && isfinite(shares[i].high));
			s->sum[i % CHANNELS] += shares[i].estimate;
		}
	}
}

static void sample(struct state *s, unsigned channel, uint8_t step, uint8_t value)
{
	struct fg_sample it = {.half_ns = value % 7, .flags = value > 250 ? FG_SAMPLE_RESET : value > 245 ? FG_SAMPLE_GAP : 0};

	s->now_ns += step;
	s->raw[channel] = channel == 0 ? s->raw[0] + (value % 4 == 0 ? 0 : value) : value;
	it.raw = s->raw[channel];
	it.at_ns = s->now_ns - it.half_ns;
	if (it.at_ns <= s->sampled_ns[channel])
		return;
	s->sampled_ns[channel] = it.at_ns;
	MUST(fg_share_feed(s->share, channel, &it, 1, NULL) == FG_OK);
}

static void act(struct state *s, uint8_t kind, uint8_t step, uint8_t value)
{
	unsigned i = value % SPANS;
	uint64_t weight = value % 5 == 0 ? 0 : FG_SHARE_WEIGHT * (value % 3 + 1) / (kind % 7 + 1);

	if (kind % 4 < 2) {
		sample(s, kind % 2, step, value);
	} else if (!s->open[i]) {
		MUST(fg_share_open(s->share, s->now_ns += step % 16, i, weight, true, &s->span[i], NULL) == FG_OK);
		s->open[i] = true;
		s->opened++;
	} else if (kind % 4 == 2) {
		MUST(fg_share_weigh(s->share, s->span[i], s->now_ns += step % 16, weight, NULL) == FG_OK);
	} else {
		MUST(fg_share_close(s->share, s->span[i], s->now_ns += step % 16, NULL) == FG_OK);
		s->open[i] = false;
	}
	take(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct state s = {.now_ns = 1000};

	if (size < 4)
		return 0;
	struct fg_share_channel channels[CHANNELS] = {
		{{FG_ENERGY, 0, 1 + data[0] % 5, 1 + data[1], 0, 0, 0}, 300.0},
		{{FG_POWER, 0, 1, 1 + data[2], 0, 0, 0}, 300.0},
	};
	MUST(fg_share_new(channels, CHANNELS, &s.share, NULL) == FG_OK);
	for (size_t i = 3; i + 2 < size; i += 3)
		act(&s, data[i], data[i + 1], data[i + 2]);
	for (unsigned i = 0; i < SPANS; i++)
		if (s.open[i])
			MUST(fg_share_close(s.share, s.span[i], s.now_ns, NULL) == FG_OK);
	MUST(fg_share_finish(s.share, NULL) == FG_OK);
	take(&s);
	MUST(s.taken == s.opened && fg_share_spans(s.share) == 0 && fg_share_edges(s.share) == 0);
	for (size_t c = 0; c < CHANNELS; c++)
		MUST(fabs(s.sum[c] - fg_share_attributed(s.share, c)) <= 1e-9 * (1 + fabs(s.sum[c])) + 1e-6);
	fg_share_free(s.share);
	return 0;
}

#ifdef STANDALONE
/* SECONDS [SEED], or -runs=N [SEED]. */
int main(int argc, char **argv)
{
	bool counted = argc > 1 && strncmp(argv[1], "-runs=", 6) == 0;
	unsigned long runs = 0, most = counted ? strtoul(argv[1] + 6, NULL, 10) : (unsigned long)-1;
	int64_t until_ns = counted ? INT64_MAX : fg_clock_now_ns() + (argc > 1 ? atoll(argv[1]) : 5) * FG_NS_PER_S;

	srand(argc > 2 ? (unsigned)atoi(argv[2]) : 1);
	for (; runs < most && fg_clock_now_ns() < until_ns; runs++) {
		uint8_t data[1500];
		size_t size = (size_t)rand() % sizeof data;

		for (size_t i = 0; i < size; i++)
			data[i] = (uint8_t)rand();
		LLVMFuzzerTestOneInput(data, size);
	}
	printf("%lu streams\n", runs);
	return 0;
}
#endif
