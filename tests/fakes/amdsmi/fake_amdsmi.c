/* A libamd_smi whose boards, counters and faults a script writes down: the file `script` beside the library, read at
 * every call. What happened is counted in the file `counts`, which processes share.
 * SPDX-License-Identifier: Apache-2.0
 *
 * Lines of the script, `board` begins a board:
 *	epoch NS               version A B C D          init CODE           fault NAME
 *	board UUID             bus DOMAIN BUS DEVICE FUNCTION               name TEXT
 *	socket N               cap UW                   energy START RESOLUTION_UJ BITS PERIOD_NS
 *	power WAVE             fixed N                  slip EVERY_NS LENGTH_NS DROP
 *	code N (of energy)     stamp boot|zero|old      gone                slow NS
 */
#define _GNU_SOURCE
#include "amdsmi_types.h"
#include "../wave.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { SUCCESS = 0, INVAL = 1, NOT_SUPPORTED = 2, NO_PERM = 10, NOT_FOUND = 31, NOT_INIT = 32 };
enum { BOARDS = 8, TYPE_GPU = 1 };

struct board {
	char uuid[64], name[256], stamp[8];
	unsigned domain, bus, device, function, socket;
	unsigned long long cap_uw, fixed;
	double start, resolution_uj;
	unsigned bits;
	long long period_ns, slip_every_ns, slip_length_ns, slip_drop, slow_ns;
	struct wave power;
	int code, is_fixed, gone, no_bus, no_uuid;
};

struct script {
	long long epoch_ns;
	unsigned version[4];
	int init_code, count;
	char fault[64];
	struct board boards[BOARDS];
};

/* In the file `counts`. */
struct counts {
	_Atomic uint64_t inits, shutdowns, energies[BOARDS], side_by_side;
};

static _Atomic int inside, initialised;

static void beside(char *out, size_t size, const char *name)
{
	Dl_info here;

	dladdr((void *)beside, &here);
	snprintf(out, size, "%.*s/%s", (int)(strrchr(here.dli_fname, '/') - here.dli_fname), here.dli_fname, name);
}

static struct counts *counts(void)
{
	static struct counts *_Atomic mapped;
	char path[PATH_MAX];

	if (mapped == NULL) {
		beside(path, sizeof path, "counts");
		int fd = open(path, O_RDWR | O_CREAT, 0644);
		if (fd < 0 || ftruncate(fd, sizeof(struct counts)) != 0)
			abort();
		mapped = mmap(NULL, sizeof(struct counts), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		close(fd);
	}
	return mapped;
}

static void read_line(struct script *script, char *line)
{
	struct board *b = script->count > 0 ? &script->boards[script->count - 1] : &script->boards[0];
	const char *rest;
	int used = 0;
	char word[16];

	if (sscanf(line, "%15s%n", word, &used) != 1)
		return;
	rest = line + used + (line[used] == ' ');
#define IS(name) (strcmp(word, name) == 0)
	if (IS("epoch"))
		sscanf(rest, "%lld", &script->epoch_ns);
	if (IS("version"))
		sscanf(rest, "%u %u %u %u", &script->version[0], &script->version[1], &script->version[2], &script->version[3]);
	if (IS("init"))
		sscanf(rest, "%d", &script->init_code);
	if (IS("fault"))
		snprintf(script->fault, sizeof script->fault, "%.63s", rest);
	if (IS("board") && script->count < BOARDS) {
		b = &script->boards[script->count++];
		*b = (struct board){.resolution_uj = 15.3F, .bits = 64, .stamp = "boot"};
		snprintf(b->uuid, sizeof b->uuid, "%.63s", rest);
	}
	if (IS("bus"))
		b->no_bus = sscanf(rest, "%x %x %x %x", &b->domain, &b->bus, &b->device, &b->function) != 4;
	if (IS("name"))
		snprintf(b->name, sizeof b->name, "%.255s", rest);
	if (IS("socket"))
		sscanf(rest, "%u", &b->socket);
	if (IS("cap"))
		sscanf(rest, "%llu", &b->cap_uw);
	if (IS("energy"))
		sscanf(rest, "%lf %lf %u %lld", &b->start, &b->resolution_uj, &b->bits, &b->period_ns);
	if (IS("power"))
		wave_parse(&b->power, rest);
	if (IS("fixed"))
		b->is_fixed = sscanf(rest, "%llu", &b->fixed) == 1;
	if (IS("slip"))
		sscanf(rest, "%lld %lld %lld", &b->slip_every_ns, &b->slip_length_ns, &b->slip_drop);
	if (IS("code"))
		sscanf(rest, "%d", &b->code);
	if (IS("stamp"))
		snprintf(b->stamp, sizeof b->stamp, "%.7s", rest);
	if (IS("gone"))
		b->gone = 1;
	if (IS("slow"))
		sscanf(rest, "%lld", &b->slow_ns);
}

static void read_script(struct script *script)
{
	char path[PATH_MAX], line[4096];

	memset(script, 0, sizeof *script);
	beside(path, sizeof path, "script");
	FILE *file = fopen(path, "r");
	if (file == NULL)
		return;
	while (fgets(line, sizeof line, file) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		read_line(script, line);
	}
	fclose(file);
}

static int has(const char *fault)
{
	struct script script;

	read_script(&script);
	return strcmp(script.fault, fault) == 0;
}

static void pause_ns(long long ns)
{
	nanosleep(&(struct timespec){ns / 1000000000, ns % 1000000000}, NULL);
}

static void hang(const char *fault)
{
	while (has(fault))
		pause_ns(2000000);
}

static long long clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec * 1000000000ll + now.tv_nsec;
}

