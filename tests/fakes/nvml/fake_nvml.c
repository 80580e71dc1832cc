/* A libnvidia-ml.so.1 that does what a script says: state, counting, rules. The functions themselves stand in
 * fake_power.c, fake_device.c and fake_processes.c.
 * SPDX-License-Identifier: Apache-2.0
 *
 * The script is the file named by FAKE_NVML_SCRIPT, else "script" beside the library; the counts are in the file named by
 * FAKE_NVML_COUNTS, else "counts" beside it, mapped by every process that uses the library. Both files therefore belong to
 * one copy of the library, so several fakes live side by side in one process. As with NVIDIA's library, initialisation is
 * counted and does not survive fork. */
#define _GNU_SOURCE
#include "fake_nvml.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define STAT_EVERY_NS 10000000

static struct {
	pthread_mutex_t lock;
	int init_count;
	uint64_t reloads_seen, version_seen;
	struct stat seen;
	int64_t stat_at_ns;
	int64_t offset_ns; /* realtime minus monotonic, taken once so that an update keeps its stamp */
	int bad_line; /* what fake_script_read said */
	char script_path[PATH_MAX], counts_path[PATH_MAX];
	struct fake_counts *counts;
	struct fake_script script;
} state = {.lock = PTHREAD_MUTEX_INITIALIZER, .bad_line = -1};

static struct nvmlDevice_st handles[FAKE_DEVICES_MAX][1 + FAKE_MIG_MAX];

static const char *const names[FAKE_FUNCTION_COUNT] = {
	"*",
#define FAKE_NAME(name) #name,
	FAKE_FUNCTIONS(FAKE_NAME)
#undef FAKE_NAME
#define FAKE_NAME(id, name) name,
	FAKE_FIELDS(FAKE_NAME)
#undef FAKE_NAME
};

static int64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec * 1000000000ll + now.tv_nsec;
}

int64_t fake_clock_offset_ns(void)
{
	return state.offset_ns;
}

int64_t fake_reloaded_ns(void)
{
	return state.counts->reloads > 0 ? state.counts->reloaded_ns : 0;
}

nvmlDevice_t fake_handle(int device, int mig)
{
	return &handles[device][1 + mig];
}

static void forget_in_child(void)
{
	pthread_mutex_init(&state.lock, NULL);
	state.init_count = 0;
}

static void choose_path(char *path, const char *variable, const char *beside)
{
	const char *named = getenv(variable);
	Dl_info info;

	if (named != NULL)
		snprintf(path, PATH_MAX, "%s", named);
	else if (dladdr((void *)choose_path, &info) != 0) {
		snprintf(path, PATH_MAX - 16, "%s", info.dli_fname);
		strcpy(strrchr(path, '/') != NULL ? strrchr(path, '/') + 1 : path, beside);
	}
}

/* The tightest of some pairs of looks: between two looks a busy machine may let time pass. */
static int64_t realtime_offset_ns(void)
{
	int64_t best_ns = INT64_MAX, offset_ns = 0;

	for (int i = 0; i < 16; i++) {
		int64_t before_ns = clock_ns(CLOCK_MONOTONIC), realtime_ns = clock_ns(CLOCK_REALTIME);
		int64_t took_ns = clock_ns(CLOCK_MONOTONIC) - before_ns;

		if (took_ns < best_ns) {
			best_ns = took_ns;
			offset_ns = realtime_ns - before_ns - took_ns / 2;
		}
	}
	return offset_ns;
}

