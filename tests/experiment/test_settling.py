"""Warm-up and rest found from time and power: the rule on series with drift, steps and noise; the whole on counters."""

from __future__ import annotations

import json
import math
import statistics
import time

import numpy as np
import pytest
from click.testing import CliRunner

from fastgreen.cli import main
from fastgreen.experiment.compile import compile_study
from fastgreen.experiment.protocols import for_callable
from fastgreen.experiment.runner import Study
from fastgreen.experiment.settling import (
    BLOCK_S,
    FILE,
    NOT_SEEN,
    Rest,
    Resting,
    WarmUp,
    drift,
    read_settling,
    rest,
    warm_up,
)
from fastgreen.measuring.monitor import Monitor
from fastgreen.reports.precision import Known, check_repeats, enough
from fastgreen.reports.ratio import Outcomes, alone
from tests.fakes.powercap import Zone, moving
from tests.fakes.wave import Ramp, Steps


def ended_at(series, ahead_s=1.0):
    """(Seconds of warm-up, whether it settled), a block a value."""
    state = WarmUp(power=False, ahead_s=ahead_s)
    for value in series:
        state.add([value * BLOCK_S], None)
        if state.ended:
            break
    return state.seconds, state.settled


TIMES = np.arange(400) * BLOCK_S


def noisy(level, scatter, seed):
    return level * (1 + scatter * np.random.default_rng(seed).standard_normal(len(TIMES)))


def test_the_drift_is_that_of_the_definition():
    values = np.random.default_rng(0).uniform(1, 2, 50)
    older, newer = values[-24:-12].tolist(), values[-12:].tolist()
    change, half_width = drift(values)
    assert change == pytest.approx(math.log(statistics.mean(newer) / statistics.mean(older)) / 12)
    relative = [statistics.variance(x) / 12 / statistics.mean(x) ** 2 for x in (older, newer)]
    assert half_width == pytest.approx(2.0738730679 * math.sqrt(sum(relative)) / 12)  # t of 22 degrees of freedom
    assert all(math.isnan(x) for x in drift(values[:15]))


@pytest.mark.parametrize(
    ("name", "level", "scatter", "ahead_s", "earliest_s", "latest_s"),
    [
        ("steady", np.ones_like(TIMES), 0.01, 1, 3.1, 4),
        ("noise", np.ones_like(TIMES), 0.05, 1, 3.1, 10),
        ("a step", np.where(TIMES > 2.5, 1.15, 1), 0.02, 1, 4, 8),
        ("a later step", np.where(TIMES > 10, 1.15, 1), 0.1, 1, 5, 20),
        ("a curve that levels off", 1 + 0.3 * np.exp(-TIMES / 5), 0.02, 10, 12, 40),
        ("a long run ahead", np.ones_like(TIMES), 0.02, 30, 10, 50),
    ],
)
def test_a_series_that_settles_ends_the_warm_up(name, level, scatter, ahead_s, earliest_s, latest_s):
    for seed in range(20):
        seconds, settled = ended_at(noisy(level, scatter, seed), ahead_s)
        assert settled
        assert earliest_s <= round(seconds, 3) <= latest_s


@pytest.mark.parametrize(
    ("level", "scatter", "ahead_s"),
    [
        (1 + 0.01 * TIMES, 0.02, 10),  # one percent a second
        (1 + 0.01 * TIMES, 0.2, 10),
        (1 - 0.004 * TIMES, 0.02, 30),
        (np.ones_like(TIMES), 0.3, 30),  # noise that hides any drift
    ],
)
def test_a_drift_or_noise_that_hides_one_goes_on_to_the_limit_and_says_so(level, scatter, ahead_s):
    for seed in range(10):
        seconds, settled = ended_at(noisy(level, scatter, seed), ahead_s)
        assert not settled
        assert seconds >= 60
    state = WarmUp(power=True, ahead_s=ahead_s, most_s=1)
    state.add([1.0, 1.0], 50.0)
    outcome = state.outcome()
    assert (outcome.state, outcome.inferences, outcome.seconds) == ("limit", 2, 2.0)
    assert outcome.note == "not settled within 1 s; the run may change by: time is not known, power is not known"


