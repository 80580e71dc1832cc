/* AMD's counter through the fake library of tests/fakes/amdsmi, which reads the file `script` beside itself.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fg_alloc.h"
#include "fg_amdsmi.h"
#include "fg_driven.h"
#include "fg_sampler.h"
#include "fg_test.h"

#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#define MS INT64_C(1000000)

static char folder[] = "/tmp/fg-amdsmi-XXXXXX", library[64];
static struct fg_turn turn;

static const char BOARD[] = "board 6aff74a1\nname MI300X\nsocket 0\nbus 0000 03 00 0\ncap 750000000\n";

/* Copy the library into the folder; its `script` and `counts` are there. */
static void copy_library(const char *from)
{
	char command[640];

	fg_require(mkdtemp(folder) != NULL);
	snprintf(library, sizeof library, "%s/libamd_smi.so", folder);
	snprintf(command, sizeof command, "cp %s %s", from, library);
	fg_require(system(command) == 0);
}

static void script(const char *text)
{
	char path[80], next[80];

	snprintf(path, sizeof path, "%s/script", folder);
	snprintf(next, sizeof next, "%s/next", folder);
	FILE *file = fopen(next, "w");
	fg_require(file != NULL);
	fprintf(file, "version 26 1 0 0\n%s", text);
	fclose(file);
	fg_require(rename(next, path) == 0);
}

static void script_board(const char *more)
{
	char text[512];

	snprintf(text, sizeof text, "%s%s\n", BOARD, more);
	script(text);
}

static struct fg_source_config config_of(const struct fg_sensor *sensor)
{
	return (struct fg_source_config){
		.sensors = sensor, .count = 1, .library = library, .turn = &turn, .clock = &fg_clock_monotonic};
}

static struct fg_sensor sensor_of(double resolution_uj, uint64_t modulus)
{
	return (struct fg_sensor){.uuid = "0000:03:00.0", .fd = -1, .resolution_uj = resolution_uj, .modulus = modulus};
}

FG_TEST(a_library_is_described)
{
	struct fg_amdsmi *amdsmi = NULL;
	struct fg_amdsmi_device device;
	struct fg_error err;
	unsigned count = 0;

	script_board("fixed 4242");
	fg_require(fg_amdsmi_open(library, &turn, &amdsmi, &err) == FG_OK);
	fg_check(strcmp(fg_amdsmi_version(amdsmi), "amdsmi 26.1.0") == 0);
	fg_require(fg_amdsmi_device_count(amdsmi, &count, &err) == FG_OK);
	fg_check_int(count, 1);
	fg_require(fg_amdsmi_device(amdsmi, 0, &device, &err) == FG_OK);
	fg_check(strcmp(device.name, "MI300X") == 0);
	fg_check(strcmp(device.bus_id, "0000:03:00.0") == 0);
	fg_check(strcmp(device.uuid, "6aff74a1") == 0);
	fg_check_int(device.power_limit_mw, 750000);
	fg_check_int((int64_t)device.energy.accumulator, 4242);
	fg_check(fg_amdsmi_is_binary(device.energy.resolution_uj));
	fg_check(fg_amdsmi_device(amdsmi, 1, &device, &err) == FG_NOT_FOUND);
	fg_amdsmi_close(amdsmi);
	fg_check_int(turn.taken, 0);
}

FG_TEST(only_a_resolution_near_a_65536th_of_a_joule_is_binary)
{
	fg_check(fg_amdsmi_is_binary(15.3F));
	fg_check(fg_amdsmi_is_binary(1e6 / 65536));
	fg_check(!fg_amdsmi_is_binary(15.625));
	fg_check(!fg_amdsmi_is_binary(1.0));
	fg_check(!fg_amdsmi_is_binary(0.0));
	fg_check(!fg_amdsmi_is_binary(NAN));
	fg_check(!fg_amdsmi_is_binary(INFINITY));
}

