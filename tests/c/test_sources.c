/* SPDX-License-Identifier: Apache-2.0 */
#include "fg_alloc.h"
#include "fg_driven.h"
#include "fg_files.h"
#include "fg_source.h"
#include "fg_test.h"

static struct fg_source_config config_of(const struct fg_sensor *sensors, size_t count, const struct fg_clock *clock)
{
	return (struct fg_source_config){.sensors = sensors, .count = count, .speed = 1.0, .clock = clock,
									 .library = "no-such-library.so"};
}

static enum fg_status read_one(const struct fg_source_ops *ops, struct fg_source *source, size_t index, int64_t *raw)
{
	struct fg_reading reading = {0};
	struct fg_error err;
	enum fg_status status = ops->read(source, index, &reading, &err);

	*raw = reading.raw;
	return status;
}

/* Let every allocation of open fail once; none may be kept, and the last try succeeds. */
static void fail_every_allocation(const struct fg_source_ops *ops, const struct fg_source_config *config, long fewest)
{
	struct fg_source *source = NULL;
	struct fg_error err;
	long n = 0;

	for (;; n++) {
		fg_alloc_fails_at(n);
		enum fg_status status = ops->open(config, &source, &err);
		if (status == FG_OK)
			break;
		fg_check_int(status, FG_NO_MEMORY);
		fg_check_int(err.status, FG_NO_MEMORY);
		fg_check_int(fg_alloc_live(), 0);
		fg_check(source == NULL);
		fg_require(n < 100);
	}
	ops->close(source);
	fg_check_int(fg_alloc_live(), 0);
	fg_alloc_fails_at(-1);
	fg_check(n >= fewest);
}

FG_TEST(sources_are_found_by_name)
{
	fg_check(fg_source_find("rapl") == &fg_source_rapl);
	fg_check(fg_source_find("nvml") == &fg_source_nvml);
	fg_check(fg_source_find("hwmon") == &fg_source_hwmon);
	fg_check(fg_source_find("procstat") == &fg_source_procstat);
	fg_check(fg_source_find("replay") == &fg_source_replay);
	fg_check(fg_source_find("nonsense") == NULL && fg_source_find("") == NULL);
}

FG_TEST(rapl_reads_its_counters_and_names_what_is_wrong)
{
	struct fg_files files;
	struct fg_error err;
	struct fg_source *source = NULL;
	int64_t raw;

	fg_files_make(&files);
	char first[128], second[128];
	strcpy(first, fg_files_write(&files, "a", "262143328849\n", 13));
	strcpy(second, fg_files_write(&files, "b", "7\n", 2));
	struct fg_sensor sensors[] = {{.path = first, .fd = -1}, {.path = second, .fd = -1}};
	struct fg_source_config config = config_of(sensors, 2, &fg_clock_monotonic);
	fg_require(fg_source_rapl.open(&config, &source, &err) == FG_OK);
	fg_check(read_one(&fg_source_rapl, source, 0, &raw) == FG_OK);
	fg_check_int(raw, INT64_C(262143328849));
	fg_files_write(&files, "b", "-5\n", 3);
	fg_check(read_one(&fg_source_rapl, source, 1, &raw) == FG_MALFORMED);
	fg_files_write(&files, "b", "banana\n", 7);
	fg_check(read_one(&fg_source_rapl, source, 1, &raw) == FG_MALFORMED);
	fg_files_write(&files, "b", "9\n", 2);
	fg_check(read_one(&fg_source_rapl, source, 1, &raw) == FG_OK);
	fg_check_int(raw, 9);
	fg_source_rapl.close(source);
	fail_every_allocation(&fg_source_rapl, &config, 3);
	source = NULL;
	unlink(second);
	fg_alloc_fails_at(-1);
	fg_check(fg_source_rapl.open(&config, &source, &err) == FG_NOT_FOUND);
	fg_check(source == NULL && strstr(err.message, second) != NULL);
	fg_check_int(fg_alloc_live(), 0);
	fg_files_remove(&files, (const char *[]){"a"}, 1);
}

FG_TEST(hwmon_reads_an_energy_a_power_and_a_product)
{
	struct fg_files files;
	struct fg_error err;
	struct fg_source *source = NULL;
	int64_t raw;

	fg_files_make(&files);
	char current[128], voltage[128];
	strcpy(current, fg_files_write(&files, "curr1_input", "1500\n", 5));
	strcpy(voltage, fg_files_write(&files, "in1_input", "19000\n", 6));
	struct fg_sensor sensors[] = {{.path = current, .fd = -1}, {.path = current, .factor = voltage, .fd = -1}};
	struct fg_source_config config = config_of(sensors, 2, &fg_clock_monotonic);
	fg_require(fg_source_hwmon.open(&config, &source, &err) == FG_OK);
	fg_check(read_one(&fg_source_hwmon, source, 0, &raw) == FG_OK);
	fg_check_int(raw, 1500);
	fg_check(read_one(&fg_source_hwmon, source, 1, &raw) == FG_OK);
	fg_check_int(raw, 1500 * 19000);
	fg_files_write(&files, "in1_input", "9223372036854775807\n", 20);
	fg_check(read_one(&fg_source_hwmon, source, 1, &raw) == FG_MALFORMED);
	fg_files_write(&files, "in1_input", "", 0);
	fg_check(read_one(&fg_source_hwmon, source, 1, &raw) == FG_MALFORMED);
	fg_source_hwmon.close(source);
	fail_every_allocation(&fg_source_hwmon, &config, 4);
	fg_files_remove(&files, (const char *[]){"curr1_input", "in1_input"}, 2);
}

