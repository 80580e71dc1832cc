"""Energy budgets of tests and energy of benchmarks, for pytest.

Without the marker ``energy``, the fixture ``energy`` or a flag, the plugin imports nothing: no extension of ours, no
NumPy, no PyArrow.
"""

from __future__ import annotations

import functools
import math
import os
import time
import warnings
from contextlib import contextmanager

import pytest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from typing import Any

    from fastgreen.measuring.monitor import Monitor
    from fastgreen.reports.ratio import Ratio
    from fastgreen.results.result import Result

__all__ = ["energy"]

_NO_COUNTER = "no energy counter can be read; `fastgreen channels` gives the reasons"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("energy", "energy of tests (fastgreen)")
    group.addoption(
        "--energy-without-counters",
        choices=("skip", "warn", "fail"),
        default="warn",
        help="Where no energy counter can be read: skip the tests that need one, warn (the default), or fail them.",
    )
    group.addoption(
        "--benchmark-energy",
        action="store_true",
        help="With pytest-benchmark: measure joules per round, for its JSON and a table of their own.",
    )
    group.addoption(
        "--energy-baseline",
        metavar="FILE",
        help="JSON that pytest-benchmark wrote with --benchmark-energy, to compare with.",
    )
    group.addoption(
        "--energy-fail-above",
        metavar="PERCENT",
        help="Fail if a benchmark uses for certain more energy than in the baseline, by over this part, as in 5%%.",
    )
    group.addoption(
        "--energy-force-baseline", action="store_true", help="Take a baseline of another machine all the same."
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "energy(budget_j): fail if the test uses for certain more joules than this")
    options = config.option
    wanted = options.energy_fail_above or options.energy_baseline
    if options.benchmark_energy or wanted:
        config.pluginmanager.register(_Benchmarks(config), "fastgreen-benchmarks")


# ---- budgets ----


def _checked_budget(budget_j: Any) -> float | None:
    if budget_j is None:
        return None
    number = isinstance(budget_j, (int, float)) and not isinstance(budget_j, bool)
    if not (number and 0 < budget_j < math.inf):
        raise ValueError(f"budget_j must be a number of joules above 0, not {budget_j!r}")
    return float(budget_j)


def _monitor(config: pytest.Config) -> Monitor | None:
    """A monitor that has a counter to read; None after a warning where there is not one. It can skip or fail."""
    from fastgreen.errors import FastgreenWarning
    from fastgreen.measuring.monitor import Monitor

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FastgreenWarning)  # of channels that this user cannot read
        monitor = Monitor(settle=True)
    if any(not channel.estimated for channel in monitor.channels):
        _note_workers(config)
        return monitor
    policy = config.option.energy_without_counters
    if policy == "skip":
        pytest.skip(_NO_COUNTER)
    if policy == "fail":
        pytest.fail(_NO_COUNTER, pytrace=False)
    warnings.warn(f"energy not measured: {_NO_COUNTER}", FastgreenWarning, stacklevel=2)
    return None


def _note_workers(config: pytest.Config) -> None:
    """Under xdist a test's energy holds that of the tests beside it: the counters are the machine's."""
    from fastgreen.errors import FastgreenWarning

    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if hasattr(config, "workerinput") and workers > 1:
        warnings.warn(
            f"{workers} workers of xdist share this machine and its counters: the energy of a test includes that of "
            "the tests beside it; measure with -n 0",
            FastgreenWarning,
            stacklevel=2,
        )