__attribute__((constructor)) static void start(void)
{
	static struct fake_counts unshared;
	int fd;

	for (int i = 0; i < FAKE_DEVICES_MAX; i++)
		for (int m = 0; m <= FAKE_MIG_MAX; m++)
			handles[i][m] = (struct nvmlDevice_st){i, m - 1};
	choose_path(state.script_path, "FAKE_NVML_SCRIPT", "script");
	choose_path(state.counts_path, "FAKE_NVML_COUNTS", "counts");
	state.offset_ns = realtime_offset_ns();
	pthread_atfork(NULL, NULL, forget_in_child);
	state.counts = &unshared;
	fd = open(state.counts_path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	if (fd >= 0 && ftruncate(fd, sizeof *state.counts) == 0) {
		void *map = mmap(NULL, sizeof *state.counts, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (map != MAP_FAILED)
			state.counts = map;
	}
	if (fd >= 0)
		close(fd);
	for (int i = 0; i < FAKE_FUNCTION_COUNT; i++)
		strcpy(state.counts->count[i].name, names[i]);
}

__attribute__((destructor)) static void stop(void)
{
	if (state.counts != NULL)
		munmap(state.counts, sizeof *state.counts);
}

/* Reads the script again when the test raised its version, or (looked at every 10 ms) when the file itself changed. */
static void refresh(void)
{
	uint64_t version = state.counts->script_version;
	int64_t now_ns = clock_ns(CLOCK_MONOTONIC);
	struct stat file;

	if (state.bad_line == 0 && version == state.version_seen && now_ns < state.stat_at_ns)
		return;
	state.stat_at_ns = now_ns + STAT_EVERY_NS;
	if (stat(state.script_path, &file) != 0)
		memset(&file, 0, sizeof file);
	if (state.bad_line == 0 && version == state.version_seen && file.st_ino == state.seen.st_ino &&
		file.st_size == state.seen.st_size && file.st_mtim.tv_sec == state.seen.st_mtim.tv_sec &&
		file.st_mtim.tv_nsec == state.seen.st_mtim.tv_nsec)
		return;
	state.seen = file;
	state.version_seen = version;
	state.bad_line = fake_script_read(&state.script, state.script_path);
	if (state.bad_line > 0)
		fprintf(stderr, "fake NVML: %s:%d: not understood\n", state.script_path, state.bad_line);
}

static int names_match(const char *pattern, const char *name)
{
	size_t length = strlen(pattern);

	if (length > 0 && pattern[length - 1] == '*')
		return strncmp(pattern, name, length - 1) == 0;
	return strcmp(pattern, name) == 0;
}

/* The rules of one device (-1: those without a device) for call number `number` of the function, `any` of all. */
static int64_t apply_rules(struct fake_call *call, enum fake_function function, int device, uint64_t number, uint64_t any)
{
	int64_t delay_us = 0;

	for (int i = 0; i < state.script.rule_count; i++) {
		const struct fake_rule *rule = &state.script.rule[i];
		int lone = strcmp(rule->function, "*") == 0;
		uint64_t n = lone ? any : number;

		if (rule->device != device || n < rule->from || n > rule->to)
			continue;
		if (lone ? any == 0 : !names_match(rule->function, names[function]))
			continue;
		delay_us += rule->delay_us;
		if (call->code == 0)
			call->code = rule->code;
		if (!isnan(rule->value))
			call->value = rule->value;
	}
	return delay_us;
}

/* Sleeps, or spins below 100 us where a sleep would overshoot; without the lock unless the script serialises. */
static void delay(int64_t delay_us)
{
	int64_t until_ns = clock_ns(CLOCK_MONOTONIC) + delay_us * 1000;
	struct timespec until = {until_ns / 1000000000, until_ns % 1000000000};
	int serialise = state.script.serialise;

	if (delay_us <= 0)
		return;
	if (!serialise)
		pthread_mutex_unlock(&state.lock);
	if (delay_us < 100)
		while (clock_ns(CLOCK_MONOTONIC) < until_ns)
			;
	else
		while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
			;
	if (!serialise)
		pthread_mutex_lock(&state.lock);
}

/* Counts the call and reloads the driver where the script says so. Takes the lock. */
static void begin(struct fake_call *call, enum fake_function function)
{
	uint64_t any, number;

	*call = (struct fake_call){.index = -1, .mig = -1, .value = NAN, .script = &state.script};
	pthread_mutex_lock(&state.lock);
	refresh();
	any = ++state.counts->count[FAKE_ANY].total;
	number = ++state.counts->count[function].total;
	for (int i = 0; i < state.script.reload_count; i++)
		if (state.script.reload_at[i] == any) {
			state.counts->reloaded_ns = clock_ns(CLOCK_MONOTONIC);
			state.counts->reloads++;
		}
	delay(apply_rules(call, function, -1, number, any));
	call->now_ns = clock_ns(CLOCK_MONOTONIC);
}

static int end(struct fake_call *call, int code)
{
	call->code = code;
	pthread_mutex_unlock(&state.lock);
	return 0;
}

int fake_enter_device(struct fake_call *call, enum fake_function function, int index)
{
	uint64_t any, number;

	if (index < 0 || index >= state.script.device_count)
		return end(call, NVML_ERROR_INVALID_ARGUMENT);
	any = ++state.counts->count[FAKE_ANY].device[index];
	number = ++state.counts->count[function].device[index];
	delay(apply_rules(call, function, index, number, any));
	call->now_ns = clock_ns(CLOCK_MONOTONIC);
	if (call->code != 0)
		return end(call, call->code);
	if (index >= state.script.device_count) /* the script changed while the call slept */
		return end(call, NVML_ERROR_INVALID_ARGUMENT);
	call->index = index;
	call->device = &state.script.device[index];
	return 1;
}

int fake_enter(struct fake_call *call, enum fake_function function, nvmlDevice_t handle)
{
	begin(call, function);
	if (state.init_count == 0 || state.reloads_seen != state.counts->reloads)
		return end(call, NVML_ERROR_UNINITIALIZED);
	if (call->code != 0)
		return end(call, call->code);
	if (handle == NULL)
		return 1;
	if (handle < &handles[0][0] || handle > &handles[FAKE_DEVICES_MAX - 1][FAKE_MIG_MAX])
		return end(call, NVML_ERROR_INVALID_ARGUMENT);
	call->mig = handle->mig;
	return fake_enter_device(call, function, handle->device);
}

int fake_field(struct fake_call *call, enum fake_function field)
{
	int code;

	call->value = NAN;
	apply_rules(call, field, -1, ++state.counts->count[field].total, 0);
	apply_rules(call, field, call->index, ++state.counts->count[field].device[call->index], 0);
	code = call->code;
	call->code = 0;
	return code;
}

int fake_leave(struct fake_call *call, int code)
{
	end(call, code);
	return code;
}

int fake_init(enum fake_function function)
{
	struct fake_call call;

	begin(&call, function);
	if (state.bad_line != 0)
		call.code = state.bad_line < 0 ? 9 : NVML_ERROR_UNKNOWN; /* 9: no driver, since there is no script */
	if (call.code != 0)
		return fake_leave(&call, call.code);
	if (state.reloads_seen != state.counts->reloads)
		state.init_count = 0;
	state.reloads_seen = state.counts->reloads;
	state.init_count++;
	return fake_leave(&call, NVML_SUCCESS);
}

int fake_shutdown(void)
{
	struct fake_call call;

	if (!fake_enter(&call, FN_nvmlShutdown, NULL))
		return call.code;
	state.init_count--;
	return fake_leave(&call, NVML_SUCCESS);
}
