/* Reads a script: key=value lines under [device] and [rule] headings, general keys before the first of them.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fake_nvml.h"

#include <inttypes.h>

static int read_updates(struct updates *updates, const char *text)
{
	return sscanf(text, "%" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNu64, &updates->period_ns, &updates->phase_ns,
				  &updates->jitter_ns, &updates->seed) == 4;
}

static int read_sensor(struct fake_sensor *sensor, const char *text)
{
	return sscanf(text, "%" SCNd64 " %lf %" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNu64, &sensor->window_ns,
				  &sensor->gain, &sensor->updates.period_ns, &sensor->updates.phase_ns, &sensor->updates.jitter_ns,
				  &sensor->updates.seed) == 6;
}

static int read_text(char *to, size_t size, const char *text)
{
	snprintf(to, size, "%s", text);
	return 1;
}

static int read_four(unsigned int *to, const char *text)
{
	return sscanf(text, "%u %u %u %u", &to[0], &to[1], &to[2], &to[3]) == 4;
}

static int read_migs(struct fake_device *device, const char *text)
{
	int used = 0;

	device->mig_count = 0;
	while (device->mig_count < FAKE_MIG_MAX && sscanf(text, " %95s%n", device->mig_uuid[device->mig_count], &used) == 1) {
		device->mig_count++;
		text += used;
	}
	return 1;
}

static int read_processes(struct fake_device *device, const char *text)
{
	int n = 0, used = 0;

	while (n < FAKE_PROCESSES_MAX &&
		   sscanf(text, " %u:%llu%n", &device->process_pid[n], &device->process_memory[n], &used) == 2) {
		n++;
		text += used;
	}
	device->process_count = n;
	return 1;
}

static int device_key(struct fake_device *d, const char *key, const char *text)
{
#define KEY(name) (strcmp(key, name) == 0)
	if (KEY("uuid"))
		return read_text(d->uuid, sizeof d->uuid, text);
	if (KEY("name"))
		return read_text(d->name, sizeof d->name, text);
	if (KEY("bus"))
		return read_text(d->bus, sizeof d->bus, text);
	if (KEY("serial"))
		return read_text(d->serial, sizeof d->serial, text);
	if (KEY("power"))
		return wave_parse(&d->power, text) == 0;
	if (KEY("energy_updates"))
		return read_updates(&d->energy_updates, text);
	if (KEY("energy"))
		return sscanf(text, "%lf %lf", &d->energy_start_mj, &d->energy_quantum_mj) == 2;
	if (KEY("instant"))
		return read_sensor(&d->sensor[FAKE_INSTANT], text);
	if (KEY("average"))
		return read_sensor(&d->sensor[FAKE_AVERAGE], text);
	if (KEY("usage"))
		return read_sensor(&d->sensor[FAKE_USAGE], text);
	if (KEY("power_quantum_mw"))
		return sscanf(text, "%u", &d->power_quantum_mw) == 1;
	if (KEY("scopes"))
		return sscanf(text, "%lf %lf %lf", &d->scope[0], &d->scope[1], &d->scope[2]) == 3;
	if (KEY("mig"))
		return sscanf(text, "%d", &d->mig) == 1;
	if (KEY("mig_uuids"))
		return read_migs(d, text);
	if (KEY("limits_mw"))
		return sscanf(text, "%u %u %u", &d->limit_mw, &d->limit_min_mw, &d->limit_max_mw) == 3;
	if (KEY("architecture"))
		return sscanf(text, "%u %u %u %u", &d->architecture, &d->brand, &d->compute_major, &d->compute_minor) == 4;
	if (KEY("utilization"))
		return sscanf(text, "%u %u", &d->utilization, &d->memory_utilization) == 2;
	if (KEY("temperature"))
		return sscanf(text, "%u", &d->temperature) == 1;
	if (KEY("fan_speed"))
		return sscanf(text, "%u", &d->fan_speed) == 1;
	if (KEY("clocks"))
		return read_four(d->clock, text);
	if (KEY("max_clocks"))
		return read_four(d->max_clock, text);
	if (KEY("memory"))
		return sscanf(text, "%llu %llu", &d->memory_total, &d->memory_used) == 2;
	if (KEY("samples"))
		return sscanf(text, "%u", &d->samples) == 1;
	if (KEY("processes"))
		return read_processes(d, text);
	return 0;
}

static int rule_key(struct fake_rule *rule, const char *key, const char *text)
{
	if (KEY("function"))
		return read_text(rule->function, sizeof rule->function, text);
	if (KEY("device"))
		return sscanf(text, "%d", &rule->device) == 1;
	if (KEY("from"))
		return sscanf(text, "%llu", &rule->from) == 1;
	if (KEY("to"))
		return sscanf(text, "%llu", &rule->to) == 1;
	if (KEY("code"))
		return sscanf(text, "%d", &rule->code) == 1;
	if (KEY("delay_us"))
		return sscanf(text, "%" SCNd64, &rule->delay_us) == 1;
	if (KEY("value"))
		return sscanf(text, "%lf", &rule->value) == 1;
	return 0;
}

static int general_key(struct fake_script *script, const char *key, const char *text)
{
	if (KEY("epoch_ns"))
		return sscanf(text, "%" SCNd64, &script->epoch_ns) == 1;
	if (KEY("driver"))
		return read_text(script->driver, sizeof script->driver, text);
	if (KEY("nvml"))
		return read_text(script->nvml, sizeof script->nvml, text);
	if (KEY("cuda"))
		return sscanf(text, "%d", &script->cuda) == 1;
	if (KEY("serialise"))
		return sscanf(text, "%d", &script->serialise) == 1;
	if (KEY("field_stamp"))
		return (script->field_stamp_call = strcmp(text, "call") == 0), 1;
	if (KEY("reload_at") && script->reload_count < FAKE_RELOADS_MAX)
		return sscanf(text, "%llu", &script->reload_at[script->reload_count++]) == 1;
	return 0;
#undef KEY
}

static void device_defaults(struct fake_device *device, int index)
{
	static const struct updates every_100_ms = {100000000, 0, 0, 1};

	snprintf(device->uuid, sizeof device->uuid, "GPU-%08x-0000-4000-8000-00000000fa4e", index);
	snprintf(device->name, sizeof device->name, "NVIDIA Fake %d", index);
	snprintf(device->bus, sizeof device->bus, "00000000:%02X:00.0", index + 1);
	snprintf(device->serial, sizeof device->serial, "%d", 1000 + index);
	wave_parse(&device->power, "constant 100");
	device->energy_updates = every_100_ms;
	device->energy_quantum_mj = 1;
	for (int i = 0; i < FAKE_READINGS; i++)
		device->sensor[i] = (struct fake_sensor){every_100_ms, 0, 1};
	device->power_quantum_mw = 1;
	device->scope[0] = 1;
	device->mig = -1;
	device->limit_mw = device->limit_max_mw = 400000;
	device->limit_min_mw = 100000;
	device->architecture = 9;
	device->compute_major = 9;
	device->samples = 120;
	device->memory_total = 80ull << 30;
}

/* A [heading] opens a device or a rule; returns 0 when it is neither or there is no room. */
static int open_section(struct fake_script *script, const char *line)
{
	if (strcmp(line, "[device]") == 0 && script->device_count < FAKE_DEVICES_MAX) {
		device_defaults(&script->device[script->device_count], script->device_count);
		script->device_count++;
		return 'd';
	}
	if (strcmp(line, "[rule]") == 0 && script->rule_count < FAKE_RULES_MAX) {
		script->rule[script->rule_count++] =
			(struct fake_rule){.function = "*", .device = -1, .from = 1, .to = ~0ull, .value = NAN};
		return 'r';
	}
	return 0;
}

int fake_script_read(struct fake_script *script, const char *path)
{
	char line[WAVE_STEPS_MAX * 48];
	FILE *file = fopen(path, "re");
	int section = 'g', number = 0, good = 1;

	if (file == NULL)
		return -1;
	memset(script, 0, sizeof *script);
	snprintf(script->driver, sizeof script->driver, "570.86.15");
	snprintf(script->nvml, sizeof script->nvml, "12.570.86.15");
	script->cuda = 12080;
	while (good && fgets(line, sizeof line, file) != NULL) {
		char *value;

		number++;
		line[strcspn(line, "\r\n")] = '\0';
		if (line[0] == '\0' || line[0] == '#')
			continue;
		if (line[0] == '[') {
			good = section = open_section(script, line);
			continue;
		}
		value = strchr(line, '=');
		if (value == NULL) {
			good = 0;
			break;
		}
		*value++ = '\0';
		good = section == 'd'	? device_key(&script->device[script->device_count - 1], line, value)
			   : section == 'r' ? rule_key(&script->rule[script->rule_count - 1], line, value)
								: general_key(script, line, value);
	}
	fclose(file);
	return good ? 0 : number;
}
