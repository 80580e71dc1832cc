"""What one NVIDIA board's sensors are worth, measured on the board itself, in about three minutes:

    python -m benchmarks.gpu_study OUT [--library PATH] [--index N]

writes OUT/study.json, OUT/study.md and OUT/trace, a recorded run small enough to keep and replay. It compares the
energy counter with nvidia-ml-py, learns update period, quantum, read latency and averaging window at idle and under
matrix products that go on and off, and measures what sampling does to the latency of kernel launches. It changes no
setting of the board. Without PyTorch or CuPy the parts that need a load are left out, and the summary says so.
"""

from __future__ import annotations

import itertools
import json
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np

import fastgreen as fg
from fastgreen.catalog import channels
from fastgreen.facts import SensorFacts, changes, learn
from fastgreen.monitor import Monitor

SAMPLING_MS = (1, 5, 20, 100)
TRACE_BYTES = 200_000
# (on, off) in s, over and over. Off beat with updates of 10 to 100 ms, or every update would see the same part; and of
# unequal lengths, because a mean over one period of a regular wave and a bit tells no more than one over the bit.
PATTERN = ((0.37, 0.26), (0.19, 0.43), (0.83, 0.31), (0.29, 0.97), (0.53, 0.17))


class NoGpu(RuntimeError):
    """Why there is nothing to study."""


class Load(NamedTuple):
    """`burst` works for a few ms and waits for it; `launch` starts a tiny kernel; `settle` waits for the GPU."""

    name: str
    burst: Callable[[], object]
    launch: Callable[[], object]
    settle: Callable[[], object]


@dataclass(frozen=True)
class WindowFit:
    """A running mean over `window_s`, `delay_s` old, between `low_w` and `high_w`; what it leaves unexplained."""

    window_s: float
    delay_s: float
    low_w: float
    high_w: float
    residual: float


# ---- arithmetic ----


def on_time(edges: np.ndarray, at_s: np.ndarray) -> np.ndarray:
    """Seconds under load until each time; `edges` is (begin, end) of every stretch of load, in s."""
    begin, end = edges[:, 0], edges[:, 1]
    knots = np.stack([begin, end], axis=1).ravel()
    done = np.cumsum(end - begin)
    return np.interp(at_s, knots, np.stack([done - (end - begin), done], axis=1).ravel(), left=0.0)


def fit_window(at_s: np.ndarray, watts: np.ndarray, edges: np.ndarray) -> WindowFit | None:
    """The running mean of an on-off load that explains power readings best, over a grid of 5 ms to 2 s and delays.

    Readings are those at which the value changed. None where they are too few or the load made no difference.
    """
    inside = (at_s > edges[0, 0] + 2.4) & (at_s < edges[-1, 1])
    at_s, watts = at_s[inside], watts[inside]
    if len(at_s) < 16 or np.std(watts) < 0.02 * np.mean(watts):
        return None
    best: WindowFit | None = None
    for window_s in np.geomspace(0.005, 2.0, 61):
        for delay_s in np.linspace(0.0, 0.3, 61):
            end, begin = on_time(edges, at_s - delay_s), on_time(edges, at_s - delay_s - window_s)
            share = (end - begin) / window_s
            design = np.stack([1 - share, share], axis=1)
            levels = np.linalg.lstsq(design, watts, rcond=None)[0]
            if levels[1] <= levels[0]:
                continue  # half a wave late: the load lowers no power
            residual = float(np.sqrt(np.mean((design @ levels - watts) ** 2)) / np.std(watts))
            if best is None or residual < best.residual:
                best = WindowFit(float(window_s), float(delay_s), *map(float, levels), residual)
    return best