/* Every function begins and ends with these: calls side by side are noted. */
static void enter(void)
{
	if (atomic_fetch_add(&inside, 1) > 0)
		counts()->side_by_side++;
}

static int leave(int code)
{
	atomic_fetch_sub(&inside, 1);
	return code;
}

static struct board *board_of(struct script *script, void *handle, int *code)
{
	uintptr_t number = (uintptr_t)handle - 0x100;

	read_script(script);
	*code = !initialised                                                        ? NOT_INIT
			: number >= (uintptr_t)script->count || script->boards[number].gone ? NOT_FOUND
																				: SUCCESS;
	return *code == SUCCESS ? &script->boards[number] : NULL;
}

int amdsmi_init(uint64_t flags)
{
	struct script script;

	(void)flags;
	enter();
	counts()->inits++;
	read_script(&script);
	if (strcmp(script.fault, "init crashes") == 0)
		raise(SIGSEGV);
	if (strcmp(script.fault, "init ends the process") == 0)
		_exit(3);
	if (strcmp(script.fault, "prints") == 0)
		puts("Getting asic info failed. Return code: 2");
	hang("init hangs");
	if (script.init_code == SUCCESS)
		initialised = 1;
	return leave(script.init_code);
}

int amdsmi_shut_down(void)
{
	enter();
	counts()->shutdowns++;
	initialised = 0;
	return leave(SUCCESS);
}

int amdsmi_get_lib_version(void *out)
{
	struct script script;

	enter();
	read_script(&script);
	const unsigned *v = script.version;
	if (v[0] < 26)
		*(version_25 *)out = (version_25){v[0], v[1], v[2], v[3], "fake"};
	else
		*(version_26 *)out = (version_26){v[0], v[1], v[2], "fake"};
	return leave(initialised ? SUCCESS : NOT_INIT);
}

int amdsmi_status_code_to_string(int code, const char **out)
{
	static char endless[1 << 16];
	static const char *const names[] = {"Success", "Invalid", "Not supported"};

	enter();
	memset(endless, 'X', sizeof endless - 1);
	if (!has("codes without text"))
		*out = has("codes without end") ? endless
			   : has("codes of bytes")  ? "\xff\x1b[31m"
			   : code == NO_PERM        ? "Permission Denied"
			   : code == NOT_FOUND      ? "Device Not found"
			   : code >= 0 && code < 3  ? names[code]
										: "An unknown error occurred";
	return leave(SUCCESS);
}

int amdsmi_get_socket_handles(uint32_t *count, void **out)
{
	struct script script;
	uint32_t sockets = 0, room = *count;

	enter();
	read_script(&script);
	for (int i = 0; i < script.count; i++)
		if (!script.boards[i].gone && script.boards[i].socket >= sockets)
			sockets = script.boards[i].socket + 1;
	for (uint32_t i = 0; out != NULL && i < sockets && i < room; i++)
		out[i] = (char *)NULL + 1 + i;
	*count = has("many sockets") ? 4000000000u : sockets;
	return leave(initialised ? SUCCESS : NOT_INIT);
}

int amdsmi_get_processor_handles(void *socket, uint32_t *count, void **out)
{
	struct script script;
	uint32_t found = 0, room = *count;

	enter();
	read_script(&script);
	for (int i = 0; i < script.count; i++)
		if (!script.boards[i].gone && script.boards[i].socket + 1 == (uintptr_t)socket && found < room && out != NULL)
			out[found++] = (char *)NULL + 0x100 + i;
	*count = has("many processors") ? 4000000000u : found;
	return leave(initialised ? SUCCESS : NOT_INIT);
}

