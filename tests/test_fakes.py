# SPDX-License-Identifier: Apache-2.0
"""The fake NVML: pynvml and plain C calls see what the script says and what the Python twin predicts."""

from __future__ import annotations

import ctypes
import itertools
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.fakes.build import compiler
from tests.fakes.nvml import FakeNvml, Gpu, Rule, Sensor, gpu_is_lost
from tests.fakes.programs import run_pynvml
from tests.fakes.wave import Constant, Ramp, Sine, Square, Steps, Updates, Wave

pytestmark = pytest.mark.skipif(compiler() is None, reason="the fake NVML is built from C, and there is no compiler")

WAVES = [
    Constant(123.4),
    Ramp(50, 300, 0.5),
    Steps(((0.0, 100.0), (0.1, 300.0), (0.25, 20.0))),
    Square(50, 350, 0.03, 0.3),
    Sine(200, 150, 0.07),
]
ERRORS = [3, 4, 6, 9, 13, 15, 16, 18, 27, 999]


class Loaded:
    """The library in this process, through ctypes, as the C engine would load it."""

    def __init__(self, fake: FakeNvml, init: bool = True) -> None:
        self.lib = ctypes.CDLL(str(fake.library))
        if init:
            assert self.lib.nvmlInit_v2() == 0

    def handle(self, index: int = 0) -> ctypes.c_void_p:
        handle = ctypes.c_void_p()
        assert self.lib.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)) == 0
        return handle

    def energy(self, handle: ctypes.c_void_p) -> tuple[int, int]:
        out = ctypes.c_ulonglong()
        return self.lib.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(out)), out.value

    def power(self, handle: ctypes.c_void_p) -> tuple[int, int]:
        out = ctypes.c_uint()
        return self.lib.nvmlDeviceGetPowerUsage(handle, ctypes.byref(out)), out.value


def counters(fake: FakeNvml, device: int, begin_ns: int, end_ns: int) -> set[int]:
    """All that the energy counter may have shown between two times."""
    updates = fake.devices[device].energy_updates.between_ns(fake.epoch_ns, begin_ns, end_ns)
    return {fake.counter_mj(device, at) for at in (begin_ns, *updates, end_ns)}


def powers(fake: FakeNvml, device: int, reading: str, begin_ns: int, end_ns: int) -> set[int]:
    """All that a power reading may have shown between two times."""
    updates = getattr(fake.devices[device], reading).updates.between_ns(fake.epoch_ns, begin_ns, end_ns)
    return {fake.power_mw(device, at, reading) for at in (begin_ns, *updates, end_ns)}


def realtime_offset_ns() -> int:
    """Realtime minus monotonic: the tightest of some pairs of looks, for a busy machine lets time pass between two."""
    looks = [(time.monotonic_ns(), time.time_ns(), time.monotonic_ns()) for _ in range(100)]
    before, realtime, after = min(looks, key=lambda look: look[2] - look[0])
    return realtime - (before + after) // 2


@pytest.mark.parametrize("wave", WAVES, ids=lambda wave: type(wave).__name__)
def test_the_integral_of_a_waveform_is_the_sum_of_its_power(wave: Wave):
    n, end = 200_000, 0.6
    total = sum(wave.power_w((i + 0.5) * end / n) for i in range(n)) * end / n
    assert wave.energy_j(end) - wave.energy_j(0.0) == pytest.approx(total, rel=1e-4)
    assert wave.energy_j(0.0) == pytest.approx(0.0, abs=1e-12)
    assert wave.energy_j(-0.2) <= wave.energy_j(-0.1) <= 0


def test_updates_are_in_order_and_repeat_with_the_seed():
    updates = Updates(0.02, phase=0.003, jitter=0.009, seed=7)
    moments = [updates.at_ns(10**9, k) for k in range(-50, 50)]
    assert moments == sorted(moments)
    assert moments == [Updates(0.02, 0.003, 0.009, 7).at_ns(10**9, k) for k in range(-50, 50)]
    assert len({b - a for a, b in itertools.pairwise(moments)}) > 50
    for before, after in itertools.pairwise(moments):
        assert updates.last_ns(10**9, before) == updates.last_ns(10**9, after - 1) == before


