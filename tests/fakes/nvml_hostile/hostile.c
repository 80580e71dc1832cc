/* A library as no driver makes it: the smallest that works, and one thing wrong with it, which HOSTILE_NVML names.
 * SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct field {
	unsigned id, scope;
	long long at_us, latency_us;
	int type, status;
	union {
		double d;
		unsigned u;
		long long ll;
		unsigned long long ull;
	} value;
};

static int is(const char *wrong)
{
	const char *what = getenv("HOSTILE_NVML");

	return what != NULL && strcmp(what, wrong) == 0;
}

static int hangs(const char *where)
{
	while (is(where))
		usleep(1000);
	return 0;
}

/* Every byte of the room taken, none for the end; or bytes that are no text. */
static int say(const char *what, char *to, unsigned size, const char *text)
{
	char wrong[64];

	snprintf(to, size, "%s", text);
	snprintf(wrong, sizeof wrong, "%s without end", what);
	if (is(wrong))
		memset(to, 'X', size);
	snprintf(wrong, sizeof wrong, "%s of bytes", what);
	if (is(wrong))
		snprintf(to, size, "\xff\n\x1b[31m%s", text);
	return 0;
}

int nvmlInit_v2(void)
{
	return hangs("init hangs");
}

int nvmlShutdown(void)
{
	hangs("shutdown hangs");
	return is("shutdown fails") ? 999 : 0;
}

const char *nvmlErrorString(int code)
{
	static const char *const text[] = {"fine", "not fine"};

	return is("errors without text") ? NULL : is("errors of bytes") ? "\xff\x1b[31m" : text[code != 0];
}

int nvmlSystemGetDriverVersion(char *to, unsigned size)
{
	return say("driver", to, size, "1.2");
}

int nvmlDeviceGetCount_v2(unsigned *to)
{
	hangs("count hangs");
	*to = is("too many boards") ? 4000000000u : 2;
	return 0;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, char **to)
{
	*to = (char *)NULL + index + 1;
	return index < 2 || is("too many boards") ? 0 : 2;
}

int nvmlDeviceGetUUID(char *device, char *to, unsigned size)
{
	char uuid[16];

	snprintf(uuid, sizeof uuid, "GPU-%d", is("one uuid") ? 1 : (int)(device - (char *)NULL));
	return say("uuid", to, size, is("no uuid") ? "" : uuid);
}

int nvmlDeviceGetName(char *device, char *to, unsigned size)
{
	(void)device;
	return say("name", to, size, "Board");
}

int nvmlDeviceGetTotalEnergyConsumption(char *device, unsigned long long *to)
{
	static unsigned long long drawn_mj[4];
	unsigned long long *mine = &drawn_mj[device - (char *)NULL];

	*mine += 10;
	hangs("energy hangs");
	*to = is("energy past 63 bits") ? ~0ull : is("energy jumps") && *mine % 20 ? 1ull << 62 : *mine;
	return 0;
}

int nvmlDeviceGetEnforcedPowerLimit(char *device, unsigned *to)
{
	(void)device;
	*to = is("no limit") ? ~0u : is("limit of a milliwatt") ? 1 : 400000;
	return 0;
}

int nvmlDeviceGetFieldValues(char *device, int count, struct field *fields)
{
	(void)device;
	for (int i = 0; i < count; i++) {
		fields[i].status = 0;
		fields[i].type = 1;
		fields[i].value.u = 100000;
		if (is("power of NaN") || is("power of 1e300")) {
			fields[i].type = 0;
			fields[i].value.d = is("power of NaN") ? NAN : 1e300;
		} else if (is("negative power") || is("power of 63 bits")) {
			fields[i].type = 4;
			fields[i].value.ll = is("negative power") ? -5000 : 0x7fffffffffffffff;
		} else if (is("power of no type")) {
			fields[i].type = 77;
		}
	}
	return 0;
}

int nvmlDeviceGetMigMode(char *device, unsigned *now, unsigned *next)
{
	(void)device;
	*now = *next = is("parts that fail");
	return 0;
}

int nvmlDeviceGetMaxMigDeviceCount(char *device, unsigned *to)
{
	(void)device;
	*to = 4000000000u;
	return 0;
}

int nvmlDeviceGetMigDeviceHandleByIndex(char *device, unsigned index, char **to)
{
	(void)device;
	(void)index;
	*to = NULL;
	return 999;
}