def test_the_power_must_settle_too():
    state = WarmUp(power=True, ahead_s=10)
    for n in range(60):
        state.add([BLOCK_S], 100 - 0.5 * n)
    assert state.time.settled
    assert not state.ended
    for _ in range(100):
        state.add([BLOCK_S], 70.0)
    assert state.ended
    assert state.outcome().state == "settled"


def resting(powers, idle_w):
    state = Resting(idle_w, most_s=40)
    for watts in powers:
        state.add(BLOCK_S, watts)
        if state.ended:
            break
    return state.outcome()


def test_a_rest_ends_when_the_power_is_back_at_idle():
    cooling = 10 + 5 * np.exp(-TIMES / 2)
    first = resting(cooling, None)
    assert first.state == "settled"
    assert first.idle_w == pytest.approx(10, rel=0.01)
    later = resting(cooling, 10.0)
    assert later.state == "back at idle"
    # 5 % above 10 W is reached after 2 ln(10) s; the median of five blocks is two blocks behind
    assert later.seconds == pytest.approx(2 * math.log(10) + 2 * BLOCK_S, abs=2 * BLOCK_S)
    busy = resting(np.full(400, 14.0), 10.0)
    assert busy.state == "settled above idle"
    assert busy.note == "the power settled at 14 W, above the idle power of 10 W before"
    assert busy.idle_w == 10.0
    lower = resting(np.full(400, 9.0), 10.0)
    assert (lower.state, lower.idle_w) == ("back at idle", 9.0)


def test_a_rest_is_bounded_and_says_so():
    falling = 100 * np.exp(-TIMES / 60)
    found = resting(falling, 10.0)
    assert found.state == "limit"
    assert found.seconds == pytest.approx(40, abs=BLOCK_S)
    assert "had not come back to the idle power of 10 W within 40 s of rest; it is 5" in found.note
    assert resting([None] * 400, None).note == "the power had not settled within 40 s of rest"


# ---- on counters that move ----


def test_the_warm_up_and_the_rest_follow_the_counters(tmp_path):
    with moving(tmp_path, Zone(watts=Ramp(20, 60, 2))) as tree:
        options = {"powercap_root": tree.root, "hz": 200}
        found = warm_up(lambda: time.sleep(0.02), Monitor("rapl:*", **options), 50)
    assert found.state == "settled"
    assert found.power_drift <= 0.05
    assert found.seconds > 3
    assert found.inferences > 100
    with moving(tmp_path / "rest", Zone(watts=Steps(((0, 40), (1, 10))))) as tree:
        found = rest(Monitor("rapl:*", powercap_root=tree.root, hz=200), 10.0)
    assert found.state == "back at idle"
    assert 1 < found.seconds < 20  # it may take 40 s
    assert found.power_w == pytest.approx(10, rel=0.05)


@pytest.mark.slow
def test_a_study_records_both_and_compile_shows_them(tmp_path, monkeypatch):
    with moving(tmp_path / "counters", Zone(watts=15.0)) as tree:
        monkeypatch.setenv("FASTGREEN_POWERCAP_ROOT", str(tree.root))
        made = for_callable(lambda n: time.sleep(0.01), [1], iterations=10, name="nap", warmup="auto")
        study = Study(tmp_path / "s", made, repeats=2, pause_s="auto", channels=["rapl:*"], hz=200)
        assert [s.state for s in study.run(progress=False)] == ["done", "done"]
    (_, first), (warm, second) = (read_settling(tmp_path / "s" / "input_1" / f"run_{k}") for k in range(2))
    assert first.state == "settled"
    assert second.state == "back at idle"
    assert first.idle_w == pytest.approx(15, rel=0.05)
    assert warm.state == "settled"
    compiled = compile_study(tmp_path / "s")
    (row,) = compiled.sizes.to_pylist()
    assert row["warmup_s"] >= 3.2
    assert row["rest_s"] >= 1
    assert compiled.runs.column("rest").to_pylist() == ["settled", "back at idle"]
    assert any(note.startswith("warm-up, found from time and power: ") for note in compiled.notes)
    assert any(note.startswith("rest before a run, found from the power: ") for note in compiled.notes)


