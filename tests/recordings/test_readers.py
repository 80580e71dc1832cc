"""nvidia-smi, CodeCarbon and OmegaWatt: units and decimals kept, bad rows dropped and counted, nothing invented."""

from __future__ import annotations

import pytest

from fastgreen.errors import TraceError
from fastgreen.recordings.readers import format_of, read, read_codecarbon, read_nvidia_smi, read_omegawatt
from tests.oracles.places import SHARED

TRACE = SHARED / "training-runs" / "gpu-power-cloud-mobilenet_v2.csv"


@pytest.mark.skipif(not TRACE.exists(), reason=f"the published trace is not at {TRACE}")
def test_the_published_trace_gives_its_published_energy():
    recording = read(TRACE, drop_first=3, drop_last=3)
    assert recording.energy_j()["gpu:0"] / 1e6 == pytest.approx(0.416474893, abs=1e-9)
    assert recording.duration_s / 3600 == pytest.approx(0.734750278, abs=1e-9)
    assert recording.channels.to_pylist()[0]["samples"] == 2643
    assert recording.notes == []


def rows(header: str, *lines: str) -> str:
    return "\n".join([header, *lines]) + "\n"


DAY = "2023/05/01 10:00:0"


@pytest.mark.parametrize(
    ("header", "values"),
    [
        ("timestamp, power.draw [W]", ["53.93 W", "53.93 W", "53.93 W"]),
        ("timestamp, power.draw [W]", ["53.93", "53.93", "53.93"]),
        ("timestamp, power.draw", ["53.93 W", "53.93", "53930 mW"]),
        ("timestamp,gpu_power_draw", ["53.93 W", "53.93W", "0.05393 kW"]),
        ("timestamp, power.draw [mW]", ["53930", "53.93 W", "53930"]),
    ],
)
def test_units_are_read_with_their_decimals_in_every_form_of_header(tmp_path, header, values):
    file = tmp_path / "log.csv"
    file.write_text(rows(header, *(f"{DAY}{i}.000, {v}" for i, v in enumerate(values))))
    assert read_nvidia_smi(file).energy_j()["gpu:0"] == pytest.approx(2 * 53.93, rel=1e-12)


def test_wrong_units_and_missing_values_are_absent_and_counted(tmp_path):
    file = tmp_path / "log.csv"
    values = ["50.0 W", "50.0 W", "[N/A]", "[Not Supported]", "50.0 C", "50.0 W", "50.0 W", "-1 W"]
    file.write_text(rows("timestamp, power.draw [W]", *(f"{DAY}{i}, {v}" for i, v in enumerate(values))))
    recording = read_nvidia_smi(file)
    assert recording.energy_j()["gpu:0"] == pytest.approx(100.0)
    assert recording.channels.to_pylist()[0]["absent"] == 4
    assert recording.notes == [
        "1 negative power: absent",
        "3 values without a number or with a unit that does not fit: absent",
    ]


def test_two_gpus_in_one_log_are_two_roots(tmp_path):
    file = tmp_path / "log.csv"
    lines = [f"{DAY}{i}.5, {gpu}, {100.0 * (gpu + 1)} W, {10 * gpu} %, 1024 MiB" for i in range(4) for gpu in (0, 1)]
    file.write_text(rows("timestamp, index, power.draw [W], utilization.gpu [%], memory.used [MiB]", *lines))
    recording = read_nvidia_smi(file)
    assert recording.energy_j() == {"gpu:0": pytest.approx(300.0), "gpu:1": pytest.approx(600.0)}
    assert recording.total_j == pytest.approx(900.0)
    means = {row["id"]: row["mean"] for row in recording.channels.to_pylist()}
    assert means["gpu:1/use"] == pytest.approx(0.1)
    assert means["gpu:0/memory"] == 1 << 30


def test_repeated_headers_cut_rows_and_time_going_back_do_not_add_energy(tmp_path):
    head = "timestamp, power.draw [W]"
    file = tmp_path / "log.csv"
    file.write_text(
        rows(head, f"{DAY}5, 10 W", f"{DAY}6, 10 W", head, f"{DAY}2, 10 W", f"{DAY}3, 10 W", "2023/05/01 10:0")
    )
    recording = read_nvidia_smi(file)
    assert recording.energy_j()["gpu:0"] == pytest.approx(20.0)
    assert recording.dropped == 1
    assert any("time goes back" in note for note in recording.notes)


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "timestamp,name\nx,y\n"])
def test_a_file_that_is_no_log_says_what_it_lacks(tmp_path, text):
    file = tmp_path / "log.csv"
    file.write_text(text)
    with pytest.raises(TraceError, match=r"no timestamp and power\.draw"):
        read_nvidia_smi(file)
    with pytest.raises(TraceError, match="unknown format"):
        format_of(file)


