/* See fg_amdsmi.h. One table of names and offsets finds every function. A missing function is NULL; each use tests for
 * it. A structure of the library is read through a buffer many times its size, of which only the beginning is used: the
 * beginning is the same in every version that is accepted.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fg_amdsmi.h"

#include <dlfcn.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct fg_amdsmi_handle *device_t; /* spelled as in the vendor's prototypes below */
typedef struct fg_amdsmi_socket *socket_t;

struct fg_amdsmi {
	void *library;
	struct fg_turn *turn;
	unsigned generation; /* the first number of the interface version */
	char version[64];
	int (*init)(uint64_t);
	int (*sockets)(uint32_t *, socket_t *);
	int (*devices)(socket_t, uint32_t *, device_t *);
	int (*type)(device_t, int *);
	int (*energy)(device_t, uint64_t *, float *, uint64_t *);
	int (*lib_version)(void *);
	int (*bdf)(device_t, uint64_t *);
	int (*uuid)(device_t, unsigned *, char *);
	int (*asic_info)(device_t, void *);
	int (*power_cap)(device_t, uint32_t, void *);
	int (*code_text)(int, const char **);
};

enum { INIT_GPUS = 2, TYPE_GPU = 1 };
enum { OLDEST = 23, NEWEST = 26, LAST_WITH_YEAR = 25 };
enum { MOST_SOCKETS = 256, MOST_PARTS = 64 }; /* many times what a driver manages */
enum { LONGEST_CODE_TEXT = 90 };

#define PATIENCE_NS (5 * FG_NS_PER_S) /* for another thread's turn */
#define BINARY_UJ (1e6 / 65536)       /* 15.2588 */

static const struct symbol {
	size_t offset;
	bool required;
	const char *name;
} symbols[] = {
/* clang-format off */
#define SYMBOL(member, required, name) {offsetof(struct fg_amdsmi, member), required, name}
	SYMBOL(init, true, "amdsmi_init"),
	SYMBOL(sockets, true, "amdsmi_get_socket_handles"),
	SYMBOL(devices, true, "amdsmi_get_processor_handles"),
	SYMBOL(energy, true, "amdsmi_get_energy_count"),
	SYMBOL(lib_version, true, "amdsmi_get_lib_version"),
	SYMBOL(type, false, "amdsmi_get_processor_type"),
	SYMBOL(bdf, false, "amdsmi_get_gpu_device_bdf"),
	SYMBOL(uuid, false, "amdsmi_get_gpu_device_uuid"),
	SYMBOL(asic_info, false, "amdsmi_get_gpu_asic_info"),
	SYMBOL(power_cap, false, "amdsmi_get_power_cap_info"),
	SYMBOL(code_text, false, "amdsmi_status_code_to_string"),
#undef SYMBOL
	/* clang-format on */
};

/* amdsmi_version_t begins with three or four integers, amdsmi_asic_info_t with the name of the board,
 * amdsmi_power_cap_info_t with the limit in uW. The largest of them has less than 1 KiB. */
union room {
	uint32_t words[1024];
	uint64_t long_words[512];
	char text[4096];
};

enum fg_status fg_amdsmi_status(int code)
{
	switch (code) {
	case FG_AMDSMI_SUCCESS:
		return FG_OK;
	case FG_AMDSMI_INVAL:
		return FG_INVALID;
	case FG_AMDSMI_NOT_SUPPORTED:
	case FG_AMDSMI_NOT_YET_IMPLEMENTED:
		return FG_NOT_SUPPORTED;
	case FG_AMDSMI_NO_PERM:
		return FG_NOT_PERMITTED;
	case FG_AMDSMI_FAIL_LOAD_MODULE:
	case FG_AMDSMI_FAIL_LOAD_SYMBOL:
	case FG_AMDSMI_NOT_FOUND:
	case FG_AMDSMI_DRIVER_NOT_LOADED:
		return FG_NOT_FOUND;
	default:
		return FG_READ_FAILED;
	}
}

/* Copy a text of at most `longest` bytes, which need not end, and make it printable. */
static void copy_printable(char *out, size_t size, const char *text, size_t longest)
{
	size_t length = strnlen(text, longest < size ? longest : size - 1);

	for (size_t i = 0; i < length; i++)
		out[i] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
	out[length] = '\0';
}

static void code_text(struct fg_amdsmi *amdsmi, int code, char *out, size_t size)
{
	const char *text = NULL;

	if (amdsmi->code_text != NULL)
		amdsmi->code_text(code, &text);
	if (text == NULL || text[0] == '\0')
		text = "error of libamd_smi";
	copy_printable(out, size, text, LONGEST_CODE_TEXT);
}

