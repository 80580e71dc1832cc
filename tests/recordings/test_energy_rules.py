"""Rules other than the integral: AIPowerMeter's median of steps, and its window of whole steps."""

from __future__ import annotations

import json
import statistics
from datetime import datetime, timedelta

import numpy as np
import pytest
from click.testing import CliRunner

from fastgreen.cli import main
from fastgreen.experiment import compile_study
from fastgreen.recordings.energy_rules import median_energies, window_energies
from fastgreen.recordings.readers import read_aipowermeter

NOON = datetime(2022, 3, 1, 12)
EPOCH = 1646136000.0  # the same, in UTC


def write(folder, seconds, watts, latencies=None, memory=None, marker_after=None):
    folder.mkdir(parents=True)
    lines = []
    for i, (at, w) in enumerate(zip(seconds, watts, strict=True)):
        cpu = {"intel_power": w, "per_process_mem_use_abs": {"1": (memory or watts)[i]}}
        lines.append(
            json.dumps({"date": f"{NOON + timedelta(seconds=at):%Y-%m-%d %H:%M:%S.%f}", "metrics": {"cpu": cpu}})
        )
        if i == marker_after:
            lines.append(json.dumps("END OF RECORDING SEGMENT"))
    (folder / "power_metrics.json").write_text("\n".join(lines) + "\n")
    if latencies is not None:
        (folder / "latency.csv").write_text("\n".join(map(str, latencies)) + "\n")
    return folder


def median_by_hand(seconds, watts):
    steps = [(t2 - t1) * (w1 + w2) / 2 for t1, t2, w1, w2 in zip(seconds, seconds[1:], watts, watts[1:], strict=False)]
    return statistics.median(steps) * len(steps)


def window_by_hand(seconds, watts, low, high):
    """Walks from both ends to the first reading inside the window, as the original does."""
    first, last = 0, len(seconds) - 1
    while first <= last and seconds[first] < low:
        first += 1
    while last >= first and seconds[last] > high:
        last -= 1
    return sum((seconds[i + 1] - seconds[i]) * (watts[i] + watts[i + 1]) / 2 for i in range(first, last))


def drawn(seed, size=40):
    rng = np.random.default_rng(seed)
    return np.round(np.cumsum(rng.uniform(1.9, 2.6, size)), 3).tolist(), np.round(rng.uniform(20, 90, size), 2).tolist()


@pytest.mark.parametrize("seed", range(5))
def test_the_median_rule_is_the_one_of_the_script(tmp_path, seed):
    seconds, watts = drawn(seed, 30 + seed)
    recording = read_aipowermeter(write(tmp_path / "run", seconds, watts))
    assert median_energies(recording)["package"] == pytest.approx(median_by_hand(seconds, watts), rel=1e-9)


def test_one_peak_changes_the_integral_and_not_the_median(tmp_path):
    watts = [50.0] * 20
    watts[7] = 500.0
    recording = read_aipowermeter(write(tmp_path / "run", [2.0 * i for i in range(20)], watts))
    assert median_energies(recording)["package"] == pytest.approx(19 * 100)
    assert recording.energy_j()["package"] == pytest.approx(19 * 100 + 900)


def test_no_step_of_the_median_crosses_a_marker(tmp_path):
    seconds = [0, 2, 4, 1000, 1002, 1004]
    recording = read_aipowermeter(write(tmp_path / "run", seconds, [10] * 6, marker_after=2))
    assert median_energies(recording)["package"] == pytest.approx(4 * 20)


@pytest.mark.parametrize("seed", range(5))
def test_the_window_rule_takes_whole_steps_inside(tmp_path, seed):
    seconds, watts = drawn(seed)
    recording = read_aipowermeter(write(tmp_path / "run", seconds, watts))
    rng = np.random.default_rng(seed + 100)
    for _ in range(20):
        low, high = np.sort(rng.uniform(-5, 110, 2))
        found = window_energies(recording, EPOCH + low, EPOCH + high, whole_steps=True)["package"]
        assert found == pytest.approx(window_by_hand(seconds, watts, low, high), rel=1e-6, abs=1e-6)
        cut = window_energies(recording, EPOCH + low, EPOCH + high)["package"]
        grid = np.linspace(max(low, seconds[0]), min(high, seconds[-1]), 200_001)
        fine = np.trapezoid(np.interp(grid, seconds, watts), grid) if grid[-1] > grid[0] else 0.0
        assert cut == pytest.approx(fine, rel=1e-4, abs=1e-2)
        assert found <= cut + 1e-6
    whole = window_energies(recording)["package"]
    assert whole == pytest.approx(recording.energy_j()["package"], rel=1e-9)


