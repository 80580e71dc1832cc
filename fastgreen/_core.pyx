# SPDX-License-Identifier: Apache-2.0
"""Bindings to the C sampler: sampling threads, NVML and AMD SMI. Private; it only converts and checks."""

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_FromStringAndSize
from libc.math cimport NAN, fmax, fmin
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memmove, memset
from posix.unistd cimport getpid

import os

from fastgreen._locked cimport load_int  # brings FG_LOCKED
from fastgreen._resolver cimport account_dict, fg_account, fg_account_add, fg_account_init, fg_account_period_ns
from fastgreen._resolver cimport fg_answers, fg_resolver, fg_resolver_feed, fg_resolver_finish, fg_resolver_init_windows
from fastgreen._resolver cimport sample_data, traits_of
from fastgreen.errors import ChannelNotFound, ChannelPermission, ChannelReadError, FastgreenError

QUANTITIES = {
    "energy": FG_NVML_ENERGY,
    "instant": FG_NVML_POWER_INSTANT,
    "average": FG_NVML_POWER_AVERAGE,
    "usage": FG_NVML_POWER_USAGE,
}

cdef dict RAISES = {
    FG_NO_MEMORY: MemoryError,
    FG_INVALID: ValueError,
    FG_NOT_FOUND: ChannelNotFound,
    FG_NOT_PERMITTED: ChannelPermission,
}


# Calls into AMD's library are never side by side.
cdef fg_turn AMDSMI_TURN
memset(&AMDSMI_TURN, 0, sizeof(AMDSMI_TURN))


def _free_turn():
    memset(&AMDSMI_TURN, 0, sizeof(AMDSMI_TURN))


os.register_at_fork(after_in_child=_free_turn)  # the thread whose turn it is does not exist in the child


cdef object _as_exception(fg_error *err):
    message = err.message.decode("utf-8", "replace")
    kind = RAISES.get(err.status, ChannelReadError)
    if issubclass(kind, FastgreenError):
        return kind(message, code=err.sys_errno or err.vendor_code)
    return kind(message)


cdef int _check(fg_status status, fg_error *err) except -1:
    if status != FG_OK:
        raise _as_exception(err)
    return 0


cdef object _reason(fg_error *err):
    return None if err.status == FG_OK else err.message.decode("utf-8", "replace")


def now_ns():
    """CLOCK_MONOTONIC in ns, the time axis of all samples and windows."""
    return fg_clock_now_ns()


def clock_error_s():
    """The most that the wall clock can be off by, in s; None where nothing disciplines it. See fg_clock_error_ns."""
    cdef int64_t error_ns = fg_clock_error_ns()
    return None if error_ns < 0 else error_ns / 1e9


