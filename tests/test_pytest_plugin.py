"""The pytest plugin through its entry point, in pytest runs of their own, with the real pytest-benchmark."""

from __future__ import annotations

import json
import os
import re
import tomllib
from pathlib import Path

import pytest

from tests.fakes.powercap import Zone
from tests.oracles.places import ROOT

WAITS = """
    import time, pytest

    @pytest.mark.energy(budget_j={budget})
    def test_waits():
        time.sleep(0.1)
"""


@pytest.fixture
def run(pytester, monkeypatch, tmp_path):
    """Runs pytest with the plugin installed as pyproject.toml does it."""
    entries = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    place = tmp_path / "site" / "fastgreen-0.1.0.dist-info"
    place.mkdir(parents=True)
    (place / "METADATA").write_text("Metadata-Version: 2.1\nName: fastgreen\nVersion: 0.1.0\n")
    (place / "entry_points.txt").write_text("[pytest11]\n" + "".join(f"{n} = {m}\n" for n, m in entries.items()))
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)  # pytest-benchmark measures nothing where tests run in parallel
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(place.parent), str(ROOT), os.environ.get("PYTHONPATH", "")]))

    def run(*arguments: object, source: str = ""):
        if source:
            pytester.makepyfile(test_it=source)
        return pytester.runpytest_subprocess("-p", "no:cacheprovider", *arguments)

    return run


@pytest.fixture
def tree(powercap):
    return powercap(Zone("package-0", 60.0), move=True)  # 6 J in 0.1 s


def test_a_test_fails_only_where_the_least_energy_is_above_its_budget(tree, run):
    done = run(source=WAITS.format(budget=1))
    done.assert_outcomes(failed=1)
    done.stdout.re_match_lines([r".*test_waits used [\d.]+ J \([\d.]+ \.\. [\d.]+ J\), above its budget of 1\.000 J"])
    run(source=WAITS.format(budget=600)).assert_outcomes(passed=1)


def test_a_budget_within_the_bounds_is_a_warning(powercap, run):
    powercap(Zone("package-0", 60.0), move=True, period_s=0.2)
    one = WAITS.format(budget="BUDGET").replace("0.1", "0.3")
    budgets = ("14", "18", "22", "26")  # of 18 J, by updates of 12 J: where they fall in the test is chance
    source = "".join(one.replace("BUDGET", b).replace("waits", f"waits_{i:02}") for i, b in enumerate(budgets))
    text = run("-rA", "-Wdefault", source=source).stdout.str()
    warned = re.findall(r"(test_waits_\d\d) used .*cannot tell whether that is within its budget", text)
    assert warned
    assert set(warned) <= set(re.findall(r"^PASSED .*::(test_waits_\d\d)$", text, re.MULTILINE)), text


@pytest.mark.parametrize("budget", ["0", "-1", "float('nan')", "float('inf')", "True", "'5'"])
def test_a_bad_budget_is_a_sentence(tree, run, budget):
    done = run(source=WAITS.format(budget=budget))
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*energy: budget_j must be a number of joules above 0, not *"])


@pytest.mark.parametrize(
    ("policy", "outcome"), [("skip", {"skipped": 1}), ("warn", {"passed": 1, "warnings": 1}), ("fail", {"failed": 1})]
)
def test_without_counters_the_flag_decides(run, policy, outcome):
    done = run(f"--energy-without-counters={policy}", "-rs", source=WAITS.format(budget=1))
    done.assert_outcomes(**outcome)
    assert "no energy counter can be read" in done.stdout.str()


FIXTURE = """
    import time, pytest

    def test_block(energy):
        with energy(budget_j=600) as m:
            with pytest.raises(RuntimeError, match="after the block"):
                m.energy_j
            time.sleep(0.05)
        assert 0 < m.energy_low_j <= m.energy_j <= m.energy_high_j

    def test_too_much(energy):
        with energy(budget_j=0.1):
            time.sleep(0.05)

    def test_bad(energy):
        with energy(budget_j=0):
            pass
"""


def test_the_fixture_measures_a_block_and_holds_its_budget(tree, run):
    done = run(source=FIXTURE)
    done.assert_outcomes(passed=1, failed=2)
    done.stdout.fnmatch_lines(["*test_too_much used *above its budget of 100.0 mJ*"])
    done.stdout.fnmatch_lines(["*budget_j must be a number of joules above 0, not 0*"])


IDLE = """
    import sys

    def test_nothing_is_loaded():
        assert "fastgreen.pytest_plugin" in sys.modules
        ours = [name for name in sys.modules if name.startswith("fastgreen.") and name != "fastgreen.pytest_plugin"]
        assert ours == []
        assert "pyarrow" not in sys.modules and "numpy" not in sys.modules
"""


def test_without_marker_fixture_or_flag_nothing_is_loaded(run):
    run(source=IDLE).assert_outcomes(passed=1)


BENCHMARK = """
    import time

    def test_sleeps(benchmark):
        benchmark.pedantic(time.sleep, args=({seconds},), rounds={rounds})
"""


def benchmarks(pytester: pytest.Pytester, name: str) -> list[dict]:
    return json.loads((Path(pytester.path) / name).read_text())["benchmarks"]


