"""Study of the sensors of one NVIDIA board, measured on the board itself in about three minutes:

    python -m benchmarks.gpu.study OUT [--library PATH] [--index N]

writes OUT/study.json, OUT/study.md and OUT/trace, a recorded run small enough to keep and replay. It compares the
energy counter with nvidia-ml-py; learns update period, quantum, read latency and averaging window of the counter and of
each power reading, at idle and under matrix products that go on and off; asks which fields and scopes answer and how
old their stamps are; and measures what sampling does to the latency of kernel launches. It changes no setting of the
board. Each part runs in a process of its own, and what it found is written at once: one that fails, crashes or hangs
costs itself only and is tried once more without a load; the summary says so, and the exit code is 1. Without PyTorch or
CuPy the parts that need a load are left out or seen at idle only, and the summary says that too.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np

import fastgreen as fg
from benchmarks.gpu.arithmetic import ages, bracketed, fit_window, percentiles_us
from benchmarks.gpu.load import Load, OnOff, find_load
from benchmarks.gpu.summary import summary
from fastgreen import _core, _resolver
from fastgreen.measuring.monitor import Monitor
from fastgreen.sensors.catalog import channels
from fastgreen.sensors.channel import Seams, traits
from fastgreen.sensors.sensor_facts import changes, learn

PARTS = ("machine", "against_nvidia_ml_py", "sensors", "fields", "launch_latency", "trace")
PATIENCE_S = 150  # for one part
SAMPLING_MS = (1, 5, 20, 100)
TRACE_BYTES = 200_000
QUANTITIES = {"energy": "mJ", "instant": "mW", "average": "mW", "usage": "mW"}
WATCH_MS = 2.0  # several times faster than any board is known to update


class NoGpu(RuntimeError):
    """There is no GPU to study; the text is the reason."""


@dataclass
class Study:
    """One board and one output folder; `seconds` is the length of each series."""

    out: Path
    library: str | None = None
    index: int = 0
    seconds: float = 20.0
    load: Load | None = None
    seams: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.seams = {"nvml_library": self.library} if self.library else {}
        found = [c for c in channels(**self.seams) if c.source == "nvml"]
        self.ids = [c.id for c in found if c.readable and c.id.partition("/")[0] == f"nvml:{self.index}"]
        if not self.ids:
            raise NoGpu("; ".join(c.reason or "" for c in found) or "no NVIDIA board is found")
        self.board = next(c for c in found if c.id in self.ids)
        self.scope = max(c.sensor.get("scope", 0) for c in found if c.id in self.ids)

    def machine(self) -> dict[str, Any]:
        """Facts about the board and the machine."""
        query = (
            "name,driver_version,vbios_version,pstate,power.limit,clocks.sm,clocks.mem,temperature.gpu,mig.mode.current"
        )
        command = ["nvidia-smi", f"--id={self.board.device}", f"--query-gpu={query}", "--format=csv"]
        done = (
            subprocess.run(command, capture_output=True, text=True, check=False) if shutil.which(command[0]) else None
        )
        return {
            "board": self.board.name,
            "driver": self.board.driver,
            "limit_w": self.board.ceiling_w,
            "load": self.load.name if self.load else None,
            "kernel": platform.release(),
            "cpus": os.cpu_count(),
            "channels": [{"id": c.id, "note": c.note} for c in channels(**self.seams) if c.id in self.ids],
            "nvidia-smi": done.stdout.splitlines() if done else None,
        }

    def watch(self, wave: OnOff | None = None) -> dict[str, tuple[np.ndarray, dict[str, Any]]]:
        """Samples and tally of every quantity that the board may have, whether or not a monitor would choose it."""
        seams = Seams.of(**self.seams)
        sensors = [{"uuid": self.board.device, "quantity": q, "scope": self.scope} for q in QUANTITIES]
        kinds = [traits("energy" if q == "energy" else "power", u, period_ns=10**8) for q, u in QUANTITIES.items()]
        sampler = _core.Sampler(
            "nvml",
            sensors,
            kinds,
            period_ns=round(WATCH_MS * 1e6),
            ring_capacity=round(self.seconds * 1500 / WATCH_MS),
            library=seams.nvml_library,
        )
        with wave or nullcontext():
            sampler.start(10**9)
            time.sleep(self.seconds)
            sampler.stop()
        return {q: (_resolver.samples(sampler.drain(i)), sampler.tally(i)) for i, q in enumerate(QUANTITIES)}

    def sensors(self) -> dict[str, Any]:
        """Facts of every quantity, at idle and under load, and the averaging window of the powers."""
        out = {"idle": self._facts(self.watch())}
        if self.load is None:
            return out
        wave = OnOff(self.load.burst)
        busy = self.watch(wave)
        out["load"] = self._facts(busy)
        out["averaging"] = {q: self._averaging(s, wave.edges) for q, (s, _) in busy.items() if q != "energy" and len(s)}
        return out

    def _facts(self, watched: dict[str, tuple[np.ndarray, dict[str, Any]]]) -> dict[str, Any]:
        counts = ("samples", "missed", "lost", "read_errors", "why_ended", "last_error")
        return {
            q: (asdict(learn(samples, QUANTITIES[q])) if len(samples) else {}) | {n: tally[n] for n in counts}
            for q, (samples, tally) in watched.items()
        }

    def _averaging(self, samples: np.ndarray, edges: np.ndarray) -> dict[str, float] | None:
        index, earliest, latest = changes(samples)
        if len(edges) < 4:
            return None
        fit = fit_window((earliest + latest) / 2e9, samples["raw"][index] * 1e-3, edges)
        return asdict(fit) if fit else None

    def against_nvidia_ml_py(self) -> dict[str, Any]:
        """Both read the energy counter for a while; every value of the one must lie between those of the other."""
        import pynvml

        energy = f"nvml:{self.index}"
        others: list[tuple[int, int, int]] = []
        pynvml.nvmlInit()
        device = pynvml.nvmlDeviceGetHandleByUUID(self.board.device)
        with Monitor(energy, hz=200, **self.seams) as monitor, OnOff(self.load.burst) if self.load else nullcontext():
            until = time.monotonic() + min(8.0, self.seconds)
            while time.monotonic() < until:
                before = time.monotonic_ns()
                value = pynvml.nvmlDeviceGetTotalEnergyConsumption(device)
                others.append((before, time.monotonic_ns(), value))
                time.sleep(0.013)
        pynvml.nvmlShutdown()
        samples = np.concatenate(list(monitor.result.traces[0].chunks()))
        ours_mj, theirs_mj = int(samples["raw"][-1] - samples["raw"][0]), others[-1][2] - others[0][2]
        calls = percentiles_us(np.array([after - before for before, after, _ in others]))
        return {**bracketed(samples, np.array(others)), "ours_mj": ours_mj, "theirs_mj": theirs_mj, "their_call": calls}

    def fields(self) -> dict[str, Any]:
        """Which fields answer at which scope, how old their stamps are, and what the driver's own buffer holds."""
        import pynvml

        pynvml.nvmlInit()
        device = pynvml.nvmlDeviceGetHandleByUUID(self.board.device)
        wanted = [(number, scope) for number in (83, 191, 185, 186) for scope in (0, 1, 2)]
        answers = pynvml.nvmlDeviceGetFieldValues(device, wanted)
        out: dict[str, Any] = {
            f"{number} at scope {scope}": {"code": a.nvmlReturn, "type": a.valueType, "value": a.value.ullVal}
            for (number, scope), a in zip(wanted, answers, strict=True)
        }
        with OnOff(self.load.burst) if self.load else nullcontext():
            for number in (185, 186):
                stamps = []
                for _ in range(round(30 * self.seconds)):
                    before_us = time.time_ns() / 1000
                    (answer,) = pynvml.nvmlDeviceGetFieldValues(device, [(number, self.scope)])
                    stamps.append(((before_us + time.time_ns() / 1000) / 2, answer.timestamp))
                    time.sleep(0.005)
                out[f"stamps of {number}"] = ages(np.array(stamps))
        try:
            _, buffer = pynvml.nvmlDeviceGetSamples(device, pynvml.NVML_TOTAL_POWER_SAMPLES, 0)
            at_us = np.array([s.timeStamp for s in buffer])
            steps_us = np.diff(at_us)
            out["driver's buffer"] = {"samples": len(at_us), "step_p50_us": float(np.median(steps_us))}
        except pynvml.NVMLError as error:
            out["driver's buffer"] = {"error": str(error)}
        pynvml.nvmlShutdown()
        return out

    def launch_latency(self) -> dict[str, Any] | None:
        """Latency of kernel launches without sampling and with it at each rate, taken in turn.

        A round is several times as long as the longest sampling period, or nothing would be sampled in it.
        """
        rounds, round_s = 10, self.seconds / 40
        if self.load is None:
            return None
        latencies: dict[int, list[np.ndarray]] = {ms: [] for ms in (0, *SAMPLING_MS)}
        self._launch(round_s)
        for _ in range(rounds):
            for ms, into in latencies.items():
                with Monitor(self.ids, hz=1000 / ms, **self.seams) if ms else nullcontext():
                    into.append(self._launch(round_s))
        rows = {ms: percentiles_us(np.concatenate(parts)) for ms, parts in latencies.items()}
        base = rows.pop(0)
        ratios = ("p50_us", "p99_us", "p999_us", "mean_us")
        return {"without": base} | {
            f"{ms} ms": row | {n.replace("_us", "_ratio"): row[n] / base[n] for n in ratios} for ms, row in rows.items()
        }

    def _launch(self, seconds: float) -> np.ndarray:
        assert self.load is not None
        out, clock, launch = [], time.perf_counter_ns, self.load.launch
        until = clock() + round(seconds * 1e9)
        while (begin := clock()) < until:
            launch()
            out.append(clock() - begin)
            if len(out) % 50 == 0:
                self.load.wait()
        return np.array(out)

    def trace(self) -> dict[str, Any]:
        """A recorded run of a few seconds, small enough to be kept with the tests."""
        folder = self.out / "trace"
        shutil.rmtree(folder, ignore_errors=True)
        seconds = min(8.0, self.seconds)
        wave = OnOff(self.load.burst) if self.load else nullcontext()
        with Monitor(self.ids, hz=40, record=folder, **self.seams) as monitor, wave:
            for _ in range(4):
                with monitor.window("quarter"):
                    time.sleep(seconds / 4)
        size = sum(f.stat().st_size for f in folder.iterdir())
        result = monitor.result
        rows = [
            {k: v for k, v in row.items() if isinstance(v, float)} | {"id": row["id"]}
            for row in result.channels.to_pylist()
        ]
        return {
            "bytes": size,
            "fits": size <= TRACE_BYTES,
            "energy_j": result.energy_j,
            "energy_low_j": result.energy_low_j,
            "energy_high_j": result.energy_high_j,
            "replayed": fg.load(folder).energy_j,
            "channels": rows,
            "notes": result.notes,
        }