cdef class Sampler:
    """Sampling thread of one source.

    `sensors` and `traits` are lists of dictionaries; their keys are the members of struct fg_sensor and fg_traits.
    """

    cdef fg_sampler *sampler
    cdef Py_ssize_t count
    cdef int owner
    cdef object kept

    def __cinit__(self, str source, list sensors, list traits, int64_t period_ns, size_t ring_capacity,
                  str library="", double speed=1.0, bint dither=False):
        cdef fg_sampler_config config
        cdef fg_error err
        cdef fg_status status
        cdef bytes name = source.encode()
        cdef bytes library_path = os.fsencode(library)
        self.count = len(sensors)
        self.owner = getpid()
        self.kept = []
        config.ops = fg_source_find(name)
        if config.ops == NULL:
            raise ValueError(f"source must be the name of a source, not {source!r}")
        if len(traits) != self.count:
            raise ValueError(f"traits must be as many as sensors, {self.count}, not {len(traits)}")
        cdef fg_sensor *c_sensors = <fg_sensor *>calloc(self.count, sizeof(fg_sensor))
        cdef fg_traits *c_traits = <fg_traits *>calloc(self.count, sizeof(fg_traits))
        try:
            if c_sensors == NULL or c_traits == NULL:
                raise MemoryError
            for i in range(self.count):
                self._fill(&c_sensors[i], sensors[i])
                c_traits[i] = traits_of(traits[i])
            config.source.sensors = c_sensors
            config.source.count = self.count
            config.source.library = library_path
            config.source.turn = &AMDSMI_TURN
            config.source.speed = speed
            config.source.clock = &fg_clock_monotonic
            config.traits = c_traits
            config.period_ns = period_ns
            config.ring_capacity = ring_capacity
            config.dither = dither
            with nogil:
                status = fg_sampler_open(&config, &self.sampler, &err)
            _check(status, &err)
        finally:
            free(c_sensors)
            free(c_traits)

    cdef int _fill(self, fg_sensor *out, dict sensor) except -1:
        for key in ("path", "factor", "status", "uuid"):
            if sensor.get(key) is not None:
                self.kept.append(os.fsencode(sensor[key]))
                if key == "path":
                    out.path = <bytes>self.kept[-1]
                elif key == "factor":
                    out.factor = <bytes>self.kept[-1]
                elif key == "status":
                    out.status = <bytes>self.kept[-1]
                else:
                    out.uuid = <bytes>self.kept[-1]
        out.negate = sensor.get("negate", False)
        out.fd = int(sensor.get("fd", -1))
        out.quantity = QUANTITIES[sensor.get("quantity", "energy")]
        out.scope = sensor.get("scope", 0)
        out.resolution_uj = sensor.get("resolution_uj", 0.0)
        out.modulus = sensor.get("modulus", 1)
        out.idle_mw = sensor.get("idle_mw", 0)
        out.slope_mw = sensor.get("slope_mw", 0)
        event = sensor.get("event")
        if event is not None:
            out.event.type = event["type"]
            out.event.config = event["config"]
            out.event.cpu = event["cpu"]
            out.event.slot = event.get("slot", 0)
        samples = sensor.get("record")
        if samples is not None:
            self.kept.append(samples)
            out.record.samples = sample_data(samples)
            out.record.count = len(samples)
        return 0

    def __dealloc__(self):
        # A forked child has no sampling thread to join and must not touch the parent's library state.
        if self.sampler != NULL and getpid() == self.owner:
            with nogil:
                fg_sampler_close(self.sampler)

    def __len__(self):
        return self.count

    cdef int _index(self, Py_ssize_t channel) except -1:
        if not 0 <= channel < self.count:
            raise IndexError(channel)
        return 0

    def start(self, int64_t patience_ns):
        cdef fg_error err
        cdef fg_status status
        with nogil:
            status = fg_sampler_start(self.sampler, patience_ns, &err)
        _check(status, &err)

    def stop_soon(self, int64_t settle_ns=0):
        fg_sampler_stop_soon(self.sampler, settle_ns)

    def stop(self, int64_t settle_ns=0):
        with nogil:
            fg_sampler_stop(self.sampler, settle_ns)

    def finished(self):
        return fg_sampler_finished(self.sampler)

    def drain(self, Py_ssize_t channel):
        """Take all waiting samples of a channel, as bytes; `samples` makes an array of them."""
        self._index(channel)
        cdef size_t waiting = fg_sampler_waiting(self.sampler, channel)
        cdef bytearray out = PyByteArray_FromStringAndSize(NULL, waiting * sizeof(fg_sample))
        cdef fg_sample *data = <fg_sample *>PyByteArray_AS_STRING(out)
        with nogil:
            fg_sampler_drain(self.sampler, channel, data, waiting)
        return out

    def live(self, Py_ssize_t channel):
        cdef fg_live live
        self._index(channel)
        fg_sampler_live(self.sampler, channel, &live)
        return {
            "total": live.total,
            "power_integral": live.power_integral,
            "last_at_ns": live.last_at_ns,
            "samples": live.samples,
            "missed": live.missed,
            "lost": live.lost,
            "read_errors": live.read_errors,
            "ended": live.ended,
        }

    def tally(self, Py_ssize_t channel):
        """Final counts and totals of a channel after stop: its account, its faults, the total at the last requested
        reading."""
        cdef fg_tally tally
        self._index(channel)
        fg_sampler_tally(self.sampler, channel, &tally)
        out = account_dict(&tally.account)
        energy = tally.account.traits.kind == FG_ENERGY
        out["end_at_ns"] = tally.end_at_ns
        out["end_total"] = tally.end_total if energy else tally.end_power_integral
        out["missed"] = tally.live.missed
        out["lost"] = tally.live.lost
        out["read_errors"] = tally.live.read_errors
        out["why_ended"] = _reason(&tally.why_ended)
        out["last_error"] = _reason(&tally.last_error)
        return out


def on_sysfs(int fd):
    """Whether an open file or folder is part of the kernel's sysfs."""
    return fg_sysfs_holds(fd)