void fg_amdsmi_text(struct fg_amdsmi *amdsmi, int code, char *out, size_t size)
{
	if (code == FG_AMDSMI_NO_TURN || !fg_turn_take(amdsmi->turn, PATIENCE_NS)) {
		snprintf(out, size, "another call into libamd_smi has not come back");
		return;
	}
	code_text(amdsmi, code, out, size);
	fg_turn_give(amdsmi->turn);
}

/* During a turn. */
static enum fg_status failed(struct fg_amdsmi *amdsmi, struct fg_error *err, const char *what, int code)
{
	char text[LONGEST_CODE_TEXT + 1];

	code_text(amdsmi, code, text, sizeof text);
	return fg_error_set(err, fg_amdsmi_status(code), 0, code, "%s: %s (AMD SMI %d)", what, text, code);
}

static enum fg_status no_turn(struct fg_error *err)
{
	return fg_error_set(err, FG_READ_FAILED, 0, 0, "libamd_smi does not answer: another call has not come back");
}

static enum fg_status find_symbols(struct fg_amdsmi *amdsmi, const char *library, struct fg_error *err)
{
	for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
		void *found = dlsym(amdsmi->library, symbols[i].name);

		if (found == NULL && symbols[i].required)
			return fg_error_set(err, FG_NOT_SUPPORTED, 0, 0, "%s has no function %s: ROCm is too old", library,
								symbols[i].name);
		/* POSIX lets an object pointer from dlsym stand for a function; ISO C has no cast for it. */
		memcpy((char *)amdsmi + symbols[i].offset, &found, sizeof found);
	}
	return FG_OK;
}

/* Versions before 26 put the year before the major version; the first number alone tells the generations apart. */
static enum fg_status check_version(struct fg_amdsmi *amdsmi, const char *library, struct fg_error *err)
{
	union room room = {.words = {0}};
	const uint32_t *v = room.words;
	int code = amdsmi->lib_version(&room);

	if (code != FG_AMDSMI_SUCCESS)
		return failed(amdsmi, err, "amdsmi_get_lib_version", code);
	if (v[0] < OLDEST || v[0] > NEWEST)
		return fg_error_set(err, FG_NOT_SUPPORTED, 0, 0,
							"%s has interface version %u, which is not known: fastgreen knows %d to %d", library, v[0],
							OLDEST, NEWEST);
	amdsmi->generation = v[0];
	if (v[0] <= LAST_WITH_YEAR)
		snprintf(amdsmi->version, sizeof amdsmi->version, "amdsmi %u.%u.%u.%u", v[0], v[1], v[2], v[3]);
	else
		snprintf(amdsmi->version, sizeof amdsmi->version, "amdsmi %u.%u.%u", v[0], v[1], v[2]);
	return FG_OK;
}

static enum fg_status connect_library(struct fg_amdsmi *amdsmi, const char *library, struct fg_error *err)
{
	if (library[0] == '\0') /* for dlopen an empty name means this program itself */
		return fg_error_set(err, FG_NOT_FOUND, 0, 0, "library must be the name of a file, not empty");
	amdsmi->library = dlopen(library, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
	if (amdsmi->library == NULL)
		return fg_error_set(err, FG_NOT_FOUND, 0, 0, "%s", dlerror());
	enum fg_status status = find_symbols(amdsmi, library, err);
	if (status != FG_OK)
		return status;
	int code = amdsmi->init(INIT_GPUS);
	if (code != FG_AMDSMI_SUCCESS)
		return failed(amdsmi, err, "amdsmi_init", code);
	return check_version(amdsmi, library, err);
}

enum fg_status fg_amdsmi_open(const char *library, struct fg_turn *turn, struct fg_amdsmi **out, struct fg_error *err)
{
	struct fg_amdsmi *amdsmi = calloc(1, sizeof *amdsmi);