def test_pynvml_reads_what_the_twin_predicts(tmp_path: Path):
    updates = Updates(0.05, 0.01, 0.02, seed=3)
    devices = [
        Gpu(
            power=wave,
            energy_updates=updates,
            energy_start_mj=1e9,
            instant=Sensor(Updates(0.1), window=0.025),
            average=Sensor(Updates(0.1), window=1.0),
            usage=Sensor(Updates(0.02), window=0.5, gain=1.05),
        )
        for wave in WAVES
    ]
    fake = FakeNvml(tmp_path, devices)
    seen = run_pynvml(
        fake,
        """
n.nvmlInit()
say["reads"] = []
for i in list(range(n.nvmlDeviceGetCount())) * 20:
    h = n.nvmlDeviceGetHandleByIndex(i)
    t0 = time.monotonic_ns()
    energy, usage = n.nvmlDeviceGetTotalEnergyConsumption(h), n.nvmlDeviceGetPowerUsage(h)
    f = {v.fieldId: (v.nvmlReturn, v.value.ullVal if v.fieldId in (83, 191) else v.value.uiVal)
         for v in n.nvmlDeviceGetFieldValues(h, [186, 185, 83, 191])}
    say["reads"].append([i, t0, time.monotonic_ns(), energy, usage, f])
    time.sleep(0.003)
""",
    )
    assert len(seen["reads"]) == 100
    for device, begin, end, energy, usage, fields in seen["reads"]:
        assert {energy, fields["83"][1], fields["191"][1]} <= counters(fake, device, begin, end)
        shown = {"usage": usage, "average": fields["185"][1], "instant": fields["186"][1]}
        for reading, value in shown.items():
            assert value in powers(fake, device, reading, begin, end), reading
        assert all(code == 0 for code, _ in fields.values())


def test_the_counter_changes_at_its_updates_and_nowhere_else(tmp_path: Path):
    updates = Updates(0.02, phase=0.004, jitter=0.008, seed=11)
    fake = FakeNvml(tmp_path, [Gpu(power=300, energy_updates=updates)])
    library = Loaded(fake)
    handle = library.handle()
    before = None
    changes = 0
    begun = time.monotonic()
    while (took := time.monotonic() - begun) < 0.5 or (changes < 5 and took < 60):
        begin = time.monotonic_ns()
        _, value = library.energy(handle)
        end = time.monotonic_ns()
        assert value in counters(fake, 0, begin, end)
        if before is not None and value != before[1]:
            changes += 1
            assert updates.between_ns(fake.epoch_ns, before[0], end)
        before = begin, value
        time.sleep(0.0005)
    assert changes >= 5


def test_quantum_and_start_of_the_counter(tmp_path: Path):
    fake = FakeNvml(tmp_path, [Gpu(power=500, energy_start_mj=7e6, energy_quantum_mj=250, power_quantum_mw=1000)])
    library = Loaded(fake)
    _, energy = library.energy(library.handle())
    assert energy % 250 == 0
    assert energy >= 7_000_000
    assert library.power(library.handle())[1] == 500_000


def test_field_stamps_are_those_of_the_update(tmp_path: Path):
    fake = FakeNvml(tmp_path, [Gpu(instant=Sensor(Updates(0.1)))])
    body = "n.nvmlInit(); h = n.nvmlDeviceGetHandleByIndex(0); t0 = time.time_ns(); "
    body += "say['stamp'] = n.nvmlDeviceGetFieldValues(h, [186])[0].timestamp; say['now'] = [t0, time.time_ns()]"
    seen = run_pynvml(fake, body)
    offset = realtime_offset_ns()
    since_epoch = (seen["stamp"] * 1000 - offset - fake.epoch_ns) / 1e8
    assert since_epoch == pytest.approx(round(since_epoch), abs=0.02)
    assert 0 <= seen["now"][1] / 1e9 - seen["stamp"] / 1e6 < 0.2 + (seen["now"][1] - seen["now"][0]) / 1e9
    fake.write(field_stamp="call")
    seen = run_pynvml(fake, body)
    assert seen["now"][0] / 1e3 - 1000 <= seen["stamp"] <= seen["now"][1] / 1e3 + 1000


