/* See fg_batches.h. For the layout of messages see the Arrow columnar format, "Encapsulated message format".
 * SPDX-License-Identifier: Apache-2.0 */
#include "fg_batches.h"

#include <string.h>

enum { HEAD = 8, ALIGNMENT = 8 };

static const uint64_t WIDTHS[FG_BATCH_COLUMNS] = {4, 8, 8, 8, 4, 2, 2};

static uint64_t number(const uint8_t *bytes, size_t at)
{
	uint64_t out;

	memcpy(&out, bytes + at, sizeof out);
	return out;
}

static bool has_form(const struct fg_form *form, const uint8_t *bytes, size_t size)
{
	uint8_t other = 0;

	if (size != form->size)
		return false;
	for (size_t i = 0; i < size; i++)
		other |= form->free[i] ? 0 : bytes[i] ^ form->bytes[i];
	return other == 0;
}

/* The buffers of a message lie in its body. */
static bool buffers_fit(const uint8_t *buffers, size_t count, uint64_t body)
{
	for (size_t i = 0; i < count; i++) {
		uint64_t offset = number(buffers, 16 * i), length = number(buffers, 16 * i + 8);

		if (offset % ALIGNMENT != 0 || offset > body || length > body - offset)
			return false;
	}
	return true;
}

/* The channel of a name: most often the one after the channel before. name_count: an unknown name. */
static size_t channel_of(const struct fg_batches *b, const char *name, size_t length)
{
	for (size_t i = 1; i <= b->name_count; i++) {
		size_t channel = (b->channel + i) % b->name_count, begin = channel > 0 ? b->name_ends[channel - 1] : 0;

		if (b->name_ends[channel] - begin == length && memcmp(b->names + begin, name, length) == 0)
			return channel;
	}
	return b->name_count;
}

static bool take_name(struct fg_batches *b, const uint8_t *metadata, const uint8_t *body, uint64_t body_size)
{
	const uint8_t *buffers = metadata + b->name.buffers_at;
	uint64_t text = number(buffers, 32), text_size = number(buffers, 40);
	int32_t ends[2];

	if (!buffers_fit(buffers, FG_NAME_BUFFERS, body_size) || number(buffers, 24) < sizeof ends)
		return false;
	memcpy(ends, body + number(buffers, 16), sizeof ends);
	if (ends[0] < 0 || ends[1] < ends[0] || (uint64_t)ends[1] > text_size)
		return false;
	const char *name = (const char *)body + text + ends[0];
	size_t length = (size_t)(ends[1] - ends[0]);
	b->channel = channel_of(b, name, length);
	/* Only a general reader knows if the name is valid UTF-8. */
	for (size_t i = 0; b->channel == b->name_count && i < length; i++)
		if ((unsigned char)name[i] >= 0x80)
			return false;
	b->named = true;
	return true;
}

static bool take_batch(struct fg_batches *b, const uint8_t *metadata, const uint8_t *body, uint64_t body_size)
{
	const uint8_t *buffers = metadata + b->batch.buffers_at, *nodes = metadata + b->batch.nodes_at;
	const uint8_t *values[FG_BATCH_COLUMNS];
	uint64_t rows = number(metadata, b->batch.rows_at);
	uint8_t other = 0;

	if (!b->named || rows > body_size || !buffers_fit(buffers, FG_BATCH_BUFFERS, body_size))
		return false;
	for (size_t i = 0; i < FG_BATCH_COLUMNS; i++) {
		if (number(nodes, 16 * i) != rows || number(nodes, 16 * i + 8) != 0 ||
			number(buffers, 32 * i + 24) < rows * WIDTHS[i])
			return false;
		values[i] = body + number(buffers, 32 * i + 16);
	}
	for (size_t i = 0; i < rows * WIDTHS[0]; i++) /* each row names the only entry of the dictionary */
		other |= values[0][i];
	if (other != 0)
		return false;
	b->left = (struct fg_rows){b->channel, rows, values[2], values[3], values[4], values[5], values[6]};
	b->passed++;
	return true;
}

static enum fg_batches_end take_message(struct fg_batches *b)
{
	const uint8_t *head = b->data + b->at, *metadata = head + HEAD;
	size_t left = b->size - b->at;
	uint32_t mark, size;

	if (left < HEAD)
		return left == 0 ? FG_BATCHES_END : FG_BATCHES_CUT;
	memcpy(&mark, head, sizeof mark);
	memcpy(&size, head + sizeof mark, sizeof size);
	if (mark != UINT32_MAX)
		return FG_BATCHES_OTHER;
	if (size == 0)
		return FG_BATCHES_END;
	if (left - HEAD < size)
		return size == b->name.size || size == b->batch.size ? FG_BATCHES_CUT : FG_BATCHES_OTHER;
	bool is_batch = has_form(&b->batch, metadata, size);
	if (!is_batch && !has_form(&b->name, metadata, size))
		return FG_BATCHES_OTHER;
	uint64_t body = number(metadata, is_batch ? b->batch.body_at : b->name.body_at);
	if (body % ALIGNMENT != 0 || body > INT64_MAX)
		return FG_BATCHES_OTHER;
	if (left - HEAD - size < body)
		return FG_BATCHES_CUT;
	if (!(is_batch ? take_batch : take_name)(b, metadata, metadata + size, body))
		return FG_BATCHES_OTHER;
	b->at += HEAD + size + body;
	return FG_BATCHES_FULL;
}

static struct fg_rows split(struct fg_rows *rows, size_t count)
{
	struct fg_rows first = *rows;

	first.count = count;
	rows->count -= count;
	rows->at_ns += 8 * count;
	rows->raw += 8 * count;
	rows->half_ns += 4 * count;
	rows->wraps += 2 * count;
	rows->flags += 2 * count;
	return first;
}

enum fg_batches_end fg_batches_next(struct fg_batches *b, struct fg_rows *out, size_t most, size_t most_rows,
									size_t *count)
{
	enum fg_batches_end end = FG_BATCHES_FULL;
	size_t rows = 0;

	*count = 0;
	while (end == FG_BATCHES_FULL && *count < most && rows < most_rows) {
		if (b->left.count == 0) {
			end = take_message(b);
		} else if (b->left.channel == b->name_count) {
			b->left.count = 0;
		} else {
			size_t now = b->left.count < most_rows - rows ? b->left.count : most_rows - rows;

			out[(*count)++] = split(&b->left, now);
			rows += now;
		}
	}
	return end;
}

void fg_batches_copy(const struct fg_rows *rows, size_t count, size_t *starts, struct fg_sample *samples)
{
	for (; count > 0; rows++, count--) {
		struct fg_sample *out = samples + starts[rows->channel];

		for (size_t i = 0; i < rows->count; i++) {
			memcpy(&out[i].at_ns, rows->at_ns + 8 * i, 8);
			memcpy(&out[i].raw, rows->raw + 8 * i, 8);
			memcpy(&out[i].half_ns, rows->half_ns + 4 * i, 4);
			memcpy(&out[i].wraps, rows->wraps + 2 * i, 2);
			memcpy(&out[i].flags, rows->flags + 2 * i, 2);
		}
		starts[rows->channel] += rows->count;
	}
}