def bracketed(samples: np.ndarray, others: np.ndarray) -> dict[str, int]:
    """Whether another reader of the same counter saw what lies between our samples round its call.

    `others` has rows of (before_ns, after_ns, value). Counters only grow, so each value must lie between our last one
    before the call and our first one after it.
    """
    begin, end = (
        samples["at_ns"] - samples["half_ns"].astype(np.int64),
        samples["at_ns"] + samples["half_ns"].astype(np.int64),
    )
    last = np.searchsorted(end, others[:, 0], "right") - 1
    first = np.searchsorted(begin, others[:, 1], "left")
    inside = (last >= 0) & (first < len(samples))
    low, high = samples["raw"][last[inside]], samples["raw"][first[inside]]
    value = others[inside, 2]
    return {
        "compared": int(inside.sum()),
        "outside": int(((value < low) | (value > high)).sum()),
        "equal_to_a_neighbour": int(((value == low) | (value == high)).sum()),
    }


def percentiles_us(latencies_ns: Iterable[int]) -> dict[str, float]:
    values = np.array(list(latencies_ns)) / 1000
    return {
        "p50_us": float(np.median(values)),
        "p99_us": float(np.percentile(values, 99)),
        "max_us": float(values.max()),
    }


# ---- load ----


def find_load(index: int = 0) -> Load | None:
    """Matrix products by PyTorch, else by CuPy, on CUDA device `index`; None where neither sees a GPU."""
    return _torch_load(index) or _cupy_load(index)


def _torch_load(index: int) -> Load | None:
    try:
        import torch
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    device = torch.device("cuda", index)
    a, small = torch.randn(4096, 4096, device=device), torch.zeros(1, device=device)
    settle = lambda: torch.cuda.synchronize(device)  # noqa: E731

    def burst() -> None:
        for _ in range(4):
            a @ a
        settle()

    return Load(f"PyTorch {torch.__version__}", burst, lambda: small.add_(1), settle)


def _cupy_load(index: int) -> Load | None:
    try:
        import cupy
    except ImportError:
        return None
    if not cupy.cuda.is_available():
        return None
    device = cupy.cuda.Device(index)
    device.use()
    a, small = cupy.random.rand(4096, 4096, dtype=cupy.float32), cupy.zeros(1, cupy.float32)

    def burst() -> None:
        for _ in range(4):
            a @ a
        device.synchronize()

    return Load(f"CuPy {cupy.__version__}", burst, lambda: cupy.add(small, 1, out=small), device.synchronize)


class OnOff:
    """Runs bursts on and off as PATTERN says; `edges` says when it did, in s of CLOCK_MONOTONIC."""

    def __init__(self, burst: Callable[[], object]) -> None:
        self._burst = burst
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._edges: list[tuple[float, float]] = []

    def _run(self) -> None:
        for on_s, off_s in itertools.cycle(PATTERN):
            begin = time.monotonic()
            while time.monotonic() < begin + on_s:
                self._burst()
            self._edges.append((begin, time.monotonic()))
            if self._over.wait(off_s):
                return

    @property
    def edges(self) -> np.ndarray:
        return np.array(self._edges)

    def __enter__(self) -> OnOff:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        self._thread.join()


# ---- the study ----


