/* The perf source: rounds of one group, what it makes of damage, and the kernel's own groups where it lets us count.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fg_alloc.h"
#include "fg_driven.h"
#include "fg_files.h"
#include "fg_source.h"
#include "fg_test.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/socket.h>

enum { SOFTWARE = 1 }; /* PERF_TYPE_SOFTWARE; event 0 is the CPU clock in ns */

static const struct fg_source_ops *const ops = &fg_source_perf;

static struct fg_source_config config_of(const struct fg_sensor *sensors, size_t count, const struct fg_clock *clock)
{
	return (struct fg_source_config){.sensors = sensors, .count = count, .clock = clock};
}

static struct fg_sensor slot_of(int fd, unsigned slot)
{
	return (struct fg_sensor){.path = "power/energy", .fd = fd, .event = {.slot = slot}};
}

static int count_descriptors(void)
{
	int count = 0;
	DIR *folder = opendir("/proc/self/fd");

	while (folder != NULL && readdir(folder) != NULL)
		count++;
	closedir(folder);
	return count;
}

static void send_group(int fd, uint64_t first, uint64_t second)
{
	uint64_t words[] = {2, first, second};

	if (send(fd, words, sizeof words, 0) != sizeof words)
		abort();
}

static int64_t read_raw(struct fg_source *source, size_t index, int64_t *at_ns)
{
	struct fg_reading reading = {0};
	struct fg_error err;

	if (ops->read(source, index, &reading, &err) != FG_OK)
		return -(int64_t)err.status;
	if (at_ns != NULL)
		*at_ns = reading.at_ns;
	return reading.raw;
}

FG_TEST(a_round_is_one_read_and_a_sensor_that_does_not_come_after_the_last_begins_the_next)
{
	struct fg_driven driven;
	struct fg_source *source = NULL;
	struct fg_error err;
	int pair[2];
	int64_t at_ns = 0;

	fg_require(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0);
	fg_driven_init(&driven, 1000, INT64_MAX);
	struct fg_sensor sensors[] = {slot_of(pair[0], 1), slot_of(pair[0], 0)};
	struct fg_source_config config = config_of(sensors, 2, &driven.clock);
	fg_require(ops->open(&config, &source, &err) == FG_OK);
	for (uint64_t round = 1; round <= 4; round++)
		send_group(pair[1], round, 10 * round);
	fg_check_int(read_raw(source, 0, &at_ns), 10);
	fg_check_int(at_ns, 1000);
	driven.at_ns = 2000;
	fg_check_int(read_raw(source, 1, &at_ns), 1);
	fg_check_int(at_ns, 1000); /* the time of its group's read, not of the question */
	fg_check_int(read_raw(source, 0, &at_ns), 20);
	fg_check_int(at_ns, 2000);
	fg_check_int(read_raw(source, 0, NULL), 30); /* the other sensor has died: each question is a round */
	fg_check_int(read_raw(source, 1, NULL), 3);
	fg_check_int(read_raw(source, 1, NULL), 4);
	close(pair[1]);
	fg_check_int(read_raw(source, 0, NULL), -(int64_t)FG_LOST);
	ops->close(source);
	close(pair[0]);
}

FG_TEST(a_damaged_group_is_malformed_for_all_its_sensors_and_mends)
{
	struct fg_files files;
	struct fg_source *source = NULL;
	struct fg_error err;
	uint64_t good[] = {2, 5, 6}, many[] = {3, 5, 6}, one[] = {1, 5}, past[] = {2, UINT64_C(1) << 63, 6};

	fg_files_make(&files);
	int fd = open(fg_files_write(&files, "group", (char *)good, sizeof good), O_RDONLY);
	fg_require(fd >= 0);
	struct fg_sensor sensors[] = {slot_of(fd, 0), slot_of(fd, 1)};
	struct fg_source_config config = config_of(sensors, 2, &fg_clock_monotonic);
	fg_require(ops->open(&config, &source, &err) == FG_OK);
	fg_check_int(read_raw(source, 0, NULL), 5);
	fg_files_write(&files, "group", (char *)many, sizeof many);
	fg_check_int(read_raw(source, 0, NULL), -(int64_t)FG_MALFORMED);
	fg_check_int(read_raw(source, 1, NULL), -(int64_t)FG_MALFORMED); /* nothing is left over from the good read */
	fg_files_write(&files, "group", (char *)past, sizeof past);
	fg_check_int(read_raw(source, 0, NULL), -(int64_t)FG_MALFORMED);
	fg_check_int(read_raw(source, 1, NULL), 6);
	fg_files_write(&files, "group", (char *)one, sizeof one);
	fg_check_int(read_raw(source, 0, NULL), 5);
	fg_check_int(read_raw(source, 1, NULL), -(int64_t)FG_MALFORMED);
	fg_files_write(&files, "group", "", 0);
	fg_check_int(read_raw(source, 0, NULL), -(int64_t)FG_MALFORMED);
	fg_files_write(&files, "group", (char *)good, sizeof good);
	fg_check_int(read_raw(source, 0, NULL), 5);
	ops->close(source);
	close(fd);
	fg_files_remove(&files, (const char *[]){"group"}, 1);
}