def test_scopes_have_their_own_return(tmp_path: Path):
    fake = FakeNvml(tmp_path, [Gpu(power=200, scopes=(0.0, 1.5, 0.25))])
    seen = run_pynvml(
        fake,
        "n.nvmlInit(); h = n.nvmlDeviceGetHandleByIndex(0)\n"
        "values = n.nvmlDeviceGetFieldValues(h, [(186, 0), (186, 1), (186, 2)])\n"
        "say['v'] = [(v.nvmlReturn, v.value.uiVal) for v in values]",
    )
    assert seen["v"] == [[3, 0], [0, 300_000], [0, 50_000]]


@pytest.mark.parametrize("code", ERRORS)
def test_a_function_fails_as_scripted_once_three_times_always(tmp_path: Path, code: int):
    name = "nvmlDeviceGetTotalEnergyConsumption"
    fake = FakeNvml(tmp_path)
    library = Loaded(fake)
    handle = library.handle()
    for first, last, wanted in [(2, 2, [0, code, 0, 0, 0]), (2, 4, [0, code, code, code, 0]), (1, None, [code] * 5)]:
        calls = fake.calls().get(name, 0)
        fake.write(rules=[Rule(name, code, calls + first, None if last is None else calls + last)])
        assert [library.energy(handle)[0] for _ in range(5)] == wanted
        assert library.power(handle)[0] == 0


def test_a_rule_of_one_device_leaves_the_others_alone(tmp_path: Path):
    fake = FakeNvml(tmp_path, [Gpu(), Gpu()], rules=[Rule("nvmlDeviceGetPowerUsage", 3, first=2, last=2, device=1)])
    library = Loaded(fake)
    codes = [[library.power(library.handle(i))[0] for i in (0, 1)] for _ in range(3)]
    assert codes == [[0, 0], [0, 3], [0, 0]]


def test_a_lost_gpu_stays_lost_and_refuses_its_handle(tmp_path: Path):
    fake = FakeNvml(tmp_path, [Gpu(), Gpu()], rules=[gpu_is_lost(0, at_call=4)])
    library = Loaded(fake)
    handle = library.handle()
    assert [library.power(handle)[0] for _ in range(4)] == [0, 0, 15, 15]
    assert library.lib.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(ctypes.c_void_p())) == 15
    assert library.power(library.handle(1))[0] == 0


def test_a_field_fails_alone(tmp_path: Path):
    fake = FakeNvml(tmp_path, rules=[Rule("field:186", 3), Rule("field:83", 999, first=2, last=2)])
    seen = run_pynvml(
        fake,
        "n.nvmlInit(); h = n.nvmlDeviceGetHandleByIndex(0)\n"
        "say['v'] = [[v.nvmlReturn for v in n.nvmlDeviceGetFieldValues(h, [186, 185, 83])] for _ in range(3)]",
    )
    assert seen["v"] == [[3, 0, 0], [3, 0, 999], [3, 0, 0]]


def test_a_rule_shows_another_value(tmp_path: Path):
    fake = FakeNvml(tmp_path, rules=[Rule("nvmlDeviceGetPowerUsage", first=2, last=2, value=0)])
    library = Loaded(fake)
    assert [library.power(library.handle())[1] for _ in range(3)] == [100_000, 0, 100_000]


@pytest.mark.parametrize("code", [9, 12, 18, 999])
def test_init_fails_as_scripted_for_pynvml_too(tmp_path: Path, code: int):
    fake = FakeNvml(tmp_path, rules=[Rule("nvmlInit*", code)])
    body = "try:\n    n.nvmlInit()\nexcept n.NVMLError as error:\n    say.update(code=error.value, text=str(error))"
    seen = run_pynvml(fake, body)
    assert seen["code"] == code
    assert seen["text"]