def test_benchmarks_get_joules_per_round_in_json_and_in_a_table_below(tree, run, pytester):
    done = run("--benchmark-energy", "--benchmark-json=a.json", source=BENCHMARK.format(seconds=0.01, rounds=40))
    done.assert_outcomes(passed=1)
    lines = done.stdout.lines
    assert lines.index(next(x for x in lines if "benchmark: 1 tests" in x)) < lines.index(
        next(x for x in lines if "energy of benchmarks: joules per round" in x)
    )
    (found,) = benchmarks(pytester, "a.json")
    energy = found["extra_info"]["energy"]
    assert energy["rounds"] == 40
    assert energy["mean_round_s"] == pytest.approx(found["stats"]["mean"], rel=0.01)
    assert energy["per_round_low_j"] <= 60.0 * found["stats"]["mean"] <= energy["per_round_high_j"]
    assert len(energy["block_energy_j"]) == 20


def test_rounds_of_a_calibrated_benchmark_are_found_after_its_warm_up(tree, run, pytester):
    source = """
        def test_adds(benchmark):
            benchmark(sum, range(20_000))
    """
    run("--benchmark-energy", "--benchmark-json=a.json", "--benchmark-max-time=0.3", "--benchmark-warmup=on",
        source=source).assert_outcomes(passed=1)  # fmt: skip
    (found,) = benchmarks(pytester, "a.json")
    energy = found["extra_info"]["energy"]
    assert energy["rounds"] == found["stats"]["rounds"]
    assert energy["mean_round_s"] == pytest.approx(found["stats"]["mean"], rel=1e-3)
    assert energy["per_round_low_j"] <= 60.0 * found["stats"]["mean"] <= energy["per_round_high_j"]


def test_without_the_flag_pytest_benchmark_is_left_alone(tree, run, pytester):
    done = run("--benchmark-json=a.json", source=BENCHMARK.format(seconds=0.001, rounds=5))
    done.assert_outcomes(passed=1)
    assert "joules" not in done.stdout.str()
    assert benchmarks(pytester, "a.json")[0]["extra_info"] == {}


def test_energy_that_got_worse_for_certain_fails_and_the_same_energy_does_not(tree, run, pytester):
    flags = ("--benchmark-energy", "--energy-baseline=a.json", "--energy-fail-above=5%")
    run("--benchmark-energy", "--benchmark-json=a.json", source=BENCHMARK.format(seconds=0.01, rounds=40))
    same = run(*flags, source=BENCHMARK.format(seconds=0.01, rounds=40))
    assert same.ret == 0, same.stdout.str()
    worse = run(*flags, "--benchmark-json=b.json", source=BENCHMARK.format(seconds=0.08, rounds=20))
    assert worse.ret == 1
    worse.stdout.re_match_lines([r"worse by over 5 % for certain: .*test_sleeps: this run uses \d+ % more"])
    from fastgreen.reports.compare import compare_benchmarks

    found = compare_benchmarks(pytester.path / "a.json", pytester.path / "b.json")
    assert found.ratio("test_it.py::test_sleeps").low > 1.05
    other = json.loads((pytester.path / "a.json").read_text())
    other["machine_info"]["node"] = "elsewhere"
    (pytester.path / "a.json").write_text(json.dumps(other))
    refused = run(*flags)
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    assert "is of the machine 'elsewhere'" in refused.stderr.str()
    assert run(*flags, "--energy-force-baseline").ret == 1


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--energy-fail-above=5%"], "needs --energy-baseline"),
        (["--energy-fail-above=5", "--energy-baseline=a.json"], "such as 5%"),
        (["--energy-fail-above=nan%", "--energy-baseline=a.json"], "such as 5%"),
        (["--energy-fail-above=5%", "--energy-baseline=none.json"], "none.json"),
        (["--energy-baseline=bad.json"], "must be JSON of pytest-benchmark"),
        (["--energy-baseline=empty.json"], "no benchmark with an energy"),
        (["--benchmark-energy", "-p", "no:benchmark"], "needs pytest-benchmark"),
    ],
)
def test_bad_flags_are_one_sentence(run, pytester, flags, text):
    (pytester.path / "bad.json").write_text("[1]")
    (pytester.path / "empty.json").write_text('{"benchmarks": [{"fullname": "test_it.py::test_it"}]}')
    done = run(*flags, source="def test_it(): pass")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    assert text in done.stderr.str()


def test_workers_of_xdist_that_share_a_machine_are_reported(tree, run):
    pytest.importorskip("xdist")
    done = run("-n2", source=WAITS.format(budget=600))
    done.assert_outcomes(passed=1, warnings=1)
    assert "2 workers of xdist share this machine" in done.stdout.str()


COST = """
    import time, pytest
    from fastgreen.measuring.monitor import Monitor

    outer, bare = [], []

    @pytest.fixture
    def whole(request):
        request.node.add_marker(pytest.mark.energy(budget_j=1e6))

    @pytest.mark.parametrize("n", range(30))
    def test_marked(n, whole):
        pass

    @pytest.mark.parametrize("n", range(30))
    def test_bare(n):
        started = time.perf_counter()
        with Monitor(settle=True) as monitor:
            pass
        result = monitor.result
        result.energy_j, result.energy_low_j, result.energy_high_j
        bare.append(time.perf_counter() - started)

    def test_difference():
        from conftest import calls
        cost = min(calls) - min(bare)
        assert cost <= 1e-3, f"{cost * 1e3:.2f} ms"
"""
TIMER = """
    import time, pytest

    calls = []

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(item):
        started = time.perf_counter()
        try:
            return (yield)
        finally:
            if "test_marked" in item.name:
                calls.append(time.perf_counter() - started)
"""


def test_a_marked_test_costs_at_most_a_millisecond_beside_its_monitor(tree, run, pytester):
    pytester.makeconftest(TIMER)
    for _ in range(3):
        done = run(source=COST)
        if done.ret == 0:
            break
    done.assert_outcomes(passed=61)