FG_TEST(hwmon_turns_a_sign_whatever_the_number)
{
	static const struct {
		const char *text;
		int64_t raw, product;
	} cases[] = {{"-1500\n", 1500, 18000}, {"1500\n", -1500, -18000}, {"0\n", 0, 0}};
	struct fg_files files;
	struct fg_error err;
	struct fg_source *source = NULL;
	int64_t raw;

	fg_files_make(&files);
	char current[128], voltage[128];
	strcpy(current, fg_files_write(&files, "current_now", "-9223372036854775807\n", 21));
	strcpy(voltage, fg_files_write(&files, "voltage_now", "12\n", 3));
	struct fg_sensor sensors[] = {{.path = current, .negate = true, .fd = -1},
								  {.path = current, .factor = voltage, .negate = true, .fd = -1}};
	struct fg_source_config config = config_of(sensors, 2, &fg_clock_monotonic);
	fg_require(fg_source_hwmon.open(&config, &source, &err) == FG_OK);
	fg_check(read_one(&fg_source_hwmon, source, 0, &raw) == FG_OK);
	fg_check_int(raw, INT64_MAX);
	fg_check(read_one(&fg_source_hwmon, source, 1, &raw) == FG_MALFORMED);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		fg_files_write(&files, "current_now", cases[i].text, strlen(cases[i].text));
		fg_check(read_one(&fg_source_hwmon, source, 0, &raw) == FG_OK);
		fg_check_int(raw, cases[i].raw);
		fg_check(read_one(&fg_source_hwmon, source, 1, &raw) == FG_OK);
		fg_check_int(raw, cases[i].product);
	}
	fg_source_hwmon.close(source);
	fg_files_remove(&files, (const char *[]){"current_now", "voltage_now"}, 2);
}

FG_TEST(procstat_adds_idle_watts_and_busy_time)
{
	struct fg_files files;
	struct fg_driven driven;
	struct fg_error err;
	struct fg_source *source = NULL;
	int64_t raw, before, tick_us = 1000000 / sysconf(_SC_CLK_TCK);
	static const char first[] = "cpu  100 20 30 4000 500 6 7 8 50 9\ncpu0 1 2 3\n";
	static const char later[] = "cpu  200 20 30 9000 900 6 7 8 90 9\n";

	fg_files_make(&files);
	fg_driven_init(&driven, 1000, INT64_MAX);
	struct fg_sensor sensor = {.path = fg_files_write(&files, "stat", first, sizeof first - 1), .fd = -1,
							   .idle_mw = 20000, .slope_mw = 3000};
	struct fg_source_config config = config_of(&sensor, 1, &driven.clock);
	fg_require(fg_source_procstat.open(&config, &source, &err) == FG_OK);
	fg_check(read_one(&fg_source_procstat, source, 0, &before) == FG_OK);
	driven.at_ns += 10 * FG_NS_PER_S;
	fg_check(read_one(&fg_source_procstat, source, 0, &raw) == FG_OK);
	fg_check_int(raw - before, 200 * 1000000);
	fg_files_write(&files, "stat", later, sizeof later - 1);
	fg_check(read_one(&fg_source_procstat, source, 0, &raw) == FG_OK);
	fg_check_int(raw - before, 200 * 1000000 + 3 * 100 * tick_us);
	/* a big machine after a long year: more than 63 bits of mW * ns */
	static const char busy[] = "cpu  4000000000000 0 0 0 0 0 0 0 0 0\n";
	fg_files_write(&files, "stat", busy, sizeof busy - 1);
	driven.at_ns += 365 * 86400 * FG_NS_PER_S;
	fg_check(read_one(&fg_source_procstat, source, 0, &raw) == FG_OK);
	fg_check_int(raw, (10 + INT64_C(365) * 86400) * 20 * 1000000 + INT64_C(4000000000000) * tick_us * 3);
	fg_source_procstat.close(source);
	fail_every_allocation(&fg_source_procstat, &config, 2);
	config.count = 2;
	fg_check(fg_source_procstat.open(&config, &source, &err) == FG_INVALID);
	fg_files_remove(&files, (const char *[]){"stat"}, 1);
}