@dataclass
class Study:
    """One board, one output folder; `seconds` is how long each watch lasts."""

    out: Path
    library: str | None = None
    index: int = 0
    seconds: float = 15.0
    load: Load | None = None

    def __post_init__(self) -> None:
        self.seams = {"nvml_library": self.library} if self.library else {}
        found = [c for c in channels(**self.seams) if c.source == "nvml"]
        self.ids = [c.id for c in found if c.readable and c.id.partition("/")[0] == f"nvml:{self.index}"]
        if not self.ids:
            raise NoGpu("; ".join(c.reason or "" for c in found) or "no NVIDIA board is found")
        self.board = next(c for c in found if c.id in self.ids)

    def watch(self, ms: float) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
        """Samples by channel, and the edges of the load where there is one."""
        wave = OnOff(self.load.burst) if self.load else None
        with Monitor(self.ids, hz=1000 / ms, **self.seams) as monitor, wave or nullcontext():
            time.sleep(self.seconds)
        samples = {t.channel.id: np.concatenate(list(t.chunks())) for t in monitor.result.traces if t.has_data}
        return samples, wave.edges if wave else None

    def sensors(self) -> dict[str, Any]:
        """Facts of every channel, at idle and under load, and the averaging window of the powers."""
        out: dict[str, Any] = {}
        units = {c.id: c.unit for c in channels(**self.seams)}
        load, self.load = self.load, None
        idle, _ = self.watch(5)
        self.load = load
        out["idle"] = {i: asdict(learn(s, units[i])) for i, s in idle.items()}
        if load is None:
            return out
        busy, edges = self.watch(5)
        out["load"] = {i: asdict(learn(s, units[i])) for i, s in busy.items()}
        out["averaging"] = {i: self._averaging(s, edges) for i, s in busy.items() if i.endswith("/power")}
        return out

    def _averaging(self, samples: np.ndarray, edges: np.ndarray | None) -> dict[str, float] | None:
        index, earliest, latest = changes(samples)
        if edges is None or len(edges) < 4:
            return None
        fit = fit_window((earliest + latest) / 2e9, samples["raw"][index] * 1e-3, edges)
        return asdict(fit) if fit else None

    def against_nvidia_ml_py(self) -> dict[str, Any]:
        """Both read the energy counter for a while; every value of the one must lie between those of the other."""
        import pynvml

        energy = f"nvml:{self.index}"
        others: list[tuple[int, int, int]] = []
        pynvml.nvmlInit()
        try:
            device = pynvml.nvmlDeviceGetHandleByUUID(self.board.device)
            with (
                Monitor(energy, hz=200, **self.seams) as monitor,
                OnOff(self.load.burst) if self.load else nullcontext(),
            ):
                until = time.monotonic() + min(5.0, self.seconds)
                while time.monotonic() < until:
                    before = time.monotonic_ns()
                    value = pynvml.nvmlDeviceGetTotalEnergyConsumption(device)
                    others.append((before, time.monotonic_ns(), value))
                    time.sleep(0.013)
        finally:
            pynvml.nvmlShutdown()
        samples = np.concatenate(list(monitor.result.traces[0].chunks()))
        ours_mj, theirs_mj = int(samples["raw"][-1] - samples["raw"][0]), others[-1][2] - others[0][2]
        return {**bracketed(samples, np.array(others)), "ours_mj": ours_mj, "theirs_mj": theirs_mj}

    def launch_latency(self, rounds: int = 15, launches: int = 400) -> dict[str, Any] | None:
        """Latency of kernel launches without sampling and with it at each rate, taken in turn."""
        if self.load is None:
            return None
        latencies: dict[int, list[int]] = {ms: [] for ms in (0, *SAMPLING_MS)}
        for _ in range(rounds):
            for ms, into in latencies.items():
                with Monitor(self.ids, hz=1000 / ms, **self.seams) if ms else nullcontext():
                    into += self._launch(launches)
        base = percentiles_us(latencies.pop(0))
        out: dict[str, Any] = {"without": base}
        for ms, values in latencies.items():
            row = percentiles_us(values)
            out[f"{ms} ms"] = row | {
                "p50_ratio": row["p50_us"] / base["p50_us"],
                "p99_ratio": row["p99_us"] / base["p99_us"],
            }
        return out

    def _launch(self, launches: int) -> list[int]:
        assert self.load is not None
        out = []
        for _ in range(launches):
            begin = time.perf_counter_ns()
            self.load.launch()
            out.append(time.perf_counter_ns() - begin)
            if len(out) % 50 == 0:
                self.load.settle()
        return out

    def trace(self) -> dict[str, Any]:
        """A recorded run of a few seconds, small enough to be kept with the tests."""
        folder = self.out / "trace"
        seconds = min(8.0, self.seconds)
        wave = OnOff(self.load.burst) if self.load else nullcontext()
        with Monitor(self.ids, hz=40, record=folder, **self.seams) as monitor, wave:
            for _ in range(4):
                with monitor.window("quarter"):
                    time.sleep(seconds / 4)
        size = sum(f.stat().st_size for f in folder.iterdir())
        if size > TRACE_BYTES:
            raise RuntimeError(f"the trace has {size} bytes, more than {TRACE_BYTES}")
        return {"bytes": size, "energy_j": monitor.result.energy_j, "replayed": fg.load(folder).energy_j}

    def run(self) -> dict[str, Any]:
        self.out.mkdir(parents=True, exist_ok=True)
        report = {
            "board": self.board.name,
            "driver": self.board.driver,
            "load": self.load.name if self.load else None,
            "against_nvidia_ml_py": self.against_nvidia_ml_py(),
            "sensors": self.sensors(),
            "launch_latency": self.launch_latency(),
            "trace": self.trace(),
        }
        (self.out / "study.json").write_text(json.dumps(report, indent=2) + "\n")
        (self.out / "study.md").write_text(summary(report))
        return report


