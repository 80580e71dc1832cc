# SPDX-License-Identifier: Apache-2.0
"""Cases to measure of a tool; each gives figures, or one row with the reason for their absence."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path
from typing import Any

from tests.fakes.nvml import FakeNvml, Gpu
from tests.fakes.powercap import RANGE_61UJ, PowercapTree, Zone
from tests.fakes.wave import Constant, Steps, Wave

from . import namespace
from .table import Figure
from .tools import Tool
from .workers import CaseError, Worker, cpu_s, memory_bytes

__all__ = ["Bench"]

ROOT = Path(__file__).resolve().parents[2]
START_S = 60.0
CASE_S = 120.0
IMPORT_BUDGET_S = 6.0
WATTS = 10.0
BURST_J, BURST_S = 1000.0, 0.004
# fastgreen takes growth beyond four times a zone's limit for a fault of the counter; the burst shall be energy.
LIMIT_UW = 5_000_000_000
EDGE_S = 0.020
LEAD_S = (6.0, 14.0)  # from the tree's start to the event; the second when a tool was not ready for the first
FASTEST_S = 1e-6  # the period asked for where a tool shall sample as fast as it can, unless its adapter has another
READY_S = 2.5  # the least time between the window's begin and the event
REQUESTS, RANKS, PAGE_WINDOWS = 8, 2, 1000


@dataclass(frozen=True)
class Event:
    """Something that happens at a moment, and a window that ends `end_s` after it (or before, when negative)."""

    case: str
    end_s: float
    wraps: bool = False


EVENTS = (
    Event("wrap", 1.5, wraps=True),
    Event("late wrap", EDGE_S, wraps=True),
    Event("burst inside", BURST_S + EDGE_S),
    Event("burst outside", -EDGE_S),
)


@dataclass
class Bench:
    """The stage: one folder, one fake NVML; `seconds` is the length of a sampling run."""

    folder: Path
    seconds: float = 2.0
    imports: int = 5

    def __post_init__(self) -> None:
        self._number = count()
        self._slow: dict[str, int] = {}
        self.nvml = FakeNvml(self.folder / "nvml", devices=(Gpu(power=WATTS),))
        keep = ("PATH", "LANG", "TMPDIR")
        self.env = {key: os.environ[key] for key in keep if key in os.environ}
        self.env["LD_LIBRARY_PATH"] = str(self.nvml.folder)
        smi = self.nvml.folder / "nvidia-smi"  # comes with the driver; some look whether it runs before they use NVML
        smi.write_text("#!/bin/sh\necho NVIDIA System Management Interface\n")
        smi.chmod(0o755)
        self.env["PATH"] = os.pathsep.join([str(self.nvml.folder), self.env.get("PATH", os.defpath)])

    def environment(self, tool: Tool) -> dict[str, str]:
        return self.env if tool.requirements else self.env | {"PYTHONPATH": str(ROOT)}

    def tree(self, wave: Wave, start_uj: int = 0) -> PowercapTree:
        """A fresh powercap tree, shown in /sys and not yet moving."""
        folder = self.folder / f"tree{next(self._number)}"
        tree = PowercapTree(folder, (Zone("package-0", wave, start_uj, RANGE_61UJ, limit_uw=LIMIT_UW),))
        (tree.root / "intel-rapl" / "subsystem").symlink_to("/sys/class/powercap")  # every device of sysfs has one
        namespace.show(folder)
        return tree

    def measure(self, tool: Tool, python: Path, only: Sequence[str] = ()) -> Iterator[Figure]:
        """All figures of one tool, or those of some cases."""
        cases: dict[str, Callable[[], Sequence[Figure]]] = {
            "import": lambda: self._import(tool, python),
            "window": lambda: self._window(tool, python),
        }
        for event in EVENTS:
            cases[event.case] = lambda event=event: self._event(tool, python, event)
        cases["overlap"] = lambda: self._overlap(tool, python)
        cases["ranks"] = lambda: self._ranks(tool, python)
        cases["page"] = lambda: self._page(tool, python)
        for period_s in (0.01, 0.001):
            for busy in (False, True):
                case = f"{period_s * 1000:.0f} ms, {'busy' if busy else 'asleep'}"
                cases[case] = lambda p=period_s, b=busy, c=case: self._sampling(tool, python, c, p, b)
        cases["fastest"] = lambda: self._fastest(tool, python)
        for case, run in cases.items():
            if not only or case in only:
                yield from self._guard(tool, case, run)

    def _guard(self, tool: Tool, case: str, run: Callable[[], Sequence[Figure]]) -> Sequence[Figure]:
        try:
            return run()
        except CaseError as error:
            return [Figure(tool.name, case, "why not", "", None, note=str(error))]

    def _import(self, tool: Tool, python: Path) -> list[Figure]:
        self.tree(Constant(WATTS))
        code = f"import time; a = time.perf_counter(); {tool.import_line}; print(time.perf_counter() - a)"
        times = []
        while len(times) < 3 or (len(times) <= self.imports and sum(times) < IMPORT_BUDGET_S):
            done = subprocess.run(
                [str(python), "-P", "-c", code],
                capture_output=True,
                text=True,
                env=self.environment(tool) | {"HOME": str(self.folder)},
                cwd=self.folder,
                timeout=START_S,
            )
            if done.returncode != 0:
                raise CaseError(f"does not import: {(done.stderr.strip().splitlines() or ['no message'])[-1][:200]}")
            times.append(float(done.stdout.split()[-1]))
        return [_figure(tool, "import", "time", "s", times[1:])]

    def _start(
        self, tool: Tool, python: Path, kind: str, more: dict[str, str] | None = None
    ) -> tuple[Worker, dict[str, Any]]:
        env = self.environment(tool) | (more or {})
        home = self.folder / "home" / "-".join([tool.name, *(more or {}).values()])
        worker = Worker(python, tool.name, kind, env, home)
        try:
            return worker, worker.hear(START_S)
        except CaseError as error:
            with worker:
                raise CaseError(f"does not start: {error}") from None

    def _window(self, tool: Tool, python: Path) -> list[Figure]:
        with self.tree(Constant(WATTS)):
            worker, hello = self._start(tool, python, "window")
            with worker:
                _cannot(hello, "NO_WINDOW")
                worker.tell({})
                windows = worker.hear(CASE_S)["windows"]
                said = worker.hear(CASE_S)
        after_s = said["after_s"] / windows if hello["deferred"] else 0.0
        blocks = said["blocks_s"]
        note = f"{windows} windows; the first result took {said['first_s']:.2f} s" if hello["deferred"] else ""
        return [
            _figure(tool, "window", "begin and end", "s", blocks, note),
            Figure(tool.name, "window", "working out", "s", after_s, repeats=windows, note=note),
            _figure(tool, "window", "with its number", "s", [block + after_s for block in blocks], note),
        ]

    def _event(self, tool: Tool, python: Path, event: Event) -> list[Figure]:
        for lead_s in LEAD_S[self._slow.get(tool.name, 0) :]:
            figures = self._one_event(tool, python, event, lead_s)
            if figures:
                return figures
            self._slow[tool.name] = 1
        raise CaseError(f"its window was not open {READY_S} s before the event, {LEAD_S[-1]:.0f} s after its start")

    def _one_event(self, tool: Tool, python: Path, event: Event, lead_s: float) -> list[Figure]:
        wave: Wave = Constant(WATTS)
        start_uj = 1_000_000
        if event.wraps:
            start_uj = RANGE_61UJ + 1 - round(WATTS * lead_s * 1e6)
        else:
            burst_w = WATTS + BURST_J / BURST_S
            wave = Steps(((0.0, WATTS), (lead_s, burst_w), (lead_s + BURST_S, WATTS)))
        tree = self.tree(wave, start_uj)
        worker, hello = self._start(tool, python, "event")
        with worker:
            if event.wraps:
                _cannot(hello, "NO_COUNTER")
            with tree:
                self.nvml.write(devices=(Gpu(power=wave),), epoch_ns=tree.epoch_ns)
                event_ns = tree.epoch_ns + round(lead_s * 1e9)
                worker.tell({"end_ns": event_ns + round(event.end_s * 1e9)})
                said = worker.hear(CASE_S)
        if said["begin_ns"] > event_ns - READY_S * 1e9:
            return []
        truth_j = tree.energy_j("package-0", said["begin_ns"], said["end_ns"])
        return _judged(tool, event.case, said["energy_j"], truth_j)

    def _overlap(self, tool: Tool, python: Path) -> list[Figure]:
        """Requests that are open at the same time: their energies together, against the meter's."""
        with self.tree(Constant(WATTS)) as tree:
            worker, hello = self._start(tool, python, "overlap")
            with worker:
                _cannot(hello, "NO_COUNTER")
                _cannot(hello, "NO_OVERLAP")
                worker.tell({"end_ns": time.monotonic_ns() + round(LEAD_S[0] * 1e9), "count": REQUESTS})
                said = worker.hear(CASE_S)
            truth_j = tree.energy_j("package-0", said["begin_ns"], said["end_ns"])
        return _judged(tool, "overlap", {"cpu": sum(said["energies_j"])}, truth_j)

    def _ranks(self, tool: Tool, python: Path) -> list[Figure]:
        """Two ranks of a job on one machine, which measure the same counter: the energy of the job."""
        folder = self.folder / f"job{next(self._number)}"
        with self.tree(Constant(WATTS)) as tree, contextlib.ExitStack() as stack:
            workers = []
            for rank in range(RANKS):
                launched = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(RANKS)}
                worker, hello = self._start(tool, python, "rank", launched)
                workers.append(stack.enter_context(worker))
                _cannot(hello, "NO_COUNTER")
            end_ns = time.monotonic_ns() + round(LEAD_S[-1] * 1e9)
            for worker in workers:
                worker.tell({"end_ns": end_ns, "folder": str(folder)})
            said = [worker.hear(CASE_S) for worker in workers]
            begin_ns, end_ns = min(rank["begin_ns"] for rank in said), max(rank["end_ns"] for rank in said)
            if any(rank["begin_ns"] > end_ns - READY_S * 1e9 for rank in said):
                raise CaseError(f"a rank did not measure {READY_S} s before the end")
            truth_j = tree.energy_j("package-0", begin_ns, end_ns)
            if said[0]["energy_j"] is None:
                worker, _ = self._start(tool, python, "job")
                with worker:
                    worker.tell({"folder": str(folder), "begin_ns": begin_ns, "end_ns": end_ns})
                    energies = [worker.hear(CASE_S)["energy_j"]]
            else:
                energies = [next(iter(rank["energy_j"].values())) for rank in said]
        return _judged(tool, "ranks", {"cpu": None if None in energies else sum(energies)}, truth_j)

    def _page(self, tool: Tool, python: Path) -> list[Figure]:
        with self.tree(Constant(WATTS)):
            worker, hello = self._start(tool, python, "page")
            with worker:
                _cannot(hello, "NO_PAGE")
                if not hello["page"]:
                    raise CaseError("writes no page")
                worker.tell({"windows": PAGE_WINDOWS})
                said = worker.hear(CASE_S)
        return [_figure(tool, "page", "time", "s", said["pages_s"], f"{said['bytes'] / 1e3:.0f} kB")]

    def _sampling(self, tool: Tool, python: Path, case: str, period_s: float, busy: bool) -> list[Figure]:
        self.nvml.write(devices=(Gpu(power=WATTS),))
        with self.tree(Constant(WATTS)):
            worker, hello = self._start(tool, python, "sampling")
            with worker:
                _cannot(hello, "NO_SAMPLER")
                return self._watched(tool, case, worker, period_s, busy)

    def _fastest(self, tool: Tool, python: Path) -> list[Figure]:
        """CPU time per sample while samples follow each other as closely as the tool can; of one without a sampler,
        per read, and the memory that it has after them."""
        self.nvml.write(devices=(Gpu(power=WATTS),))
        with self.tree(Constant(WATTS)):
            worker, hello = self._start(tool, python, "sampling")
            with worker:
                if "NO_SAMPLER" not in hello["adapter"]:
                    period_s = hello["fastest_s"] or FASTEST_S
                    note = "" if period_s == FASTEST_S else f"asked for every {period_s:g} s"
                    figures = self._watched(tool, "fastest", worker, period_s, False)
                    return [
                        dataclasses.replace(f, note=note) for f in figures if f.figure in ("rate", "CPU per sample")
                    ]
            worker, _ = self._start(tool, python, "reading")
            with worker:
                worker.tell({"blocks": 11, "count": 200})
                reads = worker.hear(CASE_S)["reads_s"]
                memory = memory_bytes(worker.pid)
        return [
            _figure(tool, "fastest", "CPU per sample", "s", reads, "its read in a tight loop"),
            Figure(tool.name, "10 ms, asleep", "memory", "B", float(memory), note="after its reads"),
        ]

    def _watched(self, tool: Tool, case: str, worker: Worker, period_s: float, busy: bool) -> list[Figure]:
        """Rate, CPU and memory between the worker's two words, in four parts."""
        worker.tell({"period_s": period_s, "busy": busy, "seconds": self.seconds, "settle_s": 0.5})
        worker.hear(CASE_S)
        marks = []
        for part in range(5):
            marks.append((time.monotonic(), self._readings(tool), cpu_s(worker.pid)))
            if part == 3:
                memory = memory_bytes(worker.pid)
            if part < 4:
                time.sleep(max(0.0, marks[0][0] + (part + 1) * self.seconds * 0.24 - time.monotonic()))
        if worker.hear(CASE_S)["state"] != "sampled":
            raise CaseError("ended before its time")
        worker.tell({})
        rounds = worker.hear(CASE_S).get("said") or 1.0  # of the samples counted, how many were rounds over all sources
        seconds, readings, cpu = ([b[i] - a[i] for a, b in pairwise(marks)] for i in range(3))
        rates = [r / s / tool.readings_per_sample for r, s in zip(readings, seconds, strict=True)]
        samples = sum(readings) / tool.readings_per_sample
        figures = [dataclasses.replace(_figure(tool, case, "rate", "Hz", rates), value=samples / sum(seconds))]
        if not busy:
            figures += [
                _figure(tool, case, "CPU", "1", [c / s for c, s in zip(cpu, seconds, strict=True)]),
                Figure(tool.name, case, "CPU per sample", "s", sum(cpu) / (samples * rounds) if samples else None),
                Figure(tool.name, case, "memory", "B", float(memory)),
            ]
        return figures

    def _readings(self, tool: Tool) -> int:
        return self.nvml.calls().get(tool.reading, 0)


def _cannot(hello: dict[str, Any], what: str) -> None:
    if what in hello["adapter"]:
        raise CaseError(hello["adapter"][what])


def _figure(tool: Tool, case: str, name: str, unit: str, values: list[float], note: str = "") -> Figure:
    low, _, high = statistics.quantiles(values, n=4) if len(values) > 1 else (values[0],) * 3
    return Figure(tool.name, case, name, unit, statistics.median(values), low, high, len(values), note)


def _judged(tool: Tool, case: str, said: dict[str, float | None], truth_j: float) -> list[Figure]:
    """What a tool reported of CPU, total or GPU (whichever it has first) against the truth; each draws the same."""
    part = next(part for part in ("cpu", "total", "gpu") if part in said)
    truth_j *= 2 if part == "total" else 1
    reported_j = said[part]
    if reported_j is None:
        raise CaseError("gives no number for this window")
    note = "" if part == "cpu" else f"its {part}'s number"
    return [
        Figure(tool.name, case, "reported", "J", reported_j, said.get("low"), said.get("high"), 1, note),
        Figure(tool.name, case, "truth", "J", truth_j, note=note),
        Figure(tool.name, case, "error", "J", reported_j - truth_j, note=note),
    ]