def _check(result: Result, budget_j: float | None, subject: str) -> None:
    """Fail if the least possible energy is above the budget; warn if the budget is within the bounds."""
    if budget_j is None:
        return
    from fastgreen.errors import FastgreenWarning
    from fastgreen.results.console import bounds, quantity

    if not result.known:
        warnings.warn(f"{subject}: energy unknown, no channel gave a reading", FastgreenWarning, stacklevel=2)
        return
    used = f"{quantity(result.energy_j, 'J')} ({bounds(result.energy_low_j, result.energy_high_j, 'J')})"
    if result.energy_low_j > budget_j:
        pytest.fail(f"{subject} used {used}, above its budget of {quantity(budget_j, 'J')}", pytrace=False)
    if result.energy_high_j > budget_j:
        warnings.warn(
            f"{subject} used {used}; the sensors cannot tell whether that is within its budget of "
            f"{quantity(budget_j, 'J')}",
            FastgreenWarning,
            stacklevel=2,
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    marker = item.get_closest_marker("energy")
    if marker is None:
        return (yield)
    try:
        budget_j = _marked_budget(*marker.args, **marker.kwargs)
    except (TypeError, ValueError) as error:
        pytest.fail(f"@pytest.mark.energy: {error}", pytrace=False)
    monitor = _monitor(item.config)
    if monitor is None:
        return (yield)
    with monitor:
        returned = yield
    result = monitor.result
    for name in ("energy_j", "energy_low_j", "energy_high_j"):
        item.user_properties.append((name, getattr(result, name)))
    _check(result, budget_j, item.name)
    return returned


def _marked_budget(budget_j: float | None = None) -> float | None:
    return _checked_budget(budget_j)


@pytest.fixture
def energy(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Measure a block of a test: ``with energy(budget_j=5) as m: ...``; ``m.energy_j`` and its bounds after it.

    The block's end fails the test if the least possible energy is above the budget, and warns if the budget is within
    the bounds. Where no counter can be read, ``--energy-without-counters`` decides.
    """

    @contextmanager
    def block(budget_j: float | None = None) -> Iterator[_Block]:
        from fastgreen.measuring.monitor import Monitor

        budget_j = _checked_budget(budget_j)
        counters = _monitor(request.config)
        measured = _Block()
        with counters if counters is not None else Monitor() as monitor:
            yield measured
        measured.result = monitor.result
        if counters is not None:
            _check(monitor.result, budget_j, request.node.name)

    return block


class _Block:
    """What the fixture gives: the numbers of a `Result`, after the block."""

    result: Result | None = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if self.result is None:
            raise RuntimeError(f"{name} exists only after the block has ended")
        return getattr(self.result, name)


# ---- pytest-benchmark ----


class _Rounds:
    """The timer of one benchmark, which keeps the instants that it gave."""

    def __init__(self, timer: Callable[[], float]) -> None:
        from array import array

        self.edges = array("d")
        note = self.edges.append
        monotonic = time.monotonic
        same_clock = timer in (time.perf_counter, time.monotonic)  # both are CLOCK_MONOTONIC on Linux

        @functools.wraps(timer)
        def watched() -> float:
            value = timer()
            note(value if same_clock else monotonic())
            return value

        self.timer = watched

    def last(self, count: int) -> tuple[Any, Any]:
        """Begin and end (ns) of the last `count` rounds. Calibration and warm-up come before them."""
        import numpy as np

        edges = np.rint(np.array(self.edges[-2 * count :]) * 1e9).astype(np.int64)
        return edges[0::2], edges[1::2]


class _Benchmarks:
    """Measures the rounds of pytest-benchmark; registered only where a flag asks for it."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self.measured: dict[str, dict[str, Any]] = {}
        self.baseline: dict[str, dict[str, Any]] = {}
        self.limit: float | None = None
        self.worse: list[str] = []
        if not config.pluginmanager.hasplugin("benchmark"):
            raise pytest.UsageError("--benchmark-energy needs pytest-benchmark: pip install pytest-benchmark")
        option = config.option
        if option.energy_fail_above is not None:
            self.limit = _fraction(option.energy_fail_above)
            if option.energy_baseline is None:
                raise pytest.UsageError("--energy-fail-above needs --energy-baseline FILE")
        if option.energy_baseline is not None:
            self.baseline = _read_baseline(option.energy_baseline, option.energy_force_baseline)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        fixture = getattr(item, "funcargs", {}).get("benchmark")
        if fixture is None or not getattr(fixture, "enabled", False):
            return (yield)
        monitor = _monitor(self._config)
        if monitor is None:
            return (yield)
        rounds = _Rounds(fixture._timer)
        fixture._timer = rounds.timer
        with monitor:
            returned = yield
        count = len(fixture.stats.stats.data) if fixture.stats is not None else 0
        if count and monitor.result.known:
            found = _energy_of_rounds(monitor.result, *rounds.last(count))
            fixture.extra_info["energy"] = self.measured[item.nodeid] = found
        return returned

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        for name, ratio in self.ratios().items():
            if self.limit is not None and ratio.low > 1 + self.limit:
                self.worse.append(f"{name}: {ratio.sentence('the baseline', 'this run', 'block')}")
        if self.worse and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def ratios(self) -> dict[str, Ratio]:
        """Of each benchmark of the baseline that was measured: its energy over that of the baseline."""
        from fastgreen.reports.compare import ratio_of_benchmarks

        return {
            name: ratio_of_benchmarks(self.baseline[name], energy)
            for name, energy in self.measured.items()
            if name in self.baseline
        }

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        write = terminalreporter.write_line
        if self.measured:
            terminalreporter.section("energy of benchmarks: joules per round")
            for line in _lines(self.measured, self.ratios()):
                write(line)
        missing = [name for name in self.baseline if name not in self.measured]
        for name in missing:
            write(f"{name} is in the baseline and was not measured")
        for text in self.worse:
            write(f"worse by over {100 * (self.limit or 0):g} % for certain: {text}", red=True)


def _fraction(text: str) -> float:
    try:
        value = float(text.strip().removesuffix("%")) / 100
    except ValueError:
        value = math.nan
    if not (text.strip().endswith("%") and 0 <= value < math.inf):
        raise pytest.UsageError(f"--energy-fail-above must be a percentage of 0% or more, such as 5%, not {text!r}")
    return value


def _read_baseline(path: str, forced: bool) -> dict[str, dict[str, Any]]:
    import platform

    from fastgreen.errors import FastgreenError
    from fastgreen.reports.compare import read_benchmarks

    try:
        found, host = read_benchmarks(path)
    except (OSError, FastgreenError) as error:
        raise pytest.UsageError(f"--energy-baseline: {error}") from None
    if not found:
        raise pytest.UsageError(f"--energy-baseline: {path} has no benchmark with an energy")
    if host != platform.node() and not forced:
        raise pytest.UsageError(
            f"--energy-baseline: {path} is of the machine {host!r}, not of {platform.node()!r}; "
            "--energy-force-baseline takes it all the same"
        )
    return found


def _energy_of_rounds(result: Result, begin_ns: Any, end_ns: Any) -> dict[str, Any]:
    """Mean energy of a round with its bounds, and the means of blocks of rounds, from which the scatter follows."""
    from fastgreen.reports.compare import block_means
    from fastgreen.results.result import Result
    from fastgreen.results.trace import Windows

    rounds = Windows("round", 0, begin_ns, end_ns)
    again = Result(result.traces, [rounds], result.metadata, result.start_ns, result.end_ns)
    row = again.summary().to_pylist()[0]
    return {
        "per_round_j": row["mean_energy_j"],
        "per_round_low_j": row["mean_energy_low_j"],
        "per_round_high_j": row["mean_energy_high_j"],
        "rounds": len(begin_ns),
        "mean_round_s": row["total_duration_s"] / len(begin_ns),
        "block_energy_j": block_means(result.energy_between(begin_ns, end_ns).energy_j).tolist(),
        "estimated": result.estimated,
        "channels": [trace.channel.id for trace in result.traces if trace.counted],
    }


def _lines(measured: dict[str, dict[str, Any]], ratios: dict[str, Ratio]) -> list[str]:
    """A table of text; a line below a row compares it with the baseline."""
    from fastgreen.results.console import bounds, quantity

    wide = max(len(name) for name in measured)
    lines = [f"{'benchmark':<{wide}}  {'energy':>10}  {'between':>22}  {'power':>9}  {'rounds':>8}"]
    for name, energy in measured.items():
        between = bounds(energy["per_round_low_j"], energy["per_round_high_j"], "J")
        power = quantity(energy["per_round_j"] / energy["mean_round_s"], "W")
        used = quantity(energy["per_round_j"], "J")
        lines.append(f"{name:<{wide}}  {used:>10}  {between:>22}  {power:>9}  {energy['rounds']:>8}")
        if name in ratios:
            lines.append(f"    {ratios[name].sentence('the baseline', 'this run', 'block')}")
    return lines