# ---- the summary ----


def _cell(value: object, scale: float = 1.0) -> str:
    return "-" if value is None else f"{float(value) * scale:.3g}"  # type: ignore[arg-type]


def _facts_rows(report: dict[str, Any]) -> list[str]:
    rows = []
    for state in ("idle", "load"):
        for identity, facts in report["sensors"].get(state, {}).items():
            f = SensorFacts(**facts)
            cells = [_cell(f.period_s, 1e3), _cell(f.jitter_s, 1e3), _cell(f.quantum), _cell(f.read_s, 1e6)]
            rows.append(f"| {identity} | {state} | {' | '.join(cells)} | {_cell(f.read_p99_s, 1e6)} |")
    return rows


def summary(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    same = report["against_nvidia_ml_py"]
    lines = [
        f"# {report['board']}, driver {report['driver']}",
        "",
        f"Load: {report['load'] or 'none (neither PyTorch nor CuPy sees the board), so idle only'}.",
        "",
        f"Against nvidia-ml-py: {same['compared']} readings compared, {same['outside']} outside; "
        f"{same['ours_mj']} mJ and {same['theirs_mj']} mJ over about the same time.",
        "",
        "| channel | state | update period (ms) | its jitter (ms) | quantum (J or W) | read (us) | read p99 (us) |",
        "|---|---|---:|---:|---:|---:|---:|",
        *_facts_rows(report),
        "",
    ]
    for identity, fit in report["sensors"].get("averaging", {}).items():
        if fit is None:
            lines += [f"{identity}: its averaging window could not be told.", ""]
            continue
        lines += [
            f"{identity}: a mean over {fit['window_s'] * 1e3:.0f} ms, {fit['delay_s'] * 1e3:.0f} ms old, between "
            f"{fit['low_w']:.0f} and {fit['high_w']:.0f} W ({fit['residual']:.1%} unexplained).",
            "",
        ]
    if report["launch_latency"]:
        lines += [
            "| sampling every | launch p50 (us) | p99 (us) | p50 ratio | p99 ratio |",
            "|---|---:|---:|---:|---:|",
        ]
        for rate, row in report["launch_latency"].items():
            cells = [row["p50_us"], row["p99_us"], row.get("p50_ratio", 1.0), row.get("p99_ratio", 1.0)]
            lines.append(f"| {rate} | {' | '.join(_cell(c) for c in cells)} |")
        lines.append("")
    lines.append(f"Trace: {report['trace']['bytes']} bytes, {report['trace']['energy_j']:.1f} J.")
    return "\n".join(lines) + "\n"


@click.command(help=__doc__)
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--library", help="The NVML library; default the driver's.")
@click.option("--index", default=0, help="Number of the board, as NVML counts.")
@click.option("--cuda-index", default=0, help="The same board, as CUDA counts.")
@click.option("--seconds", default=15.0, help="How long each watch lasts.")
def main(out: Path, library: str | None, index: int, cuda_index: int, seconds: float) -> None:
    try:
        study = Study(out, library, index, seconds)
    except NoGpu as error:
        sys.exit(f"there is no GPU to study: {error}")
    study.load = find_load(cuda_index)
    study.run()
    click.echo((out / "study.md").read_text())


if __name__ == "__main__":
    main()