def _play(part: str, out: Path, options: list[str]) -> Any:
    """Run a part in a process of its own; returns its result, or its failure."""
    command = [sys.executable, "-m", "benchmarks.gpu.study", str(out), "--part", part, *options]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
        return json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {"failed": f"no end after {PATIENCE_S} s"}
    except subprocess.CalledProcessError as error:
        return {"failed": f"exit code {error.returncode}", "stderr": error.stderr.splitlines()[-15:]}


def run(out: Path, options: list[str]) -> dict[str, Any]:
    """Run every part; write the report so far after each."""
    out.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {}
    for part in PARTS:
        begun = time.monotonic()
        found = _play(part, out, options)
        if failed(found) and part != "launch_latency":
            found = _play(part, out, [*options, "--no-load"]) | {"with_load": found}
        report[part] = found
        click.echo(f"{part}: {time.monotonic() - begun:.0f} s{', failed' if failed(found) else ''}", err=True)
        (out / "study.json").write_text(json.dumps(report, indent=2) + "\n")
        (out / "study.md").write_text(summary(report))
    return report


def failed(part: dict[str, Any] | None) -> bool:
    return part is not None and bool({"failed", "with_load"} & part.keys())


@click.command(help=__doc__)
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--library", help="The NVML library; default the driver's.")
@click.option("--index", default=0, help="Number of the board, as NVML counts.")
@click.option("--cuda-index", default=0, help="The same board, as CUDA counts.")
@click.option("--seconds", default=20.0, help="How long each watch lasts.")
@click.option("--load/--no-load", "with_load", default=True, help="Whether to work the GPU.")
@click.option("--part", type=click.Choice(PARTS), help="Only this part, as JSON on stdout.")
def main(
    out: Path, library: str | None, index: int, cuda_index: int, seconds: float, with_load: bool, part: str | None
) -> None:
    try:
        study = Study(out, library, index, seconds)
    except NoGpu as error:
        sys.exit(f"there is no GPU to study: {error}")
    if part is not None:
        study.load = find_load(cuda_index) if with_load else None
        click.echo(json.dumps(getattr(study, part)()))
        return
    options = [
        f"--index={index}",
        f"--cuda-index={cuda_index}",
        f"--seconds={seconds}",
        f"--{'' if with_load else 'no-'}load",
    ]
    report = run(out, options + ([f"--library={library}"] if library else []))
    click.echo((out / "study.md").read_text())
    sys.exit(any(failed(found) for found in report.values()))


if __name__ == "__main__":
    main()