def test_drop_below_zero_names_its_argument(tmp_path):
    with pytest.raises(ValueError, match="drop_last must be 0 or above, not -1"):
        read_nvidia_smi(tmp_path / "log.csv", drop_last=-1)


EMISSIONS = (
    "timestamp,project_name,run_id,duration,emissions,cpu_power,cpu_energy,gpu_energy,ram_energy,energy_consumed"
)


def test_codecarbon_kwh_become_joules_by_part(tmp_path):
    file = tmp_path / "emissions.csv"
    file.write_text(
        rows(
            EMISSIONS,
            "2024-05-27T11:31:35,p,run-a,300.5,0.1,42.5,0.0035,0.027,0.0026,0.0331",
            "2024-05-27T12:31:35,p,run-b,100,0.1,42.5,0.001,0.002,0.003,0.006",
        )
    )
    recording = read(tmp_path)
    energy = recording.energy_j()
    assert energy["cpu"] == pytest.approx(0.0045 * 3.6e6, rel=1e-9)
    assert energy["gpu"] == pytest.approx(0.029 * 3.6e6, rel=1e-9)
    assert energy["ram"] == pytest.approx(0.0056 * 3.6e6, rel=1e-9)
    assert recording.total_j == pytest.approx(sum(energy[part] for part in ("cpu", "gpu", "ram")))
    assert recording.duration_s == pytest.approx(400.5)


def test_codecarbon_flushes_of_one_run_count_once(tmp_path):
    file = tmp_path / "emissions.csv"
    lines = [f"2024-05-27T11:31:{s},p,one,{s},0,0,{s}e-6,0,0,{s}e-6" for s in (10, 20, 30)]
    file.write_text(rows(EMISSIONS, *lines))
    assert read_codecarbon(file).energy_j()["cpu"] == pytest.approx(30e-6 * 3.6e6)


def test_codecarbon_of_an_early_version_has_its_total_alone(tmp_path):
    file = tmp_path / "emissions.csv"
    file.write_text(rows("timestamp,duration,emissions,energy_consumed", "2021-05-27T11:31:35,60,0.1,0.5", "bad,,,"))
    recording = read_codecarbon(file)
    assert recording.total_j == pytest.approx(0.5 * 3.6e6)
    assert recording.absent == ["cpu", "gpu", "ram"]
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(TraceError, match=r"not an emissions\.csv"):
        read_codecarbon(tmp_path / "x.csv")


def test_omegawatt_drops_bad_frames_and_a_cut_last_row(tmp_path):
    head = "#timestamp,#frame_is_ok,#U,#activepow1,#activepow2"
    lines = [
        f"{1700000000 + i / 100:.2f},{'false' if i == 3 else 'true'},230,{1000 if i == 3 else 50},7" for i in range(11)
    ]
    (tmp_path / "omegawatt.csv").write_text("a line of the driver\n" + rows(head, *lines) + "1700000000.11,tr")
    recording = read(tmp_path)
    assert recording.energy_j()["wall:1"] == pytest.approx(5.0, rel=1e-9)
    assert recording.energy_j()["wall:2"] == pytest.approx(0.7, rel=1e-9)
    assert recording.dropped == 2
    assert recording.points("wall:1")[0][1] == 1700000000_010000000


def test_omegawatt_does_not_bridge_a_long_hole(tmp_path):
    file = tmp_path / "wall.csv"
    moments = (0, 1, 2, 50, 51)
    file.write_text(rows("#timestamp,#frame_is_ok,#activepow1", *(f"{1.7e9 + t:.3f},True,10" for t in moments)))
    assert read_omegawatt(file, max_gap_s=5).energy_j()["wall:1"] == pytest.approx(30.0)
    assert read_omegawatt(file, max_gap_s=100).energy_j()["wall:1"] == pytest.approx(510.0)
    with pytest.raises(ValueError, match="max_gap_s"):
        read_omegawatt(file, max_gap_s=0)
    (tmp_path / "x.csv").write_text("a,b\n")
    with pytest.raises(TraceError, match="no columns #timestamp"):
        read_omegawatt(tmp_path / "x.csv")