/* What the source shows for a counter. */
static enum fg_status shown(uint64_t counter, double resolution_uj, uint64_t modulus, struct fg_reading *out)
{
	struct fg_sensor sensor = sensor_of(resolution_uj, modulus);
	struct fg_source_config config = config_of(&sensor);
	struct fg_source *source;
	struct fg_error err;
	char text[128];

	snprintf(text, sizeof text, "energy 0 %.9g 64 0\nfixed %" PRIu64, resolution_uj, counter);
	script_board(text);
	enum fg_status status = fg_source_amdsmi.open(&config, &source, &err);
	if (status != FG_OK)
		return status;
	status = fg_source_amdsmi.read(source, 0, out, &err);
	fg_source_amdsmi.close(source);
	return status;
}

FG_TEST(a_counter_is_shown_modulo_its_modulus_or_in_microjoules)
{
	const uint64_t whole = UINT64_C(1) << 62;
	struct fg_reading reading;

	fg_require(shown(5000000000, 15.3F, whole, &reading) == FG_OK);
	fg_check_int(reading.raw, 5000000000);
	fg_require(shown(5000000000, 15.3F, UINT64_C(1) << 32, &reading) == FG_OK);
	fg_check_int(reading.raw, 5000000000 - (INT64_C(1) << 32));
	fg_require(shown(UINT64_MAX - 1, 15.3F, whole, &reading) == FG_OK);
	fg_check_int(reading.raw, (int64_t)(whole - 2));
	fg_require(shown(UINT64_MAX - 1, 15.3F, 0, &reading) == FG_OK);
	fg_check_int(reading.raw, (int64_t)(whole - 2));
	fg_require(shown(1000003, 0.5, 0, &reading) == FG_OK);
	fg_check_int(reading.raw, 500001);
	fg_check(shown(UINT64_MAX - 1, 1000.0, 0, &reading) == FG_MALFORMED);
	fg_check(shown(UINT64_MAX, 15.3F, whole, &reading) == FG_NOT_SUPPORTED);
}

FG_TEST(the_drivers_stamp_narrows_the_time_of_a_value_if_it_is_of_this_call)
{
	struct fg_sensor sensor = sensor_of(15.3F, UINT64_C(1) << 62);
	struct fg_source_config config = config_of(&sensor);
	struct fg_source *source;
	struct fg_reading reading;
	struct fg_error err;
	static const char *const stamps[] = {"boot", "zero", "old"};

	for (size_t i = 0; i < 3; i++) {
		char text[64];

		snprintf(text, sizeof text, "fixed 7\nslow 20000000\nstamp %s", stamps[i]);
		script_board(text);
		fg_require(fg_source_amdsmi.open(&config, &source, &err) == FG_OK);
		int64_t before_ns = fg_clock_now_ns();
		fg_require(fg_source_amdsmi.read(source, 0, &reading, &err) == FG_OK);
		int64_t after_ns = fg_clock_now_ns();
		fg_source_amdsmi.close(source);
		fg_check(reading.at_ns - reading.half_ns >= before_ns - 1);
		fg_check(reading.at_ns + reading.half_ns <= after_ns + 1);
		if (i == 0) /* the fake stamps before it waits */
			fg_check(reading.at_ns + reading.half_ns <= after_ns - 19 * MS);
		else
			fg_check(reading.half_ns >= 10 * MS);
	}
}

FG_TEST(failing_memory_leaves_nothing_behind)
{
	struct fg_sensor sensor = sensor_of(15.3F, UINT64_C(1) << 62);
	struct fg_source_config config = config_of(&sensor);
	struct fg_source *source;
	struct fg_error err;

	script_board("fixed 7");
	for (long n = 0; n < 4; n++) {
		fg_alloc_fails_at(n);
		enum fg_status status = fg_source_amdsmi.open(&config, &source, &err);
		fg_alloc_left = -1;
		if (status == FG_OK)
			fg_source_amdsmi.close(source);
		fg_check_int(turn.taken, 0);
	}
	fg_alloc_fails_at(-1);
	config.library = "no-such-library.so";
	fg_check(fg_source_amdsmi.open(&config, &source, &err) == FG_NOT_FOUND);
	fg_check_int(fg_alloc_live(), 0);
}