def test_a_window_outside_is_zero_and_a_turned_one_is_refused(tmp_path):
    recording = read_aipowermeter(write(tmp_path / "run", *drawn(1)))
    assert window_energies(recording, EPOCH - 100, EPOCH - 50, whole_steps=True) == {"package": 0.0}
    assert window_energies(recording, EPOCH + 1e6)["package"] == 0.0
    for start, end in ((2.0, 1.0), (float("nan"), 1.0)):
        with pytest.raises(ValueError, match="end_s must be at least start_s"):
            window_energies(recording, start, end)


def study(tmp_path):
    expected = {}
    for size in (100, 200):
        energies, memories = [], []
        for run in range(3):
            seconds, watts = drawn(size + run, 21)
            memory = [1000 + 10 * i for i in range(21)]
            write(tmp_path / f"input_{size}" / f"run_{run}", seconds, watts, [0.1, 0.2, 0.3, 0.4], memory)
            energies.append(median_by_hand(seconds, watts) / 4)
            memories.append(statistics.median(memory) * 21 / 4)
        expected[size] = statistics.median(energies), statistics.median(memories)
    return expected


def test_a_study_is_compiled_by_the_rule_that_is_asked_for(tmp_path):
    expected = study(tmp_path)
    compiled = compile_study(tmp_path, rule="aipowermeter")
    for row in compiled.sizes.to_pylist():
        energy, memory = expected[int(row["size"])]
        assert row["energy_j"] == pytest.approx(energy, rel=1e-9)
        assert row["memory_b"] == pytest.approx(memory, rel=1e-9)
        assert row["latency_s"] == pytest.approx(0.25)
    assert any("AIPowerMeter's rule" in note for note in compiled.notes)
    plain = compile_study(tmp_path)
    assert plain.notes == []
    assert plain.sizes["energy_j"].to_pylist() != compiled.sizes["energy_j"].to_pylist()
    with pytest.raises(ValueError, match="rule must be one of integral, aipowermeter, not 'mean'"):
        compile_study(tmp_path, rule="mean")


def test_the_commands_take_both_rules(tmp_path):
    expected = study(tmp_path / "study")
    done = CliRunner().invoke(
        main, ["compile", str(tmp_path / "study"), "--rule", "aipowermeter", "--no-pictures", "--json"]
    )
    assert done.exit_code == 0, done.output
    sizes = json.loads(done.stdout)["sizes"]
    assert [row["energy_j"] for row in sizes] == pytest.approx([energy for energy, _ in expected.values()])
    seconds, watts = drawn(3)
    folder = str(write(tmp_path / "run", seconds, watts))
    words = ["import", folder, "--from", "2022-03-01 12:00:10", "--until", str(EPOCH + 31.5), "--json"]
    for extra in ([], ["--whole-steps"]):
        done = CliRunner().invoke(main, [*words, *extra])
        assert done.exit_code == 0, done.output
        found = json.loads(done.stdout)["window"]["package"]
        if extra:
            assert found == pytest.approx(window_by_hand(seconds, watts, 10, 31.5), rel=1e-6)
        else:
            assert found > window_by_hand(seconds, watts, 10, 31.5)
    assert "in the window" in CliRunner().invoke(main, words[:-1]).output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--whole-steps"], "--whole-steps needs --from or --until"),
        (["--from", "yesterday"], "must be seconds since 1970 or time stamps, not 'yesterday'"),
        (["--from", "20", "--until", "10"], "--until must not be before --from"),
    ],
)
def test_a_window_that_is_no_window_is_refused(tmp_path, options, said):
    folder = write(tmp_path / "run", *drawn(1))
    done = CliRunner().invoke(main, ["import", str(folder), *options])
    assert done.exit_code == 2
    assert said in done.output