	if (amdsmi == NULL)
		return fg_error_set(err, FG_NO_MEMORY, 0, 0, "not enough memory for AMD SMI");
	if (!fg_turn_take(turn, PATIENCE_NS)) {
		free(amdsmi);
		return no_turn(err);
	}
	amdsmi->turn = turn;
	enum fg_status status = connect_library(amdsmi, library, err);
	fg_turn_give(turn);
	if (status != FG_OK) {
		fg_amdsmi_close(amdsmi);
		return status;
	}
	*out = amdsmi;
	return FG_OK;
}

void fg_amdsmi_close(struct fg_amdsmi *amdsmi)
{
	if (amdsmi->library != NULL)
		dlclose(amdsmi->library); /* only counts: RTLD_NODELETE */
	free(amdsmi);
}

const char *fg_amdsmi_version(const struct fg_amdsmi *amdsmi)
{
	return amdsmi->version;
}

int fg_amdsmi_init_again(struct fg_amdsmi *amdsmi)
{
	if (!fg_turn_take(amdsmi->turn, PATIENCE_NS))
		return FG_AMDSMI_NO_TURN;
	int code = amdsmi->init(INIT_GPUS);
	fg_turn_give(amdsmi->turn);
	return code;
}

/* A walk over the GPUs of all sockets. visit returns true to end the walk. */
struct walk {
	bool (*visit)(struct fg_amdsmi *amdsmi, struct walk *walk, device_t device, unsigned socket);
	unsigned seen;
	bool ended;
	/* of the visitors */
	unsigned wanted, socket;
	const char *key;
	device_t found;
};

static enum fg_status too_many(struct fg_error *err, const char *what, unsigned count, unsigned most)
{
	return fg_error_set(err, FG_MALFORMED, 0, 0, "%s reports %u, more than %u", what, count, most);
}

static enum fg_status walk_socket(struct fg_amdsmi *amdsmi, struct walk *walk, socket_t socket, unsigned number,
								  struct fg_error *err)
{
	device_t devices[MOST_PARTS];
	uint32_t count = MOST_PARTS;
	int type, code = amdsmi->devices(socket, &count, devices);

	if (code != FG_AMDSMI_SUCCESS)
		return failed(amdsmi, err, "amdsmi_get_processor_handles", code);
	if (count > MOST_PARTS)
		return too_many(err, "amdsmi_get_processor_handles", count, MOST_PARTS);
	for (unsigned i = 0; i < count && !walk->ended; i++) {
		if (amdsmi->type != NULL && amdsmi->type(devices[i], &type) == FG_AMDSMI_SUCCESS && type != TYPE_GPU)
			continue;
		walk->ended = walk->visit != NULL && walk->visit(amdsmi, walk, devices[i], number);
		walk->seen++;
	}
	return FG_OK;
}

static enum fg_status walk_devices(struct fg_amdsmi *amdsmi, struct walk *walk, struct fg_error *err)
{
	socket_t sockets[MOST_SOCKETS];
	uint32_t count = MOST_SOCKETS;
	int code = amdsmi->sockets(&count, sockets);

	if (code != FG_AMDSMI_SUCCESS)
		return failed(amdsmi, err, "amdsmi_get_socket_handles", code);
	if (count > MOST_SOCKETS)
		return too_many(err, "amdsmi_get_socket_handles", count, MOST_SOCKETS);
	for (unsigned i = 0; i < count && !walk->ended; i++) {
		enum fg_status status = walk_socket(amdsmi, walk, sockets[i], i, err);

		if (status != FG_OK)
			return status;
	}
	return FG_OK;
}

static bool is_wanted(struct fg_amdsmi *amdsmi, struct walk *walk, device_t device, unsigned socket)
{
	(void)amdsmi;
	walk->found = device;
	walk->socket = socket;
	return walk->seen == walk->wanted;
}

/* amdsmi_bdf_t packs function, device, bus and domain into 3, 5, 8 and 48 bits. */
static void read_bus_id(struct fg_amdsmi *amdsmi, device_t device, char *out, size_t size)
{
	uint64_t bdf = 0;

	out[0] = '\0';
	if (amdsmi->bdf != NULL && amdsmi->bdf(device, &bdf) == FG_AMDSMI_SUCCESS)
		snprintf(out, size, "%04llx:%02x:%02x.%x", (unsigned long long)(bdf >> 16), (unsigned)(bdf >> 8 & 0xff),
				 (unsigned)(bdf >> 3 & 0x1f), (unsigned)(bdf & 7));
}

static void read_uuid(struct fg_amdsmi *amdsmi, device_t device, char *out, size_t size)
{
	char text[96] = "";
	unsigned length = sizeof text;

	out[0] = '\0';
	if (amdsmi->uuid != NULL && amdsmi->uuid(device, &length, text) == FG_AMDSMI_SUCCESS)
		copy_printable(out, size, text, sizeof text);
}

static bool has_key(struct fg_amdsmi *amdsmi, struct walk *walk, device_t device, unsigned socket)
{
	char bus_id[32], uuid[96];

	(void)socket;
	walk->found = device;
	read_bus_id(amdsmi, device, bus_id, sizeof bus_id);
	if (strcmp(bus_id, walk->key) == 0)
		return true;
	read_uuid(amdsmi, device, uuid, sizeof uuid);
	return strcmp(uuid, walk->key) == 0;
}

enum fg_status fg_amdsmi_device_count(struct fg_amdsmi *amdsmi, unsigned *out, struct fg_error *err)
{
	struct walk walk = {.visit = NULL};

