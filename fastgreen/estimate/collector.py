"""Measure layers on this machine: run forward passes of each configuration for a set time, under a monitor.

Each configuration is built with PyTorch, warmed up once, and run without gradients on random tensors until the time
is over. The energy of that window, with its bounds and the share of each channel, becomes a row. Rows are appended to
an Arrow stream as soon as a configuration is done, so a killed collection loses one configuration and continues there.
Energies come from :class:`fastgreen.Monitor`. Its running totals survive any number of counter wraps.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from fastgreen.errors import ChannelNotFound, TraceError
from fastgreen.estimate.layerfile import appending, read_conditions, read_rows
from fastgreen.estimate.sampling import Plan
from fastgreen.estimate.workload import torch_workload

__all__ = ["collect"]


class Meter(Protocol):
    """The part of :class:`fastgreen.Monitor` that a collection uses."""

    @property
    def result(self) -> Any: ...

    def window(self, name: str) -> Any: ...
    def __enter__(self) -> Any: ...
    def __exit__(self, *exc: object) -> Any: ...


def collect(
    plan: Plan,
    folder: str | Path,
    *,
    monitor: Callable[[list[str] | None], Meter] | None = None,
    workload: Callable[[str, dict[str, int]], Callable[[], object]] | None = None,
    progress: Callable[[int, int], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Path:
    """Measure every configuration of a plan that is not measured yet.

    Parameters
    ----------
    plan : Plan
        The configurations to measure.
    folder : path
        Folder of ``layers.arrow``. Rows already there are kept and not measured again.
    monitor : callable, optional
        Makes the meter of one configuration from the plan's channels; by default :class:`fastgreen.Monitor`.
    workload : callable, optional
        Returns a forward pass for a kind and sizes; by default one of PyTorch.
    progress : callable, optional
        Called with (configurations done, all configurations) after each one.
    clock : callable
        Returns the time in s; decides when a window ends.

    Returns
    -------
    Path
        The file ``layers.arrow``. A configuration that could not run (out of memory) has rows of 0 passes and the
        reason.

    Raises
    ------
    ImportError
        If PyTorch is not installed.
    ChannelNotFound
        If no energy channel can be read.
    TraceError
        If the folder holds a ``layers.arrow`` of another format or version, or one that was measured on another machine
        or device, with other threads or by other channels; or if another collection is writing there.
    ValueError
        If PyTorch cannot use the plan's device.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "layers.arrow"
    monitor = monitor or _monitor
    workload = workload or torch_workload(plan.threads, plan.device, plan.rotate_bytes)
    conditions: dict[str, str | float | None] = {"machine": processor(), "device": plan.device, "threads": plan.threads}
    conditions["rotate_bytes"] = plan.rotate_bytes
    done = read_rows(path) if path.exists() else None
    if done is not None and done.num_rows:
        _refuse_mixture(path, {"rotate_bytes": 0.0, **read_conditions(path)}, conditions)
    measured = _repeats(done)
    todo = [(kind, sizes) for kind, sizes in plan.layers if measured[_key(kind, sizes)] < plan.repeats]
    total, count = len(plan.layers), len(plan.layers) - len(todo)
    if not todo and done is not None:
        return path
    channels = _channels(done.to_pylist()) if done is not None else None
    with appending(path, done, conditions) as append:
        for kind, sizes in todo:
            first = measured[_key(kind, sizes)]
            rows = _measure(plan, first, kind, sizes, monitor, workload, clock)
            channels = _refuse_other_channels(path, channels, _channels(rows))
            append(rows)
            count += 1
            if progress is not None:
                progress(count, total)
    return path


def processor() -> str:
    """The processor's name, as the kernel knows it."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "this machine"


def _refuse_mixture(path: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse to mix these energies with those of another machine, device or number of threads."""
    for name, value in now.items():
        if before.get(name, value) != value:
            raise TraceError(
                f"{path}: was collected with {name} {before[name]!r}, not {value!r}; collect into another folder"
            )


