/* Energy and power: the counter, the three power readings, field values, samples.
 * SPDX-License-Identifier: Apache-2.0 */
#include "fake_nvml.h"

static double seconds(const struct fake_call *call, int64_t at_ns)
{
	return (double)(at_ns - call->script->epoch_ns) * 1e-9;
}

double fake_energy_mj(const struct fake_call *call, int64_t *update_ns)
{
	const struct fake_device *device = call->device;
	int64_t reloaded_ns = fake_reloaded_ns();
	double energy_mj;

	*update_ns = updates_last_ns(&device->energy_updates, call->script->epoch_ns, call->now_ns);
	if (!isnan(call->value))
		return call->value;
	energy_mj = device->energy_start_mj + wave_energy_j(&device->power, seconds(call, *update_ns)) * 1000;
	if (reloaded_ns > 0)
		energy_mj = (wave_energy_j(&device->power, seconds(call, *update_ns)) -
					 wave_energy_j(&device->power, seconds(call, reloaded_ns))) * 1000;
	if (energy_mj < 0)
		energy_mj = 0;
	return floor(energy_mj / device->energy_quantum_mj) * device->energy_quantum_mj;
}

double fake_power_mw(const struct fake_call *call, enum fake_reading reading, int64_t now_ns, int64_t *update_ns)
{
	const struct fake_device *device = call->device;
	const struct fake_sensor *sensor = &device->sensor[reading];
	double at_s, from_s, watts;

	*update_ns = updates_last_ns(&sensor->updates, call->script->epoch_ns, now_ns);
	if (!isnan(call->value))
		return call->value;
	at_s = seconds(call, *update_ns);
	from_s = seconds(call, *update_ns - sensor->window_ns);
	if (sensor->window_ns > 0)
		watts = (wave_energy_j(&device->power, at_s) - wave_energy_j(&device->power, from_s)) / (at_s - from_s);
	else
		watts = wave_power_w(&device->power, at_s);
	watts = floor(watts * sensor->gain * 1000 / device->power_quantum_mw + 0.5) * device->power_quantum_mw;
	return watts;
}

nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t device, unsigned long long *energy)
{
	struct fake_call call;
	int64_t update_ns;

	if (!fake_enter(&call, FN_nvmlDeviceGetTotalEnergyConsumption, device))
		return call.code;
	if (device == NULL || energy == NULL)
		return fake_leave(&call, NVML_ERROR_INVALID_ARGUMENT);
	if (call.mig >= 0)
		return fake_leave(&call, NVML_ERROR_NOT_SUPPORTED);
	*energy = (unsigned long long)fake_energy_mj(&call, &update_ns);
	return fake_leave(&call, NVML_SUCCESS);
}

nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned int *power)
{
	struct fake_call call;
	int64_t update_ns;

	if (!fake_enter(&call, FN_nvmlDeviceGetPowerUsage, device))
		return call.code;
	if (device == NULL || power == NULL)
		return fake_leave(&call, NVML_ERROR_INVALID_ARGUMENT);
	if (call.mig >= 0)
		return fake_leave(&call, NVML_ERROR_NOT_SUPPORTED);
	*power = (unsigned int)fake_power_mw(&call, FAKE_USAGE, call.now_ns, &update_ns);
	return fake_leave(&call, NVML_SUCCESS);
}

static enum fake_function field_function(unsigned int field)
{
	switch (field) {
	case NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION:
		return fake_field_83;
	case NVML_FI_DEV_POWER_AVERAGE:
		return fake_field_185;
	case NVML_FI_DEV_POWER_INSTANT:
		return fake_field_186;
	case NVML_FI_DEV_ENERGY:
		return fake_field_191;
	default:
		return fake_field_other;
	}
}

static int field_unsigned(nvmlFieldValue_t *field, double value)
{
	field->valueType = NVML_VALUE_TYPE_UNSIGNED_INT;
	field->value.uiVal = (unsigned int)value;
	return NVML_SUCCESS;
}