	if (!fg_turn_take(amdsmi->turn, PATIENCE_NS))
		return no_turn(err);
	enum fg_status status = walk_devices(amdsmi, &walk, err);
	fg_turn_give(amdsmi->turn);
	if (status == FG_OK)
		*out = walk.seen;
	return status;
}

static int read_energy(struct fg_amdsmi *amdsmi, device_t device, struct fg_amdsmi_energy *out)
{
	uint64_t accumulator = 0, stamp_ns = 0;
	float resolution_uj = 0;
	int code = amdsmi->energy(device, &accumulator, &resolution_uj, &stamp_ns);

	if (code != FG_AMDSMI_SUCCESS)
		return code;
	if (accumulator == UINT64_MAX) /* how the driver marks a value that a board does not have */
		return FG_AMDSMI_NOT_SUPPORTED;
	*out = (struct fg_amdsmi_energy){accumulator, resolution_uj, stamp_ns};
	return FG_AMDSMI_SUCCESS;
}

static void describe(struct fg_amdsmi *amdsmi, device_t device, struct fg_amdsmi_device *out)
{
	union room room = {.words = {0}};

	read_bus_id(amdsmi, device, out->bus_id, sizeof out->bus_id);
	read_uuid(amdsmi, device, out->uuid, sizeof out->uuid);
	if (amdsmi->asic_info != NULL && amdsmi->asic_info(device, &room) == FG_AMDSMI_SUCCESS)
		copy_printable(out->name, sizeof out->name, room.text, amdsmi->generation == OLDEST ? 64 : 256);
	memset(&room, 0, sizeof room);
	/* Whether version 23 shows uW or W is not documented. */
	if (amdsmi->power_cap != NULL && amdsmi->generation > OLDEST &&
		amdsmi->power_cap(device, 0, &room) == FG_AMDSMI_SUCCESS)
		out->power_limit_mw = (int64_t)(room.long_words[0] / 1000);
	out->energy_code = FG_AMDSMI_NOT_SUPPORTED;
	for (int i = 0; i < 3 && (i == 0 || out->energy_code != FG_AMDSMI_SUCCESS); i++)
		out->energy_code = read_energy(amdsmi, device, &out->energy);
	code_text(amdsmi, out->energy_code, out->energy_text, sizeof out->energy_text);
}

enum fg_status fg_amdsmi_device(struct fg_amdsmi *amdsmi, unsigned index, struct fg_amdsmi_device *out,
								struct fg_error *err)
{
	struct walk walk = {.visit = is_wanted, .wanted = index};
	struct fg_amdsmi_device device = {.power_limit_mw = 0};

	if (!fg_turn_take(amdsmi->turn, PATIENCE_NS))
		return no_turn(err);
	enum fg_status status = walk_devices(amdsmi, &walk, err);
	if (status == FG_OK && !walk.ended)
		status = fg_error_set(err, FG_NOT_FOUND, 0, FG_AMDSMI_NOT_FOUND, "GPU %u is gone", index);
	if (status == FG_OK)
		describe(amdsmi, walk.found, &device);
	fg_turn_give(amdsmi->turn);
	if (status != FG_OK)
		return status;
	device.socket = walk.socket;
	*out = device;
	return FG_OK;
}

enum fg_status fg_amdsmi_find(struct fg_amdsmi *amdsmi, const char *key, struct fg_amdsmi_handle **out,
							  struct fg_error *err)
{
	struct walk walk = {.visit = has_key, .key = key};

	if (!fg_turn_take(amdsmi->turn, PATIENCE_NS))
		return no_turn(err);
	enum fg_status status = walk_devices(amdsmi, &walk, err);
	fg_turn_give(amdsmi->turn);
	if (status == FG_OK && !walk.ended)
		status = fg_error_set(err, FG_NOT_FOUND, 0, FG_AMDSMI_NOT_FOUND, "%s is gone", key);
	if (status == FG_OK)
		*out = walk.found;
	return status;
}

int fg_amdsmi_read(struct fg_amdsmi *amdsmi, struct fg_amdsmi_handle *device, const struct fg_clock *clock,
				   struct fg_amdsmi_energy *out, int64_t *begin_at_ns, int64_t *end_at_ns)
{
	if (!fg_turn_take(amdsmi->turn, PATIENCE_NS))
		return FG_AMDSMI_NO_TURN;
	*begin_at_ns = clock->now_ns(clock->context);
	int code = read_energy(amdsmi, device, out);
	*end_at_ns = clock->now_ns(clock->context);
	fg_turn_give(amdsmi->turn);
	return code;
}

bool fg_amdsmi_is_binary(double resolution_uj)
{
	return fabs(resolution_uj - BINARY_UJ) < 0.05; /* not so if NaN */
}
