/* Every function that the fake exports and counts, and the values inside nvmlDeviceGetFieldValues that scripts can fail.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef FAKE_FUNCTIONS_H
#define FAKE_FUNCTIONS_H

#define FAKE_FUNCTIONS(X)                                                                                              \
	X(nvmlInit)                                                                                                        \
	X(nvmlInit_v2)                                                                                                     \
	X(nvmlInitWithFlags)                                                                                               \
	X(nvmlShutdown)                                                                                                    \
	X(nvmlSystemGetDriverVersion)                                                                                      \
	X(nvmlSystemGetNVMLVersion)                                                                                        \
	X(nvmlSystemGetCudaDriverVersion)                                                                                  \
	X(nvmlSystemGetCudaDriverVersion_v2)                                                                               \
	X(nvmlSystemGetProcessName)                                                                                        \
	X(nvmlDeviceGetCount)                                                                                              \
	X(nvmlDeviceGetCount_v2)                                                                                           \
	X(nvmlDeviceGetHandleByIndex)                                                                                      \
	X(nvmlDeviceGetHandleByIndex_v2)                                                                                   \
	X(nvmlDeviceGetHandleByUUID)                                                                                       \
	X(nvmlDeviceGetHandleByPciBusId)                                                                                   \
	X(nvmlDeviceGetHandleByPciBusId_v2)                                                                                \
	X(nvmlDeviceGetName)                                                                                               \
	X(nvmlDeviceGetUUID)                                                                                               \
	X(nvmlDeviceGetSerial)                                                                                             \
	X(nvmlDeviceGetIndex)                                                                                              \
	X(nvmlDeviceGetMinorNumber)                                                                                        \
	X(nvmlDeviceGetPciInfo)                                                                                            \
	X(nvmlDeviceGetPciInfo_v2)                                                                                         \
	X(nvmlDeviceGetPciInfo_v3)                                                                                         \
	X(nvmlDeviceGetTotalEnergyConsumption)                                                                             \
	X(nvmlDeviceGetPowerUsage)                                                                                         \
	X(nvmlDeviceGetEnforcedPowerLimit)                                                                                 \
	X(nvmlDeviceGetPowerManagementLimit)                                                                               \
	X(nvmlDeviceGetPowerManagementDefaultLimit)                                                                        \
	X(nvmlDeviceGetPowerManagementLimitConstraints)                                                                    \
	X(nvmlDeviceGetPowerManagementMode)                                                                                \
	X(nvmlDeviceSetPowerManagementLimit)                                                                               \
	X(nvmlDeviceGetFieldValues)                                                                                        \
	X(nvmlDeviceGetSamples)                                                                                            \
	X(nvmlDeviceGetUtilizationRates)                                                                                   \
	X(nvmlDeviceGetEncoderUtilization)                                                                                 \
	X(nvmlDeviceGetDecoderUtilization)                                                                                 \
	X(nvmlDeviceGetMemoryInfo)                                                                                         \
	X(nvmlDeviceGetMemoryInfo_v2)                                                                                      \
	X(nvmlDeviceGetBAR1MemoryInfo)                                                                                     \
	X(nvmlDeviceGetTemperature)                                                                                        \
	X(nvmlDeviceGetTemperatureV)                                                                                       \
	X(nvmlDeviceGetClockInfo)                                                                                          \
	X(nvmlDeviceGetMaxClockInfo)                                                                                       \
	X(nvmlDeviceGetSupportedMemoryClocks)                                                                              \
	X(nvmlDeviceGetSupportedGraphicsClocks)                                                                            \
	X(nvmlDeviceGetPcieThroughput)                                                                                     \
	X(nvmlDeviceGetComputeRunningProcesses)                                                                            \
	X(nvmlDeviceGetComputeRunningProcesses_v2)                                                                         \
	X(nvmlDeviceGetComputeRunningProcesses_v3)                                                                         \
	X(nvmlDeviceGetGraphicsRunningProcesses)                                                                           \
	X(nvmlDeviceGetGraphicsRunningProcesses_v2)                                                                        \
	X(nvmlDeviceGetGraphicsRunningProcesses_v3)                                                                        \
	X(nvmlDeviceGetMPSComputeRunningProcesses)                                                                         \
	X(nvmlDeviceGetMPSComputeRunningProcesses_v2)                                                                      \
	X(nvmlDeviceGetMPSComputeRunningProcesses_v3)                                                                      \
	X(nvmlDeviceGetProcessUtilization)                                                                                 \
	X(nvmlDeviceGetMigMode)                                                                                            \
	X(nvmlDeviceGetMaxMigDeviceCount)                                                                                  \
	X(nvmlDeviceGetMigDeviceHandleByIndex)                                                                             \
	X(nvmlDeviceIsMigDeviceHandle)                                                                                     \
	X(nvmlDeviceGetDeviceHandleFromMigDeviceHandle)                                                                    \
	X(nvmlDeviceGetGpuInstanceId)                                                                                      \
	X(nvmlDeviceGetComputeInstanceId)                                                                                  \
	X(nvmlDeviceGetArchitecture)                                                                                       \
	X(nvmlDeviceGetBrand)                                                                                              \
	X(nvmlDeviceGetCudaComputeCapability)                                                                              \
	X(nvmlDeviceGetPerformanceState)                                                                                   \
	X(nvmlDeviceGetPersistenceMode)                                                                                    \
	X(nvmlDeviceGetDisplayMode)                                                                                        \
	X(nvmlDeviceGetDisplayActive)                                                                                      \
	X(nvmlDeviceGetComputeMode)                                                                                        \
	X(nvmlDeviceGetFanSpeed)                                                                                           \
	X(nvmlDeviceGetNumFans)                                                                                            \
	X(nvmlDeviceGetTotalEccErrors)

/* X(id, the name that scripts use) */
#define FAKE_FIELDS(X)                                                                                                 \
	X(fake_field_83, "field:83")                                                                                       \
	X(fake_field_185, "field:185")                                                                                     \
	X(fake_field_186, "field:186")                                                                                     \
	X(fake_field_191, "field:191")                                                                                     \
	X(fake_field_other, "field:other")

enum fake_function {
	FAKE_ANY, /* all calls together; "*" in scripts */
#define FAKE_ENUM(name) FN_##name,
	FAKE_FUNCTIONS(FAKE_ENUM)
#undef FAKE_ENUM
#define FAKE_ENUM(id, name) id,
	FAKE_FIELDS(FAKE_ENUM)
#undef FAKE_ENUM
	FAKE_FUNCTION_COUNT
};

#endif