/* Reads of several samplers at once. */
FG_TEST(samplers_take_turns)
{
	struct fg_sensor sensor = sensor_of(15.3F, UINT64_C(1) << 62);
	struct fg_traits traits = {FG_ENERGY, INT64_C(1) << 62, 1, 100 * MS, 0, 0, 0};
	struct fg_sampler_config config = {&fg_source_amdsmi, config_of(&sensor), &traits, MS, 1024, false};
	struct fg_sampler *samplers[4];
	struct fg_error err;
	uint64_t counts[11] = {0};
	char path[80];

	script_board("energy 1e10 15.3 64 0\npower constant 200");
	for (size_t i = 0; i < 4; i++) {
		fg_require(fg_sampler_open(&config, &samplers[i], &err) == FG_OK);
		fg_require(fg_sampler_start(samplers[i], FG_NS_PER_S, &err) == FG_OK);
	}
	for (int i = 0; i < 30; i++)
		fg_clock_monotonic.sleep_until(NULL, fg_clock_now_ns() + 10 * MS, &(struct fg_wake){0});
	for (size_t i = 0; i < 4; i++) {
		struct fg_live live;

		fg_sampler_stop(samplers[i], 0);
		fg_sampler_live(samplers[i], 0, &live);
		fg_check(live.samples > 5);
		fg_check_int((int64_t)live.read_errors, 0);
		fg_sampler_close(samplers[i]);
	}
	snprintf(path, sizeof path, "%s/counts", folder);
	FILE *file = fopen(path, "rb");
	fg_require(file != NULL);
	fg_check_int((int64_t)fread(counts, sizeof *counts, 11, file), 11);
	fclose(file);
	fg_check(counts[0] >= 4);             /* initialised */
	fg_check_int((int64_t)counts[1], 0);  /* shut down */
	fg_check_int((int64_t)counts[10], 0); /* side by side */
}

FG_TEST(a_read_during_the_turn_of_a_hung_call_fails_in_time)
{
	struct fg_sensor sensor = sensor_of(15.3F, UINT64_C(1) << 62);
	struct fg_source_config config = config_of(&sensor);
	struct fg_source *source;
	struct fg_reading reading;
	struct fg_error err;

	script_board("fixed 7");
	fg_require(fg_source_amdsmi.open(&config, &source, &err) == FG_OK);
	fg_require(fg_turn_take(&turn, 0));
	int64_t begin_ns = fg_clock_now_ns();
	fg_check(fg_source_amdsmi.read(source, 0, &reading, &err) == FG_READ_FAILED);
	fg_check(strstr(err.message, "has not come back") != NULL);
	fg_check(fg_clock_now_ns() - begin_ns < 14 * FG_NS_PER_S); /* sooner than a sampler is given up */
	fg_turn_give(&turn);
	fg_check(fg_source_amdsmi.read(source, 0, &reading, &err) == FG_OK);
	fg_source_amdsmi.close(source);
}

int main(int count, char **arguments)
{
	(void)count;
	char from[512], *end;

	snprintf(from, sizeof from, "%s", arguments[0]); /* the library is built beside the test */
	end = strrchr(from, '/');
	snprintf(end != NULL ? end : from, 32, "/libamd_smi.so");
	copy_library(from);
	fg_run(a_library_is_described);
	fg_run(only_a_resolution_near_a_65536th_of_a_joule_is_binary);
	fg_run(a_counter_is_shown_modulo_its_modulus_or_in_microjoules);
	fg_run(the_drivers_stamp_narrows_the_time_of_a_value_if_it_is_of_this_call);
	fg_run(failing_memory_leaves_nothing_behind);
	fg_run(samplers_take_turns);
	fg_run(a_read_during_the_turn_of_a_hung_call_fails_in_time);
	snprintf(from, sizeof from, "rm -r %s", folder);
	return fg_report() | (system(from) != 0);
}