def nvml_devices(str library):
    """Driver and devices in the order of the NVML library: {"driver": str, "devices": [dict, ...]}."""
    cdef fg_nvml *nvml
    cdef fg_error err
    cdef fg_status status
    cdef fg_nvml_device device
    cdef unsigned count, index
    cdef char driver[96]
    cdef bytes path = os.fsencode(library)
    cdef const char *c_path = path
    with nogil:
        status = fg_nvml_open(c_path, &nvml, &err)
    _check(status, &err)
    try:
        with nogil:
            fg_nvml_driver(nvml, driver, sizeof(driver))
            status = fg_nvml_device_count(nvml, &count, &err)
        _check(status, &err)
        devices = []
        for index in range(count):
            with nogil:
                status = fg_nvml_device_get(nvml, index, &device, &err)
            if status != FG_OK:
                devices.append({"index": index, "error": _as_exception(&err)})
                continue
            entry = {
                "index": index,
                "uuid": device.uuid.decode(),
                "name": device.name.decode("utf-8", "replace"),
                "bus_id": device.bus_id.decode(),
                "mig": bool(device.mig),
                "mig_uuids": [device.mig_uuids[i].decode() for i in range(device.mig_count)],
                "power_limit_mw": device.power_limit_mw,
                "scope": device.scope,
            }
            for key, code in (("energy", device.energy_code), ("instant", device.instant_code),
                              ("average", device.average_code), ("usage", device.usage_code)):
                entry[key] = code
                entry[key + "_text"] = fg_nvml_text(nvml, code).decode()
            devices.append(entry)
        return {"driver": driver.decode(), "devices": devices}
    finally:
        with nogil:
            fg_nvml_close(nvml)


def amdsmi_devices(str library):
    """Version of the interface and GPUs as the library lists them: {"version": str, "devices": [dict, ...]}."""
    cdef fg_amdsmi *amdsmi
    cdef fg_error err
    cdef fg_status status
    cdef fg_amdsmi_device device
    cdef unsigned count, index
    cdef bytes path = os.fsencode(library)
    cdef const char *c_path = path
    with nogil:
        status = fg_amdsmi_open(c_path, &AMDSMI_TURN, &amdsmi, &err)
    _check(status, &err)
    try:
        with nogil:
            status = fg_amdsmi_device_count(amdsmi, &count, &err)
        _check(status, &err)
        devices = []
        for index in range(count):
            with nogil:
                status = fg_amdsmi_device_get(amdsmi, index, &device, &err)
            if status != FG_OK:
                devices.append({"index": index, "error": _reason(&err), "code": err.vendor_code})
                continue
            devices.append({
                "index": index,
                "uuid": device.uuid.decode(),
                "bus_id": device.bus_id.decode(),
                "name": device.name.decode(),
                "socket": device.socket,
                "power_limit_mw": device.power_limit_mw,
                "energy": device.energy_code,
                "energy_text": device.energy_text.decode(),
                "accumulator": device.energy.accumulator,
                "resolution_uj": device.energy.resolution_uj,
                "binary": bool(fg_amdsmi_is_binary(device.energy.resolution_uj)),
            })
        return {"version": fg_amdsmi_version(amdsmi).decode(), "devices": devices}
    finally:
        fg_amdsmi_close(amdsmi)


cdef enum:
    MOST_RECENT = 1 << 16
    LOOKED_BACK = 4096


cdef extern from *:
    object taken "FG_LOCKED"(object (*f)(Recent), Recent owner, Recent self)
    int added "FG_LOCKED"(int (*f)(Recent, int64_t, int64_t, double *) except -1, Recent owner, Recent self,
                          int64_t begin_ns, int64_t end_ns, double *energies) except -1
    int known "FG_LOCKED"(int (*f)(Recent, int64_t) except -1, Recent owner, Recent self, int64_t at_ns) except -1


cdef object take_recent(Recent self):
    self.poll()
    out, self.stash = self.stash, bytearray()
    return out


cdef int add_recent(Recent self, int64_t begin_ns, int64_t end_ns, double *energies) except -1:
    return self.add_between(begin_ns, end_ns, energies)


cdef int know_recent(Recent self, int64_t at_ns) except -1:
    self.poll()
    return self.knows(at_ns)


