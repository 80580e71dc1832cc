/* SPDX-License-Identifier: Apache-2.0 */
#include "fg_files.h"
#include "fg_sysfs.h"
#include "fg_test.h"

#include <fcntl.h>

static enum fg_status parse(const char *text, int64_t *out)
{
	return fg_sysfs_parse(text, strlen(text), out);
}

FG_TEST(integers_of_63_bits_are_read)
{
	static const struct {
		const char *text;
		int64_t value;
	} rows[] = {{"0", 0}, {"0\n", 0}, {"42\n", 42}, {"-7\n", -7}, {"007", 7}, {"12  \n", 12},
				{"9223372036854775807\n", INT64_MAX}, {"-9223372036854775807", -INT64_MAX}};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		int64_t value = 99;
		fg_check(parse(rows[i].text, &value) == FG_OK);
		fg_check_int(value, rows[i].value);
	}
}

FG_TEST(anything_else_is_malformed_and_leaves_the_output_alone)
{
	static const char *const texts[] = {"", "\n", "-", "--1", "+1", " 1", "0x10", "1.5", "1e3", "12a", "1 2", "12\n3",
										"9223372036854775808", "99999999999999999999999", "<unsupported>"};

	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		int64_t value = 99;
		fg_check(parse(texts[i], &value) == FG_MALFORMED);
		fg_check_int(value, 99);
	}
}

FG_TEST(parsing_stays_within_the_given_bytes)
{
	int64_t value;

	fg_check(fg_sysfs_parse("1234", 2, &value) == FG_OK);
	fg_check_int(value, 12);
	fg_check(fg_sysfs_parse("1", 0, &value) == FG_MALFORMED);
	fg_check(fg_sysfs_parse("5\0\0\0", 4, &value) == FG_OK);
}

FG_TEST(every_read_sees_the_file_anew)
{
	struct fg_files files;
	struct fg_error err;
	int64_t value = 0;
	int fd, twin;

	fg_files_make(&files);
	fg_require(fg_sysfs_open(fg_files_write(&files, "a", "5\n", 2), -1, &fd, &err) == FG_OK);
	fg_require(fg_sysfs_open(files.path, fd, &twin, &err) == FG_OK);
	fg_check(fcntl(fd, F_GETFD) & FD_CLOEXEC && fcntl(twin, F_GETFD) & FD_CLOEXEC);
	close(fd); /* the duplicate lives on its own */
	fg_check(fg_sysfs_read(twin, files.path, &value, &err) == FG_OK);
	fg_check_int(value, 5);
	fg_files_write(&files, "a", "123456\n", 7);
	fg_check(fg_sysfs_read(twin, files.path, &value, &err) == FG_OK);
	fg_check_int(value, 123456);
	fg_files_write(&files, "a", "", 0);
	fg_check(fg_sysfs_read(twin, files.path, &value, &err) == FG_MALFORMED);
	fg_files_write(&files, "a", "11111111111111111111111111111111111111111", 41);
	fg_check(fg_sysfs_read(twin, files.path, &value, &err) == FG_MALFORMED);
	fg_check_int(err.status, FG_MALFORMED);
	fg_check(strstr(err.message, files.path) != NULL);
	fg_check_int(value, 123456);
	close(twin);
	fg_files_remove(&files, (const char *[]){"a"}, 1);
}

FG_TEST(only_the_kernels_files_are_on_sysfs)
{
	struct fg_files files;
	int fd = open("/sys", O_RDONLY);

	if (fd >= 0) { /* a container may lack it; no other file system is taken for it */
		fg_check(fg_sysfs_holds(fd) || access("/sys/class", F_OK) != 0);
		close(fd);
	}
	fg_files_make(&files);
	fd = open(fg_files_write(&files, "a", "5\n", 2), O_RDONLY);
	fg_require(fd >= 0);
	fg_check(!fg_sysfs_holds(fd));
	close(fd);
	fg_check(!fg_sysfs_holds(999999));
	fg_files_remove(&files, (const char *[]){"a"}, 1);
}

FG_TEST(what_cannot_be_opened_or_read_says_why)
{
	struct fg_files files;
	struct fg_error err;
	int64_t value;
	int fd = -7;

	fg_files_make(&files);
	fg_check(fg_sysfs_open(fg_files_path(&files, "none"), -1, &fd, &err) == FG_NOT_FOUND);
	fg_check(err.sys_errno != 0 && strstr(err.message, "none") != NULL);
	fg_check_int(fd, -7);
	fg_check(fg_sysfs_open("closed", 999999, &fd, &err) == FG_SYSTEM);
	if (geteuid() != 0) {
		chmod(fg_files_write(&files, "a", "5", 1), 0);
		fg_check(fg_sysfs_open(files.path, -1, &fd, &err) == FG_NOT_PERMITTED);
	}
	fg_require(mkfifo(fg_files_path(&files, "fifo"), 0600) == 0);
	fg_require(fg_sysfs_open(files.path, -1, &fd, &err) == FG_OK); /* does not hang */
	fg_check(fg_sysfs_read(fd, files.path, &value, &err) != FG_OK);
	close(fd);
	fg_require(fg_sysfs_open(files.folder, -1, &fd, &err) == FG_OK);
	fg_check(fg_sysfs_read(fd, files.folder, &value, &err) == FG_SYSTEM);
	close(fd);
	fg_files_remove(&files, (const char *[]){"a", "fifo"}, 2);
}

int main(void)
{
	fg_run(integers_of_63_bits_are_read);
	fg_run(anything_else_is_malformed_and_leaves_the_output_alone);
	fg_run(parsing_stays_within_the_given_bytes);
	fg_run(every_read_sees_the_file_anew);
	fg_run(only_the_kernels_files_are_on_sysfs);
	fg_run(what_cannot_be_opened_or_read_says_why);
	return fg_report();
}