def test_on_the_estimate_the_rest_cannot_be_seen_and_that_is_said(tmp_path):
    (tmp_path / "nap.py").write_text("import time\ndef build(n):\n    return lambda: time.sleep(n / 1000)\n")
    words = ["bench", f"{tmp_path}/nap.py:build", "--sizes", "5", "-r", "1", "--iterations", "3", "-c", "procstat:*"]
    done = CliRunner().invoke(main, [*words, "--pause", "auto", "--warmup", "auto", "-o", str(tmp_path / "s")])
    assert done.exit_code == 0, done.output
    assert NOT_SEEN in done.output
    assert "warm-up, found from time (no power is measured): " in done.output
    there = json.loads((tmp_path / "s" / "input_5" / "run_0" / FILE).read_text())
    assert there["rest"]["state"] == "not seen"
    assert there["warmup"]["power_drift"] is None
    assert NOT_SEEN in compile_study(tmp_path / "s").notes


@pytest.mark.parametrize("text", ["[]", "{", '{"rest": {"state": "settled"}}', '{"rest": 3, "warmup": {"a": 1}}'])
def test_a_damaged_file_of_a_run_is_not_read(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    assert read_settling(tmp_path) == (None, None)


@pytest.mark.parametrize("huge", [10**400, -(10**400), True])
def test_a_number_of_a_stranger_that_no_float_can_hold_is_none(tmp_path, huge):
    good = {name: "settled" if name == "state" else "" if name == "note" else 1.0 for name in Rest.__dataclass_fields__}
    (tmp_path / FILE).write_text(json.dumps({"rest": good}))
    assert read_settling(tmp_path)[1] is not None
    numbers = [name for name in good if name not in ("state", "note")]
    for name in numbers:
        (tmp_path / FILE).write_text(json.dumps({"rest": {**good, name: huge}}))
        assert read_settling(tmp_path) == (None, None)


def test_a_model_that_fails_in_its_warm_up_is_a_failed_run(tmp_path):
    def model(size):
        raise ValueError("too large")

    made = for_callable(model, [1], iterations=1, name="fails", warmup="auto")
    (status,) = Study(tmp_path, made, repeats=1, channels=["procstat:*"]).run(progress=False)
    assert (status.state, status.error) == ("failed", "ValueError: too large")


# ---- repeats by precision ----


def test_the_interval_of_the_mean_of_repeats():
    energies = np.array([1.0, 1.1, 0.9, 1.05])
    scatter, meter = alone(Outcomes(energies, energies / 1.02, energies * 1.01, np.ones(4)))
    logs = np.log(energies)
    assert scatter == pytest.approx(3.1824463053 * logs.std(ddof=1) / 2)  # t of 3 degrees of freedom
    assert meter == pytest.approx(math.log(1.02))
    first, _ = alone(Outcomes(energies, energies, energies, np.ones(4)), first=3)
    assert first == pytest.approx(4.3026527297 * logs[:3].std(ddof=1) / 2)
    zero = np.zeros(3)
    assert alone(Outcomes(zero, zero, zero, zero))[1] == math.inf


def test_one_rule_ends_the_repeats():
    assert not enough([Known("x", 0.0, 0.0)], 0.02, 7, 1000).ended
    assert enough([Known("x", 0.01, 0.005)], 0.02, 8, 1000) == (True, None)
    assert not enough([Known("x", 0.01, 0.005), Known("y", 0.02, 0.005)], 0.02, 8, 1000).ended
    ended, note = enough([Known("the energy at size 5", 0.001, 0.05)], 0.02, 8, 1000)
    assert ended
    assert note.startswith("the sensors know the energy at size 5 to ±5.1 %, so no number of repeats reaches ±2.0 %")
    assert enough([Known("x", 0.05, 0.0)], 0.02, 12, 12).note == "12 repeats reach ±5.1 %, not ±2.0 %"
    assert [check_repeats(*x, 10) for x in ((None, None), (3, None), (None, 0.02), (20, 0.02))] == [10, 3, 1000, 20]
    with pytest.raises(ValueError, match="at least 8 with --until, not 3"):
        check_repeats(3, 0.02, 10)


@pytest.mark.slow
def test_a_study_repeats_each_size_until_it_is_known_well_enough(tmp_path, monkeypatch):
    """The number of runs is the smallest at which the rule holds, worked out anew from the saved energies."""
    lengths = iter([0.1, 0.16] * 50)

    def model(size):
        time.sleep(0.08 if size == "same" else next(lengths))

    with moving(tmp_path / "counters", Zone(watts=15.0)) as tree:
        monkeypatch.setenv("FASTGREEN_POWERCAP_ROOT", str(tree.root))
        made = for_callable(model, ["same", "other"], iterations=1, name="naps", warmup=0)
        options = {"until": 0.2, "order": "rounds", "channels": ["rapl:*"], "hz": 1000}
        study = Study(tmp_path / "s", made, repeats=20, **options)
        assert len(study.pending()) == 16
        statuses = study.run(progress=False)
        assert Study(tmp_path / "s", made, repeats=20, **options).pending() == []
    compiled = compile_study(tmp_path / "s")
    for size, precision in zip(*(compiled.sizes.column(x).to_pylist() for x in ("size", "precision")), strict=True):
        count = sum(s.size == size for s in statuses)
        rows = [row for row in compiled.runs.to_pylist() if row["size"] == size]
        logs = [math.log(row["energy_j"]) for row in rows]
        meters = [
            max(math.log(r["energy_high_j"] / r["energy_j"]), math.log(r["energy_j"] / r["energy_low_j"])) for r in rows
        ]
        counts = range(8, count + 1)
        meter = {n: statistics.mean(meters[:n]) for n in counts}
        width = {n: 2.3646242510 * statistics.stdev(logs[:8]) / math.sqrt(n) + meter[n] for n in counts}
        wanted = math.log(1.2)
        assert next((n for n in counts if width[n] <= wanted or meter[n] >= wanted), 20) == count
        assert precision == pytest.approx(math.expm1(width[count]))
        assert precision <= 0.2 or study.precision_notes()


def test_a_size_that_fails_does_not_repeat_for_ever(tmp_path):
    def model(size):
        raise ValueError("no")

    study = Study(tmp_path, for_callable(model, [1], iterations=1), repeats=1000, until=0.02, channels=["procstat:*"])
    assert len(study.run(progress=False)) == 1
    assert study.pending() == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--until", "2"], "such as 2%"),
        (["--until", "2%", "-r", "3"], "--repeats must be at least 8 with --until, not 3"),
        (["--warmup", "-1"], "must be a whole number of 0 or above, or auto, not '-1'"),
        (["--warmup", "0.5"], "must be a whole number of 0 or above, or auto, not '0.5'"),
        (["--pause", "nan"], "must be a number of 0 or above, or auto, not 'nan'"),
        (["--pause", "inf"], "must be a number of 0 or above, or auto, not 'inf'"),
    ],
)
def test_what_was_asked_wrongly_is_said(tmp_path, words, sentence):
    (tmp_path / "nap.py").write_text("def build(n):\n    return lambda: None\n")
    done = CliRunner().invoke(main, ["bench", f"{tmp_path}/nap.py:build", "--sizes", "5", *words, "-o", "s"])
    assert done.exit_code == 2
    assert sentence in " ".join(done.output.replace("│", " ").split())