/* The value of one field, scaled to its scope; returns its own nvmlReturn. */
static int field_value(struct fake_call *call, nvmlFieldValue_t *field, int64_t *update_ns)
{
	const struct fake_device *device = call->device;
	double scope = field->scopeId < 3 ? device->scope[field->scopeId] : 0;

	switch (field->fieldId) {
	case NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION:
	case NVML_FI_DEV_ENERGY:
		if (scope == 0)
			return NVML_ERROR_NOT_SUPPORTED;
		field->valueType = NVML_VALUE_TYPE_UNSIGNED_LONG_LONG;
		field->value.ullVal = (unsigned long long)(fake_energy_mj(call, update_ns) * scope);
		return NVML_SUCCESS;
	case NVML_FI_DEV_POWER_AVERAGE:
		return scope == 0 ? NVML_ERROR_NOT_SUPPORTED
						  : field_unsigned(field, fake_power_mw(call, FAKE_AVERAGE, call->now_ns, update_ns) * scope);
	case NVML_FI_DEV_POWER_INSTANT:
		return scope == 0 ? NVML_ERROR_NOT_SUPPORTED
						  : field_unsigned(field, fake_power_mw(call, FAKE_INSTANT, call->now_ns, update_ns) * scope);
	case NVML_FI_DEV_POWER_MIN_LIMIT:
		return field_unsigned(field, device->limit_min_mw);
	case NVML_FI_DEV_POWER_MAX_LIMIT:
	case NVML_FI_DEV_POWER_DEFAULT_LIMIT:
		return field_unsigned(field, device->limit_max_mw);
	case NVML_FI_DEV_POWER_CURRENT_LIMIT:
	case NVML_FI_DEV_POWER_REQUESTED_LIMIT:
		return field_unsigned(field, device->limit_mw);
	default:
		return NVML_ERROR_NOT_SUPPORTED;
	}
}

nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int count, nvmlFieldValue_t *fields)
{
	struct fake_call call;
	int64_t offset_ns = fake_clock_offset_ns();

	if (!fake_enter(&call, FN_nvmlDeviceGetFieldValues, device))
		return call.code;
	if (device == NULL || fields == NULL || count < 1)
		return fake_leave(&call, NVML_ERROR_INVALID_ARGUMENT);
	for (int i = 0; i < count; i++) {
		int64_t update_ns = call.now_ns;

		fields[i].nvmlReturn = fake_field(&call, field_function(fields[i].fieldId));
		if (fields[i].nvmlReturn == NVML_SUCCESS)
			fields[i].nvmlReturn = call.mig >= 0 ? NVML_ERROR_NOT_SUPPORTED : field_value(&call, &fields[i], &update_ns);
		if (call.script->field_stamp_call)
			update_ns = call.now_ns;
		fields[i].timestamp = (update_ns + offset_ns) / 1000;
		fields[i].latencyUsec = 5;
	}
	return fake_leave(&call, NVML_SUCCESS);
}

/* The driver's buffer: the last `samples` updates of the instant reading (type 0), or utilisations at those moments. */
nvmlReturn_t nvmlDeviceGetSamples(nvmlDevice_t device, unsigned int type, unsigned long long last_seen,
								  unsigned int *value_type, unsigned int *count, nvmlSample_t *samples)
{
	int64_t offset_ns = fake_clock_offset_ns(), at_ns, period_ns;
	struct fake_call call;
	unsigned int used = 0;

	if (!fake_enter(&call, FN_nvmlDeviceGetSamples, device))
		return call.code;
	if (device == NULL || value_type == NULL || count == NULL || (samples != NULL && *count == 0))
		return fake_leave(&call, NVML_ERROR_INVALID_ARGUMENT);
	period_ns = call.device->sensor[FAKE_INSTANT].updates.period_ns;
	if (type > 2 || period_ns <= 0 || call.mig >= 0)
		return fake_leave(&call, NVML_ERROR_NOT_SUPPORTED);
	*value_type = NVML_VALUE_TYPE_UNSIGNED_INT;
	if (samples == NULL) {
		*count = call.device->samples;
		return fake_leave(&call, NVML_SUCCESS);
	}
	for (unsigned int back = call.device->samples; back-- > 0 && used < *count;) {
		double power_mw = fake_power_mw(&call, FAKE_INSTANT, call.now_ns - back * period_ns, &at_ns);
		unsigned long long stamp = (unsigned long long)(at_ns + offset_ns) / 1000;

		if (stamp <= last_seen || (used > 0 && stamp <= samples[used - 1].timeStamp))
			continue;
		samples[used].timeStamp = stamp;
		samples[used++].sampleValue.uiVal = type == 0	? (unsigned int)power_mw
											: type == 1 ? call.device->utilization
														: call.device->memory_utilization;
	}
	*count = used;
	return fake_leave(&call, used > 0 ? NVML_SUCCESS : NVML_ERROR_NOT_FOUND);
}