def test_without_a_script_there_is_no_driver(tmp_path: Path):
    fake = FakeNvml(tmp_path)
    (tmp_path / "script").unlink()
    assert Loaded(fake, init=False).lib.nvmlInit_v2() == 9


def test_initialisation_is_counted(tmp_path: Path):
    fake = FakeNvml(tmp_path)
    library = Loaded(fake, init=False)
    handle = ctypes.c_void_p()
    count = ctypes.c_uint()

    def asked() -> int:
        return library.lib.nvmlDeviceGetCount_v2(ctypes.byref(count))

    assert library.lib.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(handle)) == 1
    assert (asked(), library.lib.nvmlShutdown()) == (1, 1)
    assert (library.lib.nvmlInit_v2(), library.lib.nvmlInit_v2()) == (0, 0)
    assert (library.lib.nvmlShutdown(), asked()) == (0, 0)
    assert (library.lib.nvmlShutdown(), asked()) == (0, 1)


def test_state_does_not_survive_fork(tmp_path: Path):
    fake = FakeNvml(tmp_path)
    library = Loaded(fake)
    handle = library.handle()
    child = os.fork()
    if child == 0:
        first = library.power(handle)[0]
        again = library.lib.nvmlInit_v2()
        os._exit(10 * first + 2 * again + library.power(handle)[0])
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 10
    assert library.power(handle)[0] == 0


def test_a_driver_reload_wants_init_and_restarts_the_counter(tmp_path: Path):
    fake = FakeNvml(tmp_path, [Gpu(power=100, energy_start_mj=5e9, energy_updates=Updates(0.001))], reload_at=[4])
    library = Loaded(fake)
    handle = library.handle()
    assert library.energy(handle)[1] >= 5_000_000_000
    assert [library.energy(handle)[0] for _ in range(2)] == [1, 1]
    assert library.lib.nvmlInit_v2() == 0
    code, energy = library.energy(handle)
    assert code == 0
    assert energy < 100_000_000
    assert energy <= fake.counter_mj(0, time.monotonic_ns())
    fake.reload_driver()
    assert library.energy(handle)[0] == 1


@pytest.mark.parametrize("delay_us", [50, 20_000])
def test_a_call_takes_its_latency(tmp_path: Path, delay_us: int):
    fake = FakeNvml(tmp_path, rules=[Rule("nvmlDeviceGetPowerUsage", delay_us=delay_us, first=2)])
    library = Loaded(fake)
    handle = library.handle()
    library.power(handle)
    begin = time.monotonic_ns()
    assert library.power(handle)[0] == 0
    assert time.monotonic_ns() - begin >= delay_us * 1000


def test_a_serialised_driver_makes_calls_wait_for_each_other(tmp_path: Path):
    fake = FakeNvml(tmp_path, rules=[Rule("nvmlDeviceGetPowerUsage", delay_us=60_000)], serialise=True)
    library = Loaded(fake)
    handle = library.handle()
    threads = [threading.Thread(target=library.power, args=(handle,)) for _ in range(3)]
    begin = time.monotonic_ns()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic_ns() - begin >= 180_000_000


def test_omitted_functions_are_not_there(tmp_path: Path):
    gone = ("nvmlDeviceGetTotalEnergyConsumption", "nvmlInit_v2", "nvmlDeviceGetFieldValues")
    fake = FakeNvml(tmp_path, omit=gone)
    library = Loaded(fake, init=False)
    for name in gone:
        assert not hasattr(library.lib, name)
    assert library.lib.nvmlInit() == 0
    assert library.power(library.handle())[0] == 0
    body = "n.nvmlInit(); h = n.nvmlDeviceGetHandleByIndex(0)\ntry:\n    n.nvmlDeviceGetTotalEnergyConsumption(h)\n"
    body += "except n.NVMLError as error:\n    say['code'] = error.value"
    assert run_pynvml(fake, body)["code"] == 13


