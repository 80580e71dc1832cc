"""Which NVIDIA boards there are, what is read of each, which CUDA_VISIBLE_DEVICES hides, and why one cannot be read."""

from __future__ import annotations

import json
import os

import pytest

import fastgreen as fg
from fastgreen import _core
from fastgreen.errors import FastgreenError
from fastgreen.sensors.catalog import discover, select
from tests.fakes.nvml import FakeNvml, Gpu, Rule, gpu_is_lost

ENERGY = "nvmlDeviceGetTotalEnergyConsumption"
UUIDS = [f"GPU-0000000{n}-aaaa-bbbb-cccc-00000000000{n}" for n in range(4)]
MIGS = tuple(f"MIG-1111111{n}-aaaa-bbbb-cccc-00000000000{n}" for n in range(2))
BOARDS = [Gpu(uuid=uuid) for uuid in UUIDS]


def boards() -> dict[str, fg.Channel]:
    return {c.id: c for c in fg.channels() if c.source == "nvml"}


def state():
    return next(s for s in discover()[1] if s.source == "nvml")


def test_a_board_is_its_counter_with_its_power_inside(nvml):
    nvml(Gpu(uuid=UUIDS[0], name="NVIDIA H200"))
    found = boards()
    assert list(found) == ["nvml:0", "nvml:0/power"]
    counter, power = found.values()
    assert (counter.kind, counter.unit, counter.root, counter.name) == ("energy", "mJ", True, "NVIDIA H200")
    assert (power.kind, power.unit, power.root, power.parent) == ("power", "mW", False, "nvml:0")
    assert counter.device == UUIDS[0]
    assert counter.ceiling_w == 400.0
    assert power.note == "instant power"


@pytest.mark.parametrize(
    ("failing", "note"),
    [((), "instant power"), (("field:186",), "average power"), (("field:*",), "power usage, a mean")],
)
def test_without_a_counter_power_is_the_root_and_says_which_power_it_is(nvml, failing, note):
    nvml(rules=[Rule(ENERGY, code=3), *(Rule(name, code=3) for name in failing)])
    found = boards()
    assert list(found) == ["nvml:0"]
    assert found["nvml:0"].kind == "power"
    assert found["nvml:0"].root
    assert found["nvml:0"].note.startswith(note)
    assert "no energy counter" in found["nvml:0"].note


@pytest.mark.parametrize("omit", [(ENERGY,), ("nvmlDeviceGetFieldValues",), ("nvmlDeviceGetPowerUsage",)])
def test_an_older_library_that_lacks_a_quantity_is_used_for_the_others(nvml, omit):
    nvml(omit=omit)
    found = boards()
    assert found["nvml:0"].readable
    assert found["nvml:0"].kind == ("power" if ENERGY in omit else "energy")


@pytest.mark.parametrize(
    "omit",
    [
        ("nvmlInit_v2",),
        ("nvmlDeviceGetCount_v2", "nvmlDeviceGetHandleByIndex_v2"),
        ("nvmlErrorString", "nvmlDeviceGetName", "nvmlDeviceGetHandleByUUID", "nvmlDeviceGetPciInfo_v3"),
        ("nvmlDeviceGetMigMode", "nvmlDeviceGetEnforcedPowerLimit", "nvmlSystemGetDriverVersion"),
    ],
)
def test_what_can_be_done_without_is_done_without(nvml, omit):
    nvml(omit=omit)
    if omit[0] == "nvmlInit_v2" and "nvmlInit_v2" in (state().reason or ""):
        assert "too old" in state().reason  # the fake has no unversioned name either
        return
    assert boards()["nvml:0"].readable
    with fg.Monitor("nvml:0"):
        pass


def test_a_library_that_is_absent_too_old_or_no_library_is_said(nvml, tmp_path, monkeypatch):
    assert "libnvidia-ml" in state().reason
    assert "install the NVIDIA driver" in state().remedy
    nvml(omit=("nvmlDeviceGetUUID",))
    assert "too old" in state().reason
    assert boards() == {}
    (tmp_path / "text.so").write_text("no library")
    monkeypatch.setenv("FASTGREEN_NVML_LIBRARY", str(tmp_path / "text.so"))
    assert state().found == 0
    assert state().reason


@pytest.mark.parametrize("code", [1, 4, 9, 12, 18, 27, 999])
def test_a_driver_that_refuses_to_start_is_said_with_its_code(nvml, code):
    nvml(rules=[Rule("nvmlInit*", code=code)])
    assert f"NVML {code}" in state().reason
    assert (state().remedy is not None) == (code in (4, 9, 12, 18))
    assert [c.id for c in fg.channels()] == ["procstat:cpu"]


@pytest.mark.parametrize("code", [1, 2, 3, 4, 6, 13, 15, 16, 27, 999])
def test_a_board_that_cannot_be_reached_is_listed_with_its_reason_and_spares_the_others(nvml, code):
    nvml(*BOARDS[:2], rules=[Rule("nvmlDeviceGetHandleByIndex*", code=code, device=1)])
    found = boards()
    assert found["nvml:0"].readable
    if not found["nvml:1"].readable:
        assert f"NVML {code}" in found["nvml:1"].reason
    chosen, unreadable = select(discover()[0], None)
    assert "nvml:0" in {c.id for c in chosen}
    assert {c.id for c in unreadable} == ({"nvml:1"} if not found["nvml:1"].readable else set())