def _channels(rows: list[dict[str, Any]]) -> frozenset[str] | None:
    """The channels that measured these rows; None if no configuration ran."""
    return next((frozenset(entry["id"] for entry in row["channels"]) for row in rows if row["passes"]), None)


def _refuse_other_channels(
    path: Path, before: frozenset[str] | None, now: frozenset[str] | None
) -> frozenset[str] | None:
    if before is not None and now is not None and before != now:
        raise TraceError(
            f"{path}: its rows were measured by {', '.join(sorted(before))}; the channels that can be read now are "
            f"{', '.join(sorted(now))}; collect into another folder, or choose --channels"
        )
    return now or before


def _key(kind: str, sizes: dict[str, int]) -> tuple:
    return (kind, *sorted((name, int(value)) for name, value in sizes.items()))


def _repeats(done: pa.Table | None) -> Counter[tuple]:
    """How many repeats of each configuration there are."""
    rows = done.select(["kind", "sizes"]).to_pylist() if done is not None else []
    return Counter(_key(row["kind"], dict(row["sizes"])) for row in rows)


def _measure(
    plan: Plan,
    first: int,
    kind: str,
    sizes: dict[str, int],
    monitor: Callable,
    workload: Callable,
    clock: Callable[[], float],
) -> list[dict[str, Any]]:
    """Measure one configuration: a row per repeat, from the first missing one on."""
    empty = {"kind": kind, "sizes": list(sizes.items()), "passes": 0, "duration_s": 0.0, "estimated": False}
    empty |= {"energy_j": 0.0, "energy_low_j": 0.0, "energy_high_j": 0.0, "channels": []}
    empty |= {"energy_per_pass_j": None, "energy_per_pass_low_j": None, "energy_per_pass_high_j": None}
    try:
        forward = workload(kind, sizes)
        forward()
    except (RuntimeError, MemoryError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        return [{**empty, "repeat": repeat, "failure": reason} for repeat in range(first, plan.repeats)]
    passes = []
    with monitor(plan.channels) as meter:
        window = meter.window("layer")
        for _ in range(first, plan.repeats):
            done = 0
            with window:
                end = clock() + plan.seconds
                while True:
                    forward()
                    done += 1
                    if clock() >= end:
                        break
            passes.append(done)
    return _rows(meter.result, empty, passes, first)


def _rows(result: Any, empty: dict[str, Any], passes: list[int], first: int) -> list[dict[str, Any]]:
    totals = result.windows("layer").to_pylist()
    by_channel: dict[int, list[dict[str, Any]]] = {}
    for row in result.windows("layer", per_channel=True).to_pylist():
        entry = {name: row[name] for name in ("energy_j", "energy_low_j", "energy_high_j")}
        by_channel.setdefault(row["index"], []).append({"id": row["channel"], **entry})
    if not by_channel:
        raise ChannelNotFound("no energy channel can be read here; `fastgreen channels` shows the reason")
    rows = []
    for repeat, (row, done) in enumerate(zip(totals, passes, strict=True)):
        energies = {name: row[name] for name in ("duration_s", "energy_j", "energy_low_j", "energy_high_j")}
        rows.append(
            {
                **empty,
                **energies,
                "energy_per_pass_j": row["energy_j"] / done,
                "energy_per_pass_low_j": row["energy_low_j"] / done,
                "energy_per_pass_high_j": row["energy_high_j"] / done,
                "repeat": first + repeat,
                "passes": done,
                "channels": by_channel.get(row["index"], []),
                "estimated": bool(result.estimated),
                "failure": None,
            }
        )
    return rows


def _monitor(channels: list[str] | None) -> Meter:
    import fastgreen

    # Windows are short, so the monitor waits for the last update of a slow counter.
    return fastgreen.Monitor(channels, settle=True)
