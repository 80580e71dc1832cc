# SPDX-License-Identifier: Apache-2.0
"""The engine's door to C: converts and checks, nothing more. Everything here is private to the package."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_FromStringAndSize
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy

import os
import threading

from fastgreen.errors import ChannelNotFound, ChannelPermission, ChannelReadError, FastgreenError

GAP = FG_SAMPLE_GAP
RESET = FG_SAMPLE_RESET

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


def __getattr__(str name):
    if name != "SAMPLE":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Measuring needs no NumPy, which takes longer to load than all the rest: it comes with the first array.
    import numpy as np

    dtype = np.dtype([("at_ns", "i8"), ("raw", "i8"), ("half_ns", "u4"), ("wraps", "u2"), ("flags", "u2")])
    assert dtype.itemsize == sizeof(fg_sample)
    return globals().setdefault(name, dtype)


cdef object _dtype():
    dtype = globals().get("SAMPLE")
    return __getattr__("SAMPLE") if dtype is None else dtype


def samples(waiting):
    """An array of dtype SAMPLE over what `Sampler.drain` gave."""
    import numpy as np

    return np.frombuffer(waiting, _dtype())


cdef void *_data(object column, bint writable=False) except? NULL:
    """Where a contiguous column lies; valid as long as the caller keeps it."""
    cdef Py_buffer view
    PyObject_GetBuffer(column, &view, PyBUF_WRITABLE if writable else PyBUF_SIMPLE)
    cdef void *data = view.buf
    PyBuffer_Release(&view)
    return data


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


cdef fg_traits _traits(dict traits) except *:
    cdef fg_traits out
    out.kind = FG_ENERGY if traits["kind"] == "energy" else FG_POWER
    out.modulus = traits["modulus"]
    out.quantum = traits["quantum"]
    out.period_ns = traits["period_ns"]
    out.tick_ns = traits.get("tick_ns", 0)
    out.plausible_per_s = traits["plausible_per_s"]
    out.blind_ns = traits.get("blind_ns", 0)
    return out


cdef dict _account_dict(const fg_account *account):
    return {
        "samples": account.samples,
        "updates": account.updates,
        "gaps": account.gaps,
        "resets": account.resets,
        "first_at_ns": account.first_at_ns,
        "last_at_ns": account.last_at_ns,
        "total": account.total if account.traits.kind == FG_ENERGY else account.power_integral,
        "read_longest_ns": account.read_longest_ns,
        "step_longest_ns": account.step_longest_ns,
        "read_mean_ns": account.read_mean_ns,
        "period_ns": fg_account_period_ns(account),
        "period_mean_ns": account.period_sum_ns / account.periods if account.periods else None,
        "period_lower_ns": account.period_lower_ns,
        "period_upper_ns": account.period_upper_ns,
        "periods": account.periods,
        "peak_per_ns": account.peak_per_ns,
    }


def now_ns():
    """CLOCK_MONOTONIC in nanoseconds, the time axis of everything."""
    return fg_clock_now_ns()


cdef fg_sample *_samples(samples, bint writable=False) except? NULL:
    if getattr(samples, "dtype", None) != _dtype() or not samples.flags.c_contiguous:
        raise TypeError("samples must be a contiguous array of dtype SAMPLE")
    return <fg_sample *>_data(samples, writable)


cdef class Sampler:
    """One source's sampling thread.

    `sensors` and `traits` are lists of dictionaries whose keys are the members of struct fg_sensor and fg_traits.
    """

    cdef fg_sampler *sampler
    cdef Py_ssize_t count
    cdef int owner
    cdef object kept

    def __cinit__(self, str source, list sensors, list traits, int64_t period_ns, size_t ring_capacity,
                  str library="", double speed=1.0):
        cdef fg_sampler_config config
        cdef fg_error err
        cdef fg_status status
        cdef bytes name = source.encode()
        cdef bytes library_path = os.fsencode(library)
        self.count = len(sensors)
        self.owner = os.getpid()
        self.kept = []
        config.ops = fg_source_find(name)
        if config.ops == NULL:
            raise ValueError(f"no source is called {source!r}")
        if len(traits) != self.count:
            raise ValueError(f"{self.count} sensors and {len(traits)} traits")
        cdef fg_sensor *c_sensors = <fg_sensor *>calloc(self.count, sizeof(fg_sensor))
        cdef fg_traits *c_traits = <fg_traits *>calloc(self.count, sizeof(fg_traits))
        try:
            if c_sensors == NULL or c_traits == NULL:
                raise MemoryError
            for i in range(self.count):
                self._fill(&c_sensors[i], sensors[i])
                c_traits[i] = _traits(traits[i])
            config.source.sensors = c_sensors
            config.source.count = self.count
            config.source.library = library_path
            config.source.speed = speed
            config.source.clock = &fg_clock_monotonic
            config.traits = c_traits
            config.period_ns = period_ns
            config.ring_capacity = ring_capacity
            with nogil:
                status = fg_sampler_open(&config, &self.sampler, &err)
            _check(status, &err)
        finally:
            free(c_sensors)
            free(c_traits)

    cdef int _fill(self, fg_sensor *out, dict sensor) except -1:
        for key in ("path", "factor", "uuid"):
            if sensor.get(key) is not None:
                self.kept.append(os.fsencode(sensor[key]))
                if key == "path":
                    out.path = <bytes>self.kept[-1]
                elif key == "factor":
                    out.factor = <bytes>self.kept[-1]
                else:
                    out.uuid = <bytes>self.kept[-1]
        out.fd = int(sensor.get("fd", -1))
        out.quantity = QUANTITIES[sensor.get("quantity", "energy")]
        out.scope = sensor.get("scope", 0)
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
            out.record.samples = _samples(samples)
            out.record.count = len(samples)
        return 0

    def __dealloc__(self):
        # A forked child has no sampling thread to join and must not touch the parent's library state.
        if self.sampler != NULL and os.getpid() == self.owner:
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
        """All samples that wait, as bytes; `samples` makes an array of them."""
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

    def report(self, Py_ssize_t channel):
        """What is known after stop: the account, the counts, the totals at the last reading asked for."""
        cdef fg_report report
        self._index(channel)
        fg_sampler_report(self.sampler, channel, &report)
        out = _account_dict(&report.account)
        energy = report.account.traits.kind == FG_ENERGY
        out["end_at_ns"] = report.end_at_ns
        out["end_total"] = report.end_total if energy else report.end_power_integral
        out["missed"] = report.live.missed
        out["lost"] = report.live.lost
        out["read_errors"] = report.live.read_errors
        out["why_ended"] = _reason(&report.why_ended)
        out["last_error"] = _reason(&report.last_error)
        return out


cdef class Account:
    """The account of a recorded channel, fed chunk by chunk; what the sampling thread keeps for a live one."""

    cdef fg_account account

    def __init__(self, dict traits):
        cdef fg_traits c_traits = _traits(traits)
        fg_account_init(&self.account, &c_traits)

    def feed(self, samples):
        """Take in samples, and set their wraps and reset flags in place."""
        cdef fg_sample *data = _samples(samples, True)
        cdef Py_ssize_t i, count = len(samples)
        with nogil:
            for i in range(count):
                fg_account_add(&self.account, &data[i])

    def report(self):
        return _account_dict(&self.account)


cdef class _Answers:
    """Outputs of a resolver."""

    cdef object low, estimate, high, unknown
    cdef fg_answers c

    def __cinit__(self, Py_ssize_t count, bint restarts):
        import numpy as np
        self.low = np.empty(count)
        self.estimate = np.empty(count)
        self.high = np.empty(count)
        self.unknown = np.zeros(count if restarts else 0)
        self.c.low = <double *>_data(self.low)
        self.c.estimate = <double *>_data(self.estimate)
        self.c.high = <double *>_data(self.high)
        self.c.unknown = <double *>_data(self.unknown) if restarts else NULL


def resolve_instants(dict traits, double ceiling_per_ns, chunks, at_ns, bint restarts=False):
    """Energy from the first sample until each instant, in the channel's own unit: (low, estimate, high, unknown).

    `chunks` is an iterable of sample arrays in time order, `at_ns` is sorted. See struct fg_resolver. `unknown` is
    empty unless `restarts`.
    """
    import numpy as np

    cdef fg_traits c_traits = _traits(traits)
    query = np.ascontiguousarray(at_ns, dtype=np.int64)
    cdef size_t count = len(query)
    cdef _Answers out = _Answers(count, restarts)
    cdef fg_resolver resolver
    fg_resolver_init_instants(&resolver, &c_traits, ceiling_per_ns, <const int64_t *>_data(query), count, &out.c)
    for chunk in chunks:
        fg_resolver_feed(&resolver, _samples(chunk), len(chunk))
    fg_resolver_finish(&resolver)
    return out.low, out.estimate, out.high, out.unknown


cdef class _Part:
    """A resolver of the windows [first, until) of two columns, which it looks over before."""

    cdef fg_resolver resolver
    cdef object begin, end  # kept, with `out`: its thread may outlive an interrupted call
    cdef _Answers out
    cdef const int64_t *begin_at_ns
    cdef const int64_t *end_at_ns
    cdef size_t first, count
    cdef bint looked
    cdef readonly Py_ssize_t wrong  # the first window out of order; -1: none

    def __cinit__(self, dict traits, double ceiling_per_ns, begin, end, _Answers out, size_t first, size_t until):
        cdef fg_traits c_traits = _traits(traits)
        cdef fg_answers answers = out.c
        answers.low += first
        answers.estimate += first
        answers.high += first
        if answers.unknown != NULL:
            answers.unknown += first
        self.begin, self.end, self.out = begin, end, out
        self.begin_at_ns = <const int64_t *>_data(begin) + first
        self.end_at_ns = <const int64_t *>_data(end) + first
        self.first, self.count, self.wrong = first, until - first, -1
        fg_resolver_init_windows(&self.resolver, &c_traits, ceiling_per_ns, self.begin_at_ns, self.end_at_ns,
                                 self.count, &answers)

    cdef bint _sound(self) noexcept nogil:
        """Whether the windows are in order, among them and after the one before."""
        cdef size_t before = self.first > 0, sorted_
        if not self.looked:
            self.looked = True
            sorted_ = fg_windows_sorted(self.begin_at_ns - before, self.end_at_ns - before, self.count + before)
            if sorted_ < self.count + before:
                self.wrong = self.first - before + sorted_
        return self.wrong < 0

    def feed(self, chunk):
        cdef const fg_sample *data = _samples(chunk)
        cdef size_t samples = len(chunk)
        with nogil:
            if self._sound():
                fg_resolver_feed(&self.resolver, data, samples)

    def finish(self):
        with nogil:
            if self._sound():
                fg_resolver_finish(&self.resolver)


def _refuse(begin, end, Py_ssize_t at):
    if end[at] < begin[at]:
        raise ValueError(f"end_at_ns[{at}] = {end[at]} lies before begin_at_ns[{at}] = {begin[at]}")
    name, column = ("begin_at_ns", begin) if begin[at] < begin[at - 1] else ("end_at_ns", end)
    raise ValueError(f"{name} is not sorted: {name}[{at}] = {column[at]} comes after {column[at - 1]}")


# From here on a second thread pays, and this share of the windows makes both end at about the same time: the thread that
# has the later ones must walk over all samples before.
_PARALLEL = 200_000
_EARLIER = 0.58


def resolve_windows(dict traits, double ceiling_per_ns, chunks, begin_at_ns, end_at_ns, bint restarts=False,
                    threads=None):
    """Energy of windows of one channel, in the channel's own unit: (low, estimate, high).

    `chunks` is an iterable of sample arrays in time order; `begin_at_ns` and `end_at_ns` are each sorted and no window
    ends before it begins (ValueError). Many windows over large chunks are shared by two `threads` where there are two
    cores, each taking some of the windows; the result does not depend on it.
    """
    import numpy as np

    begin = np.ascontiguousarray(begin_at_ns, dtype=np.int64)
    end = np.ascontiguousarray(end_at_ns, dtype=np.int64)
    if len(end) != len(begin):
        raise ValueError("begin_at_ns and end_at_ns differ in length")
    cdef size_t count = len(begin), middle = count
    cdef _Answers out = _Answers(count, restarts)
    chunks = iter(chunks)
    first = next(chunks, None)
    if threads is None and first is not None and count >= _PARALLEL and len(first) >= _PARALLEL:
        threads = min(2, len(os.sched_getaffinity(0)))
    if threads == 2:
        middle = <size_t>(count * _EARLIER)
    shares = [(0, middle), (middle, count)][: threads or 1]
    parts = [_Part(traits, ceiling_per_ns, begin, end, out, *share) for share in shares]
    while first is not None:
        _feed(parts, first)
        first = next(chunks, None)
    for part in parts:
        part.finish()
    wrong = min((part.wrong for part in parts if part.wrong >= 0), default=-1)
    if wrong >= 0:
        _refuse(begin, end, wrong)
    return out.low, out.estimate, out.high


def _feed(list parts, chunk):
    _samples(chunk)  # a wrong type is told here, not in a thread
    others = [threading.Thread(target=part.feed, args=(chunk,)) for part in parts[1:]]
    for other in others:
        other.start()
    try:
        parts[0].feed(chunk)
    finally:
        for other in others:
            other.join()


def nvml_devices(str library):
    """Driver and devices as the library itself lists them: {"driver": str, "devices": [dict, ...]}."""
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


include "_window.pxi"