@pytest.mark.parametrize(("code", "said"), [(4, "/dev/nvidia"), (15, "gpu-reset"), (16, "gpu-reset"), (18, "restart")])
def test_a_refusal_that_something_mends_says_what(nvml, code, said):
    nvml(Gpu(), rules=[Rule("nvmlInit*", code)])
    assert said in state().remedy
    nvml(Gpu(), rules=[Rule("nvmlDeviceGetHandleByIndex*", code)])
    assert said in boards()["nvml:0"].remedy


def test_a_lost_board_is_listed_as_unreadable(nvml):
    nvml(*BOARDS[:2], rules=[gpu_is_lost(1)])
    assert not boards()["nvml:1"].readable
    with pytest.raises(FastgreenError, match="NVML 15"):
        fg.Monitor("nvml:1")


def test_without_permission_the_error_is_a_permission_error(nvml):
    nvml(rules=[Rule("nvmlDeviceGetHandleByIndex*", code=4)])
    with pytest.raises(PermissionError, match="nvml:0"):
        fg.Monitor("nvml:0")


@pytest.mark.parametrize("code", [3, 27, 999])
@pytest.mark.parametrize("times", [1, 2])
def test_a_refusal_that_passes_does_not_cost_the_energy_counter(nvml, code, times):
    nvml(rules=[Rule(ENERGY, code=code, first=1, last=times)])
    assert boards()["nvml:0"].kind == "energy"


def test_a_superchip_that_refuses_gpu_scope_is_read_at_the_modules_and_says_so(nvml):
    nvml(Gpu(scopes=(0.0, 1.0, 0.0)), rules=[Rule(ENERGY, code=3)])
    channel = boards()["nvml:0"]
    assert "module" in channel.note
    with fg.Monitor("nvml:0") as monitor:
        pass
    assert monitor.result.samples().num_rows > 0


def test_mig_is_the_whole_board_and_says_so(nvml):
    nvml(Gpu(uuid=UUIDS[0], mig=True, mig_uuids=MIGS), Gpu(uuid=UUIDS[1], mig=False))
    assert "MIG: the energy of the whole board" in boards()["nvml:0"].note
    assert boards()["nvml:1"].note is None


VISIBLE = [
    (None, {0, 1, 2, 3}),
    ("", set()),
    ("-1", set()),
    ("NoDevFiles", set()),
    ("0", {0}),
    ("2,0", {0, 2}),
    (" 1 , 3 ", {1, 3}),
    ("0,-1,2", {0}),
    ("0,9,2", {0}),
    (UUIDS[2], {2}),
    ("GPU-00000001", {1}),
    (f"{UUIDS[3]},{UUIDS[0]}", {0, 3}),
    (MIGS[1], {0}),
    (f"MIG-{UUIDS[0]}/1/0", {0}),
    ("MIG-99999999-aaaa", set()),
    ("GPU-", set()),  # the beginning of several
    ("3,GPU-0000,1", {3}),
    ("MIG-", set()),
    ("1abc", set()),
    ("٣", set()),
    (",0", set()),
    ("1,,2", {1}),
    ("2,2", {2}),
    ("void", set()),
    ("99999999999999999999999", set()),
]


@pytest.mark.parametrize(("variable", "shown"), VISIBLE)
def test_cuda_visible_devices_hides_boards_from_the_default_choice(nvml, python, variable, shown):
    nvml(Gpu(uuid=UUIDS[0], mig=True, mig_uuids=MIGS), *BOARDS[1:])
    env = {} if variable is None else {"CUDA_VISIBLE_DEVICES": variable}
    done = python(
        """
        import json, fastgreen as fg
        listed = {c.id: [c.visible, c.note] for c in fg.channels() if c.id.count(":") and "/" not in c.id}
        chosen = [c.id for c in fg.Monitor().channels if c.source == "nvml" and "/" not in c.id]
        print(json.dumps([listed, chosen]))
        """,
        env=env,
    )
    listed, chosen = json.loads(done.stdout)
    assert chosen == [f"nvml:{n}" for n in sorted(shown)]
    for n in range(4):
        visible, note = listed[f"nvml:{n}"]
        assert visible == (n in shown)
        assert visible or "hidden by CUDA_VISIBLE_DEVICES" in note


def test_a_hidden_board_can_be_asked_for_by_name(nvml, monkeypatch):
    nvml(*BOARDS[:2])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert [c.id for c in fg.Monitor("nvml:0").channels] == ["nvml:0"]


def test_boards_that_differ_warn_that_cuda_counts_otherwise(nvml, monkeypatch):
    nvml(Gpu(uuid=UUIDS[0], name="NVIDIA A"), Gpu(uuid=UUIDS[1], name="NVIDIA B"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert "fastest first" in boards()["nvml:0"].note
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert "fastest first" not in (boards()["nvml:0"].note or "")


def test_eight_boards_are_listed_in_bus_order_under_their_uuids(nvml):
    fake = nvml(*(Gpu() for _ in range(8)))
    listed = _core.nvml_devices(str(fake.library))
    found = boards()
    assert [f"nvml:{d['index']}" for d in listed["devices"]] == [i for i in found if "/" not in i]
    assert len({c.device for c in found.values()}) == 8
    assert listed["driver"] == fake.driver


def test_two_libraries_live_side_by_side(tmp_path):
    first, second = (FakeNvml(tmp_path / name, [Gpu(name=name)]) for name in ("one", "two"))
    for _ in range(3):
        for fake, name in ((first, "one"), (second, "two")):
            listed = _core.nvml_devices(os.fspath(fake.library))
            assert [d["name"] for d in listed["devices"]] == [name]