FG_TEST(every_failing_allocation_gives_all_back)
{
	struct fg_source *source = NULL;
	struct fg_error err;
	int pair[2];
	long n = 0;

	fg_require(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0);
	struct fg_sensor sensors[] = {slot_of(pair[0], 0), slot_of(pair[1], 0), slot_of(pair[0], 1)};
	struct fg_source_config config = config_of(sensors, 3, &fg_clock_monotonic);
	int before = count_descriptors();
	for (;; n++) {
		fg_alloc_fails_at(n);
		enum fg_status status = ops->open(&config, &source, &err);
		if (status == FG_OK)
			break;
		fg_check_int(status, FG_NO_MEMORY);
		fg_check_int(fg_alloc_live(), 0);
		fg_require(n < 100);
	}
	ops->close(source);
	fg_check_int(fg_alloc_live(), 0);
	fg_alloc_fails_at(-1);
	fg_check_int(n, 5);
	fg_check_int(count_descriptors(), before);
	close(pair[0]);
	close(pair[1]);
}

FG_TEST(what_cannot_be_opened_says_what_and_leaves_nothing_open)
{
	struct fg_source *source = NULL;
	struct fg_error err;
	struct fg_sensor sensors[] = {
		{.path = "power/energy-pkg", .fd = -1, .event = {.type = SOFTWARE, .config = 0, .cpu = 0}},
		{.path = "power/none", .fd = -1, .event = {.type = UINT32_MAX, .config = 0, .cpu = 0}},
	};
	struct fg_source_config config = config_of(sensors, 2, &fg_clock_monotonic);
	struct fg_sensor beyond = slot_of(0, 32), closed = slot_of(9999, 0);
	int before = count_descriptors();

	fg_check(ops->open(&config, &source, &err) != FG_OK);
	fg_check(strstr(err.message, "perf_event_open power/") != NULL);
	config = config_of(&beyond, 1, &fg_clock_monotonic);
	fg_check_int(ops->open(&config, &source, &err), FG_INVALID);
	config = config_of(&closed, 1, &fg_clock_monotonic);
	fg_check(ops->open(&config, &source, &err) != FG_OK);
	fg_check(source == NULL);
	fg_check_int(count_descriptors(), before);
}

FG_TEST(the_kernel_counts_a_group_of_ours)
{
	struct fg_source *source = NULL;
	struct fg_error err;
	struct fg_sensor sensors[2];
	int64_t at_ns[2] = {0, 0}, first_ns, later_ns;

	for (int i = 0; i < 2; i++)
		sensors[i] = (struct fg_sensor){.path = "clock", .fd = -1, .event = {.type = SOFTWARE, .config = 0, .cpu = 0}};
	struct fg_source_config config = config_of(sensors, 2, &fg_clock_monotonic);
	if (ops->open(&config, &source, &err) != FG_OK) {
		fprintf(stderr, "skipped, this kernel lets nobody here count: %s\n", err.message);
		return;
	}
	first_ns = read_raw(source, 0, &at_ns[0]);
	read_raw(source, 1, &at_ns[1]);
	fg_check_int(at_ns[1], at_ns[0]);
	usleep(20000);
	later_ns = read_raw(source, 0, &at_ns[1]);
	fg_check(first_ns >= 0);
	/* As much as passed on the clock, give or take how long the reads themselves took on a busy machine. */
	fg_check(later_ns - first_ns > 15000000);
	fg_check(at_ns[1] - at_ns[0] > 15000000);
	ops->close(source);
}

int main(void)
{
	fg_run(a_round_is_one_read_and_a_sensor_that_does_not_come_after_the_last_begins_the_next);
	fg_run(a_damaged_group_is_malformed_for_all_its_sensors_and_mends);
	fg_run(every_failing_allocation_gives_all_back);
	fg_run(what_cannot_be_opened_says_what_and_leaves_nothing_open);
	fg_run(the_kernel_counts_a_group_of_ours);
	return fg_report();
}