FG_TEST(procstat_tells_a_foreign_file_from_a_stat_file)
{
	static const struct {
		const char *text;
		enum fg_status status;
	} rows[] = {{"cpu 1 2 3 4\n", FG_OK}, /* an old kernel */
				{"cpu 1 2 3 4 5 6 7 8 9 10\n", FG_OK}, {"", FG_MALFORMED}, {"cpu", FG_MALFORMED},
				{"cpu 1 2 3\n", FG_MALFORMED}, {"cpu0 1 2 3 4 5 6 7 8\n", FG_MALFORMED},
				{"cpu 1 2 x 4 5 6 7 8\n", FG_MALFORMED}, {"cpu 1 -2 3 4 5 6 7 8\n", FG_MALFORMED},
				{"cpu 99999999999999999999 2 3 4 5 6 7 8\n", FG_MALFORMED},
				{"cpu 9223372036854775807 9223372036854775807 3 4 5 6 7 8\n", FG_MALFORMED},
				{"cpu 9223372036854775807 0 0 0 0 0 0 0\n", FG_MALFORMED}};
	struct fg_files files;
	struct fg_driven driven;
	struct fg_error err;
	struct fg_source *source = NULL;
	int64_t raw;

	fg_files_make(&files);
	fg_driven_init(&driven, 1, INT64_MAX);
	struct fg_sensor sensor = {.path = fg_files_write(&files, "stat", "", 0), .fd = -1, .slope_mw = 1000000};
	struct fg_source_config config = config_of(&sensor, 1, &driven.clock);
	fg_require(fg_source_procstat.open(&config, &source, &err) == FG_OK);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		fg_files_write(&files, "stat", rows[i].text, strlen(rows[i].text));
		fg_check_int(read_one(&fg_source_procstat, source, 0, &raw), rows[i].status);
	}
	fg_source_procstat.close(source);
	fg_files_remove(&files, (const char *[]){"stat"}, 1);
}

FG_TEST(a_replay_hands_out_each_sample_when_its_time_has_come)
{
	static const struct fg_sample samples[] = {{0, 10, 5, 0, 0}, {1000, 20, 6, 2, FG_SAMPLE_GAP}, {5000, 30, 7, 0, 0}};
	static const double speeds[] = {1.0, 2.0, 0.5, 0.0};

	for (size_t s = 0; s < 4; s++) {
		struct fg_driven driven;
		struct fg_error err;
		struct fg_source *source = NULL;
		struct fg_sensor sensor = {.record = {samples, 3}};
		double scale = speeds[s] > 0 ? 1 / speeds[s] : 1;

		fg_driven_init(&driven, 777, INT64_MAX);
		struct fg_source_config config = config_of(&sensor, 1, &driven.clock);
		config.speed = speeds[s];
		fg_require(fg_source_replay.open(&config, &source, &err) == FG_OK);
		for (size_t i = 0; i < 3; i++) {
			struct fg_reading reading = {0};
			int64_t due_ns = 777 + (int64_t)((double)samples[i].at_ns * scale);

			if (speeds[s] > 0) {
				fg_check_int(fg_source_replay.due_at_ns(source), due_ns);
				driven.at_ns = due_ns - 1;
				fg_check(fg_source_replay.read(source, 0, &reading, &err) == FG_NOT_READY);
				driven.at_ns = due_ns;
			}
			fg_check(fg_source_replay.read(source, 0, &reading, &err) == FG_OK);
			fg_check_int(reading.at_ns, due_ns);
			fg_check_int(reading.raw, samples[i].raw);
			fg_check_int(reading.wraps, samples[i].wraps);
			fg_check_int(reading.flags, samples[i].flags);
			fg_check_int(reading.half_ns, samples[i].half_ns);
		}
		int64_t raw;
		fg_check(read_one(&fg_source_replay, source, 0, &raw) == FG_NOT_READY);
		fg_check_int(fg_source_replay.due_at_ns(source), INT64_MAX);
		fg_source_replay.close(source);
		fail_every_allocation(&fg_source_replay, &config, 1);
	}
}

FG_TEST(nvml_without_a_library_says_so_and_keeps_nothing)
{
	struct fg_error err;
	struct fg_source *source = NULL;
	struct fg_sensor sensor = {.uuid = "GPU-0"};
	struct fg_source_config config = config_of(&sensor, 1, &fg_clock_monotonic);

	fg_check(fg_source_nvml.open(&config, &source, &err) == FG_NOT_FOUND);
	fg_check(strstr(err.message, "no-such-library.so") != NULL);
	fg_alloc_fails_at(0);
	fg_check(fg_source_nvml.open(&config, &source, &err) == FG_NO_MEMORY);
	fg_check_int(fg_alloc_live(), 0);
	fg_alloc_fails_at(1);
	fg_check(fg_source_nvml.open(&config, &source, &err) != FG_OK);
	fg_check_int(fg_alloc_live(), 0);
	fg_alloc_fails_at(-1);
}

int main(void)
{
	fg_run(sources_are_found_by_name);
	fg_run(rapl_reads_its_counters_and_names_what_is_wrong);
	fg_run(hwmon_reads_an_energy_a_power_and_a_product);
	fg_run(hwmon_turns_a_sign_whatever_the_number);
	fg_run(procstat_adds_idle_watts_and_busy_time);
	fg_run(procstat_tells_a_foreign_file_from_a_stat_file);
	fg_run(a_replay_hands_out_each_sample_when_its_time_has_come);
	fg_run(nvml_without_a_library_says_so_and_keeps_nothing);
	return fg_report();
}