cdef class Recent:
    """The last samples of a channel, for the energy of a stretch while it is measured. Only it empties the ring.

    Parameters
    ----------
    sampler, place : Sampler, int
    traits : dict
    scale : float
        J of the channel's unit.
    ceiling, floor : float
        The most that the channel can draw, 0 if that is not known, and the least of an estimate; unit per ns.
    estimated : bool
    delay_ns : int
        How late the sensor is.
    """

    cdef Sampler sampler
    cdef size_t place, used, room
    cdef fg_sample *samples
    cdef fg_account account
    cdef fg_traits traits
    cdef double scale, ceiling, floor
    cdef bint estimated, forgot
    cdef int64_t delay_ns
    cdef bytearray stash

    def __cinit__(self, Sampler sampler, size_t place, dict traits, double scale, double ceiling, double floor,
                  bint estimated, int64_t delay_ns):
        sampler._index(place)
        self.sampler, self.place, self.scale = sampler, place, scale
        self.ceiling, self.floor, self.estimated, self.delay_ns = ceiling, floor, estimated, delay_ns
        self.traits = traits_of(traits)
        fg_account_init(&self.account, &self.traits)
        self.stash = bytearray()

    def __dealloc__(self):
        free(self.samples)

    cdef int poll(self) except -1:
        """Move what waits in the ring. The interpreter's lock or this object's is held: one thread does it at once."""
        cdef size_t waiting = fg_sampler_waiting(self.sampler.sampler, self.place), i, kept
        cdef fg_sample *grown
        if waiting == 0:
            return 0
        if self.used + waiting > self.room:
            kept = min(self.used, <size_t>MOST_RECENT // 2)
            if self.used > <size_t>MOST_RECENT:
                memmove(self.samples, self.samples + self.used - kept, kept * sizeof(fg_sample))
                self.used, self.forgot = kept, True
            grown = <fg_sample *>realloc(self.samples, (2 * (self.used + waiting)) * sizeof(fg_sample))
            if grown == NULL:
                raise MemoryError
            self.samples, self.room = grown, 2 * (self.used + waiting)
        waiting = fg_sampler_drain(self.sampler.sampler, self.place, self.samples + self.used, waiting)
        taken = PyByteArray_FromStringAndSize(<char *>(self.samples + self.used), waiting * sizeof(fg_sample))
        if self.stash:
            self.stash += taken
        else:  # of its exact size
            self.stash = taken
        for i in range(self.used, self.used + waiting):
            fg_account_add(&self.account, &self.samples[i])
            self.samples[i].at_ns -= self.delay_ns
        self.used += waiting
        return 0

    def take(self):
        """The samples since the last call, as `Sampler.drain` gives them."""
        return taken(take_recent, self, self)

    cdef size_t first_of(self, int64_t at_ns) noexcept:
        """The sample from which on an instant can be told: two changes before it, where there are."""
        cdef size_t low = 0, high = self.used, middle, least
        cdef int changes = 0
        while low < high:
            middle = (low + high) // 2
            if self.samples[middle].at_ns <= at_ns:
                low = middle + 1
            else:
                high = middle
        least = low - LOOKED_BACK if low > LOOKED_BACK else 0
        while low > least and changes < 3:
            low -= 1
            changes += low > 0 and self.samples[low].raw != self.samples[low - 1].raw
        return low

    cdef int add_between(self, int64_t begin_ns, int64_t end_ns, double *energies) except -1:
        """Add low, estimate and high in J."""
        cdef fg_resolver resolver
        cdef double low = NAN, estimate = NAN, high = NAN, unknown = 0.0, ceiling = self.ceiling
        cdef fg_answers out
        cdef size_t first
        self.poll()
        if self.used and self.forgot and self.samples[0].at_ns > begin_ns:
            raise RuntimeError("the begin of this window is too long ago; the result has its energy")
        out.low, out.estimate, out.high, out.unknown, out.rounding = &low, &estimate, &high, &unknown, NULL
        ceiling = fmax(ceiling if ceiling > 0.0 else 2.0 * self.account.peak_per_ns, self.account.peak_per_ns)
        self.traits.period_ns = fg_account_period_ns(&self.account)
        if self.used:
            first = self.first_of(begin_ns)
            fg_resolver_init_windows(&resolver, &self.traits, ceiling, &begin_ns, &end_ns, 1, &out)
            fg_resolver_feed(&resolver, self.samples + first, self.used - first)
            fg_resolver_finish(&resolver)
        if self.estimated:
            low, high = self.floor * (end_ns - begin_ns), self.ceiling * (end_ns - begin_ns)
            low, high = fmin(low, estimate), fmax(high, estimate)
        energies[0] += low * self.scale
        energies[1] += estimate * self.scale
        energies[2] += high * self.scale
        return 0

    cdef bint knows(self, int64_t at_ns) noexcept:
        """Whether no later sample changes what is known of an instant."""
        cdef size_t last = self.used
        cdef int64_t period_ns = fg_account_period_ns(&self.account)
        if last == 0:
            return False
        if self.samples[last - 1].at_ns - <int64_t>self.samples[last - 1].half_ns - period_ns >= at_ns:
            return True
        while last > 1 and self.samples[last - 2].at_ns - <int64_t>self.samples[last - 2].half_ns >= at_ns:
            last -= 1
            if self.samples[last].raw != self.samples[last - 1].raw:
                return True
        return False


cdef class Recents:
    """The energy of stretches of some channels together, while they are measured."""

    cdef list channels
    cdef object made

    def __init__(self, list channels, made):
        self.channels, self.made = channels, made

    def __call__(self, int64_t begin_ns, int64_t end_ns):
        """`made`(energy, low, high) in J, as known by now."""
        cdef double energies[3]
        cdef Recent channel
        energies[0] = energies[1] = energies[2] = 0.0
        for channel in self.channels:
            added(add_recent, channel, channel, begin_ns, end_ns, energies)
        return self.made(energies[1], energies[0], energies[2])

    def knows(self, int64_t at_ns):
        """Whether every channel has had its next update after an instant."""
        cdef Recent channel
        for channel in self.channels:
            if not known(know_recent, channel, channel, at_ns):
                return False
        return True