def test_only_nvml_names_are_exported(tmp_path: Path):
    library = Loaded(FakeNvml(tmp_path)).lib
    assert not hasattr(library, "fake_enter")
    assert not hasattr(library, "fake_script_read")


def test_calls_are_counted_by_function_and_device_over_processes(tmp_path: Path):
    fake = FakeNvml(tmp_path, [Gpu(), Gpu()])
    library = Loaded(fake)
    library.power(library.handle(1))
    run_pynvml(
        fake, "n.nvmlInit(); h = n.nvmlDeviceGetHandleByIndex(1)\nfor _ in range(7): n.nvmlDeviceGetPowerUsage(h)"
    )
    assert fake.calls()["nvmlDeviceGetPowerUsage"] == 8
    assert fake.calls(1)["nvmlDeviceGetPowerUsage"] == 8
    assert "nvmlDeviceGetPowerUsage" not in fake.calls(0)
    assert fake.calls()["*"] == sum(n for name, n in fake.calls().items() if name.startswith("nvml"))


def test_two_fakes_live_in_one_process(tmp_path: Path):
    fakes = [FakeNvml(tmp_path / str(watts), [Gpu(power=watts)]) for watts in (100, 200)]
    loaded = [Loaded(fake) for fake in fakes]
    assert [library.power(library.handle())[1] for library in loaded] == [100_000, 200_000]
    assert [fake.calls()["nvmlDeviceGetPowerUsage"] for fake in fakes] == [1, 1]


def test_a_script_changes_while_it_is_used(tmp_path: Path):
    fake = FakeNvml(tmp_path, [Gpu(power=100, usage=Sensor(Updates(0.0)))])
    library = Loaded(fake)
    handle = library.handle()
    fake.write(devices=[Gpu(power=250)])
    assert library.power(handle)[1] == 250_000
    script = tmp_path / "script"
    script.write_text(script.read_text().replace("constant 250", "constant 275"))
    until = time.monotonic() + 60
    while library.power(handle)[1] != 275_000:
        assert time.monotonic() < until


def test_an_appended_step_is_exact_and_never_goes_back(tmp_path: Path):
    for lead_s in (0.5, 2.0, 8.0):
        fake = FakeNvml(tmp_path / str(lead_s), [Gpu(power=400, energy_updates=Updates(0.001))])
        library = Loaded(fake)
        handle = library.handle()
        values = [library.energy(handle)[1]]
        try:
            fake.step(0, 10.0, lead_s=lead_s)
        except RuntimeError:  # it says so where the machine was too busy to write in time
            continue
        until = time.monotonic() + lead_s + 0.2
        while time.monotonic() < until:
            values.append(library.energy(handle)[1])
        break
    assert len(values) > 1
    assert values == sorted(values)
    now = time.monotonic_ns()
    assert fake.energy_j(0, now, now + 10**9) == pytest.approx(10.0)
    assert fake.energy_j(0, fake.epoch_ns, fake.epoch_ns + 10**8) == pytest.approx(40.0)


def test_the_environment_names_script_and_counts(tmp_path: Path):
    fake, other = FakeNvml(tmp_path / "a", [Gpu(name="A")]), FakeNvml(tmp_path / "b", [Gpu(name="B")])
    paths = {"FAKE_NVML_SCRIPT": str(other.folder / "script"), "FAKE_NVML_COUNTS": str(other.folder / "counts")}
    body = "n.nvmlInit(); say['name'] = n.nvmlDeviceGetName(n.nvmlDeviceGetHandleByIndex(0))"
    assert run_pynvml(fake, body, **paths) == {"name": "B"}
    assert fake.calls() == {}
    assert other.calls()["nvmlDeviceGetName"] == 1


def test_a_script_that_is_not_understood_is_reported(tmp_path: Path):
    fake = FakeNvml(tmp_path)
    (tmp_path / "script").write_text("epoch_ns=5\nnonsense=1\n")
    program = f"import ctypes; print(ctypes.CDLL({str(fake.library)!r}).nvmlInit_v2())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "999"
    assert "script:2: not understood" in done.stderr
