# The sampler as Cython sees it; mirrors csrc/fg_*.h.
from libc.stdint cimport int64_t, uint32_t, uint64_t

from fastgreen._resolver cimport fg_account, fg_kind, fg_sample, fg_traits, FG_ENERGY

cdef extern from "fg.h" nogil:
    cdef enum fg_status:
        FG_OK
        FG_NO_MEMORY
        FG_INVALID
        FG_NOT_FOUND
        FG_NOT_PERMITTED
        FG_NOT_SUPPORTED
        FG_NOT_READY
        FG_MALFORMED
        FG_READ_FAILED
        FG_LOST
        FG_SYSTEM

    cdef struct fg_error:
        fg_status status
        int sys_errno
        int vendor_code
        char message[240]

    const char *fg_status_text(fg_status status)

    cdef struct fg_clock:
        pass
    const fg_clock fg_clock_monotonic
    int64_t fg_clock_now_ns()
    int64_t fg_clock_error_ns()

    cdef enum fg_nvml_quantity:
        FG_NVML_ENERGY
        FG_NVML_POWER_INSTANT
        FG_NVML_POWER_AVERAGE
        FG_NVML_POWER_USAGE

    cdef struct fg_recording:
        const fg_sample *samples
        size_t count

    cdef struct fg_perf_event:
        uint32_t type
        uint64_t config
        int cpu
        unsigned slot

    cdef struct fg_sensor:
        const char *path
        const char *factor
        const char *status
        bint negate
        int fd
        const char *uuid
        fg_nvml_quantity quantity
        unsigned scope
        double resolution_uj
        uint64_t modulus
        int64_t idle_mw
        int64_t slope_mw
        fg_perf_event event
        fg_recording record

    cdef struct fg_turn:
        pass

    cdef struct fg_source_config:
        const fg_sensor *sensors
        size_t count
        const char *library
        fg_turn *turn
        double speed
        const fg_clock *clock

    cdef struct fg_source_ops:
        pass
    const fg_source_ops *fg_source_find(const char *name)

    cdef struct fg_nvml:
        pass

    cdef struct fg_nvml_device:
        char uuid[96]
        char name[96]
        char bus_id[32]
        bint mig
        unsigned mig_count
        char mig_uuids[8][96]
        int64_t power_limit_mw
        int energy_code
        int instant_code
        int average_code
        int usage_code
        unsigned scope

    fg_status fg_nvml_open(const char *library, fg_nvml **out, fg_error *err)
    void fg_nvml_close(fg_nvml *nvml)
    fg_status fg_nvml_device_count(fg_nvml *nvml, unsigned *out, fg_error *err)
    fg_status fg_nvml_device_get "fg_nvml_device"(fg_nvml *nvml, unsigned index, fg_nvml_device *out, fg_error *err)
    void fg_nvml_driver(fg_nvml *nvml, char *out, size_t size)
    const char *fg_nvml_text(fg_nvml *nvml, int code)

    cdef struct fg_amdsmi:
        pass

    cdef struct fg_amdsmi_energy:
        uint64_t accumulator
        double resolution_uj
        uint64_t stamp_ns

    cdef struct fg_amdsmi_device:
        char uuid[96]
        char bus_id[32]
        char name[256]
        unsigned socket
        int64_t power_limit_mw
        int energy_code
        char energy_text[96]
        fg_amdsmi_energy energy

    fg_status fg_amdsmi_open(const char *library, fg_turn *turn, fg_amdsmi **out, fg_error *err)
    void fg_amdsmi_close(fg_amdsmi *amdsmi)
    const char *fg_amdsmi_version(const fg_amdsmi *amdsmi)
    fg_status fg_amdsmi_device_count(fg_amdsmi *amdsmi, unsigned *out, fg_error *err)
    fg_status fg_amdsmi_device_get "fg_amdsmi_device"(fg_amdsmi *amdsmi, unsigned index, fg_amdsmi_device *out,
                                                      fg_error *err)
    bint fg_amdsmi_is_binary(double resolution_uj)

    cdef struct fg_sampler:
        pass

    cdef struct fg_sampler_config:
        const fg_source_ops *ops
        fg_source_config source
        const fg_traits *traits
        int64_t period_ns
        size_t ring_capacity
        bint dither

    cdef struct fg_live:
        int64_t total
        double power_integral
        int64_t last_at_ns
        uint64_t samples
        uint64_t missed
        uint64_t lost
        uint64_t read_errors
        bint ended

    cdef struct fg_tally:
        fg_account account
        fg_live live
        int64_t end_at_ns
        int64_t end_total
        double end_power_integral
        fg_error why_ended
        fg_error last_error

    bint fg_sysfs_holds(int fd)

    fg_status fg_sampler_open(const fg_sampler_config *config, fg_sampler **out, fg_error *err)
    fg_status fg_sampler_start(fg_sampler *sampler, int64_t patience_ns, fg_error *err)
    void fg_sampler_stop(fg_sampler *sampler, int64_t settle_ns)
    void fg_sampler_stop_soon(fg_sampler *sampler, int64_t settle_ns)
    void fg_sampler_close(fg_sampler *sampler)
    size_t fg_sampler_drain(fg_sampler *sampler, size_t channel, fg_sample *out, size_t max)
    size_t fg_sampler_waiting(const fg_sampler *sampler, size_t channel)
    void fg_sampler_live(const fg_sampler *sampler, size_t channel, fg_live *out)
    bint fg_sampler_finished(const fg_sampler *sampler)
    void fg_sampler_tally(const fg_sampler *sampler, size_t channel, fg_tally *out)
