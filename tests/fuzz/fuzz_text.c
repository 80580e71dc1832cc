/* Fuzzes the parsers of sensor texts: an integer of sysfs and the first line of /proc/stat, through the very sources that
 * read them. Built with clang it is a libFuzzer target; with -DSTANDALONE it mutates its seeds blindly for as many seconds
 * as argv[1] says. SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* memfd_create */
#include "fg_source.h"
#include "fg_sysfs.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MUST(expression) ((expression) ? (void)0 : (fprintf(stderr, "not so: %s\n", #expression), abort()))

/* The slow twin: what an integer of 63 bits looks like, digit by digit in 128 bits. */
static bool is_integer(const char *text, size_t length, __int128 *out)
{
	size_t end = length, begin = length > 0 && text[0] == '-';
	__int128 value = 0;

	while (end > 0 && (text[end - 1] == '\n' || text[end - 1] == ' ' || text[end - 1] == '\0'))
		end--;
	if (end <= begin)
		return false;
	for (size_t i = begin; i < end; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		value = value * 10 + (text[i] - '0');
		if (value > INT64_MAX)
			return false;
	}
	*out = begin ? -value : value;
	return true;
}

static void fuzz_parse(const char *text, size_t length)
{
	int64_t seen = 42;
	__int128 wanted = 0;
	char *exact = malloc(length + (length == 0)); /* so that a byte past the end is seen */

	MUST(exact != NULL);
	memcpy(exact, text, length);
	bool valid = is_integer(exact, length, &wanted);
	enum fg_status status = fg_sysfs_parse(exact, length, &seen);
	MUST((status == FG_OK) == valid);
	MUST(seen == (valid ? (int64_t)wanted : 42));
	free(exact);
}

static void fuzz_source(const char *name, const char *text, size_t length)
{
	const struct fg_source_ops *ops = fg_source_find(name);
	int fd = memfd_create("fuzz", MFD_CLOEXEC);
	struct fg_sensor sensor = {.path = "a file", .fd = fd, .idle_mw = 1500, .slope_mw = 2750};
	struct fg_source_config config = {.sensors = &sensor, .count = 1, .clock = &fg_clock_monotonic};
	struct fg_source *source = NULL;
	struct fg_reading reading = {.raw = -1};
	struct fg_error err;

	MUST(fd >= 0 && write(fd, text, length) == (ssize_t)length);
	MUST(ops != NULL && ops->open(&config, &source, &err) == FG_OK);
	enum fg_status status = ops->read(source, 0, &reading, &err);
	if (status == FG_OK)
		MUST(reading.raw >= 0 || strcmp(name, "hwmon") == 0);
	else
		MUST(reading.raw == -1 && err.status == status && strnlen(err.message, sizeof err.message) < sizeof err.message);
	ops->close(source);
	close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const sources[] = {"rapl", "hwmon", "procstat"};

	if (size == 0 || size > 4096)
		return 0;
	const char *text = (const char *)data + 1;
	if (data[0] % 4 == 3)
		fuzz_parse(text, size - 1);
	else
		fuzz_source(sources[data[0] % 4], text, size - 1);
	return 0;
}

#ifdef STANDALONE
static const char *const seeds[] = {
	"\3" "0\n", "\3" "-9223372036854775807\n", "\3" "9223372036854775808", "\0" "262143328850\n", "\1" "-5\n",
	"\2" "cpu  10132153 290696 3084719 46828483 16683 0 25195 0 175628 0\ncpu0 1 2 3\n", "\2" "cpu 1 2 3 4\n", "\2" "cpu \n",
};

/* SECONDS [SEED], or -runs=N [SEED] for a number of texts, which are the same every time. */
int main(int argc, char **argv)
{
	bool counted = argc > 1 && strncmp(argv[1], "-runs=", 6) == 0;
	unsigned long runs = 0, most = counted ? strtoul(argv[1] + 6, NULL, 10) : ULONG_MAX;
	int64_t until_ns = counted ? INT64_MAX : fg_clock_now_ns() + (argc > 1 ? atoll(argv[1]) : 5) * FG_NS_PER_S;

	srand(argc > 2 ? (unsigned)atoi(argv[2]) : 1);
	for (; runs < most && fg_clock_now_ns() < until_ns; runs++) {
		char text[320] = "";
		const char *seed = seeds[rand() % (int)(sizeof seeds / sizeof *seeds)];
		size_t length = 1 + strlen(seed + 1);

		memcpy(text, seed, length);
		for (int changes = rand() % 6; changes > 0; changes--) {
			size_t at = 1 + (size_t)rand() % 250;
			text[at] = rand() % 3 == 0 ? (char)rand() : "0123456789- \n\tcpu"[rand() % 17];
			length = at + 1 > length ? at + 1 : length;
		}
		LLVMFuzzerTestOneInput((const uint8_t *)text, rand() % 3 == 0 ? (size_t)rand() % (length + 1) : length);
	}
	printf("%lu texts\n", runs);
	return 0;
}
#endif
