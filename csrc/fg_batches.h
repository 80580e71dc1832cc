/* Batches: the samples of all channels of a recording, taken from its memory-mapped file in one pass.
 * SPDX-License-Identifier: Apache-2.0
 *
 * A recording is a stream of Arrow IPC messages: a dictionary with the name of a channel, then batches of its samples.
 * A recording of 64 boards has a million small batches per gigabyte, and a general reader spends more time on a message
 * than on its samples. All messages of a recording have one of two forms, though, and differ only in a few numbers. So
 * the caller gives one example of each form, which a general reader has accepted, and the places of the numbers. A
 * message that differs in any other byte, or whose numbers cannot be right, ends the pass: a general reader goes on.
 *
 * The bytes may come from a stranger: nothing outside of them is read. No allocation, no file, no clock. */
#ifndef FG_BATCHES_H
#define FG_BATCHES_H

#include "fg_ring.h"

enum {
	FG_BATCH_COLUMNS = 7,                    /* channel, time, monotonic_ns, raw, half_read_ns, wraps, flags */
	FG_BATCH_BUFFERS = 2 * FG_BATCH_COLUMNS, /* each column has a bitmap of validity and values */
	FG_NAME_BUFFERS = 3,                     /* validity, offsets, text */
};

/* The metadata of one kind of message. All places are offsets of 64-bit numbers in `bytes`. */
struct fg_form {
	const uint8_t *bytes;
	const uint8_t *free; /* not 0: this byte belongs to a number and may differ */
	size_t size;
	size_t body_at;    /* the length of the body */
	size_t buffers_at; /* pairs: the offset of a buffer in the body, and its length */
	size_t rows_at;    /* of a batch: the number of rows */
	size_t nodes_at;   /* of a batch: per column the number of rows and of missing values */
};

/* Rows of one batch, which belong to one channel. */
struct fg_rows {
	size_t channel, count;
	const uint8_t *at_ns, *raw, *half_ns, *wraps, *flags; /* little-endian, not aligned */
};

enum fg_batches_end {
	FG_BATCHES_FULL,  /* the caller's room is used up */
	FG_BATCHES_END,   /* the stream ends here */
	FG_BATCHES_CUT,   /* the file ends in the middle of a message */
	FG_BATCHES_OTHER, /* the next message has another form */
};

struct fg_batches {
	/* The caller's. */
	const uint8_t *data;
	size_t size, at; /* the next message begins at data[at] */
	struct fg_form name, batch;
	const char *names; /* of the channels, one after the other */
	const size_t *name_ends;
	size_t name_count;
	/* Private. */
	bool named;          /* a dictionary was seen */
	size_t channel;      /* of the batches that follow; name_count: not one of the names */
	struct fg_rows left; /* the rest of a batch */
	uint64_t passed;     /* batches */
};

/* Fill `out` with at most `most` entries that have at most `most_rows` rows together, in the order of the file. */
enum fg_batches_end fg_batches_next(struct fg_batches *batches, struct fg_rows *out, size_t most, size_t most_rows,
									size_t *count);

/* Copy rows: those of channel c to samples[starts[c]] and the places after it. `starts` ends up after the last one. */
void fg_batches_copy(const struct fg_rows *rows, size_t count, size_t *starts, struct fg_sample *samples);

#endif