int amdsmi_get_processor_type(void *handle, int *out)
{
	(void)handle;
	enter();
	*out = has("no GPU") ? 2 : TYPE_GPU;
	return leave(SUCCESS);
}

int amdsmi_get_gpu_device_bdf(void *handle, bdf_t *out)
{
	struct script script;
	int code;

	enter();
	struct board *b = board_of(&script, handle, &code);
	if (b != NULL) {
		out->fields.function_number = b->function;
		out->fields.device_number = b->device;
		out->fields.bus_number = b->bus;
		out->fields.domain_number = b->domain;
		code = b->no_bus ? NOT_SUPPORTED : SUCCESS;
	}
	return leave(code);
}

/* Every byte of the room taken, none for the end; or bytes that are no text. */
static void say(const char *what, char *out, size_t size, const char *text)
{
	char fault[64];

	snprintf(out, size, "%s", text);
	snprintf(fault, sizeof fault, "%s without end", what);
	if (has(fault))
		memset(out, 'X', size);
	snprintf(fault, sizeof fault, "%s of bytes", what);
	if (has(fault))
		snprintf(out, size, "\xff\n\x1b[31m%s", text);
}

int amdsmi_get_gpu_device_uuid(void *handle, unsigned *length, char *out)
{
	struct script script;
	int code;

	enter();
	struct board *b = board_of(&script, handle, &code);
	if (b != NULL && *length < 38)
		code = INVAL;
	if (b != NULL && code == SUCCESS)
		say("uuid", out, *length, b->uuid);
	return leave(code);
}

int amdsmi_get_gpu_asic_info(void *handle, void *out)
{
	struct script script;
	int code;

	enter();
	struct board *b = board_of(&script, handle, &code);
	if (b != NULL && script.version[0] == 23) {
		asic_23 *asic = out;
		memset(asic, 'V', sizeof *asic); /* no text after the name ends before the structure does */
		say("name", asic->market_name, sizeof asic->market_name, b->name);
	} else if (b != NULL) {
		asic_26 *asic = out;
		memset(asic, 'V', sizeof *asic);
		say("name", asic->market_name, sizeof asic->market_name, b->name);
	}
	return leave(code);
}

int amdsmi_get_power_cap_info(void *handle, uint32_t sensor, void *out)
{
	struct script script;
	int code;

	(void)sensor;
	enter();
	struct board *b = board_of(&script, handle, &code);
	if (b != NULL)
		*(power_cap_t *)out = (power_cap_t){.power_cap = b->cap_uw, .max_power_cap = b->cap_uw};
	return leave(code);
}

static uint64_t accumulator(const struct script *script, const struct board *b, long long at_ns)
{
	double unit_uj = fabs(b->resolution_uj - 15.26) < 0.05 ? 1e6 / 65536 : b->resolution_uj;
	long long since_ns = at_ns - script->epoch_ns;

	if (b->is_fixed)
		return b->fixed;
	if (b->slip_every_ns > 0 && since_ns % b->slip_every_ns >= b->slip_every_ns - b->slip_length_ns)
		return accumulator(script,
						   &(struct board){.start = b->start - (double)b->slip_drop,
										   .resolution_uj = b->resolution_uj,
										   .bits = b->bits,
										   .period_ns = b->period_ns,
										   .power = b->power},
						   at_ns);
	if (b->period_ns > 0)
		since_ns -= since_ns % b->period_ns;
	uint64_t value = (uint64_t)floor(b->start + wave_energy_j(&b->power, (double)since_ns * 1e-9) * 1e6 / unit_uj);
	return b->bits < 64 ? value & ((1ull << b->bits) - 1) : value;
}

int amdsmi_get_energy_count(void *handle, uint64_t *count, float *resolution_uj, uint64_t *stamp_ns)
{
	struct script script;
	int code;

	enter();
	struct board *b = board_of(&script, handle, &code);
	hang("energy hangs");
	if (b == NULL)
		return leave(code);
	counts()->energies[b - script.boards]++;
	if (has("energy crashes"))
		raise(SIGSEGV);
	*count = accumulator(&script, b, clock_ns(CLOCK_MONOTONIC));
	*resolution_uj = (float)b->resolution_uj;
	*stamp_ns = strcmp(b->stamp, "zero") == 0
					? 0
					: (uint64_t)clock_ns(CLOCK_BOOTTIME) - (strcmp(b->stamp, "old") == 0 ? 500000000 : 0);
	if (b->slow_ns > 0)
		pause_ns(b->slow_ns);
	return leave(b->code);
}
