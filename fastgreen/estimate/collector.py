"""Measure layers on one's own machine: forward passes of each configuration for a set time, through the meter.

Each configuration is built with PyTorch, warmed up once, and run without gradients on random tensors until the time
is over; the energy of that window, with its bounds and every channel's share, becomes a row. Rows are appended to an
Arrow stream as soon as a configuration is done, so a killed collection loses one configuration and goes on from there.
Energies come from :class:`fastgreen.Monitor`, whose running totals survive any number of counter wraps.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.ipc

from fastgreen.errors import ChannelNotFound, TraceError
from fastgreen.estimate.sampling import Plan

__all__ = ["SCHEMA", "collect", "read_rows", "torch_workload"]

VERSION = b"1"

_CHANNEL = pa.struct(
    [
        pa.field("id", pa.string()), pa.field("energy_j", pa.float64(), metadata={"unit": "J"}),
        pa.field("energy_low_j", pa.float64(), metadata={"unit": "J"}),
        pa.field("energy_high_j", pa.float64(), metadata={"unit": "J"}),
    ]
)  # fmt: skip

SCHEMA = pa.schema(
    [
        pa.field("kind", pa.string()),
        pa.field("sizes", pa.map_(pa.string(), pa.int64())),
        pa.field("repeat", pa.int64()),
        pa.field("passes", pa.int64()),
        pa.field("duration_s", pa.float64(), metadata={"unit": "s"}),
        pa.field("energy_j", pa.float64(), metadata={"unit": "J"}),
        pa.field("energy_low_j", pa.float64(), metadata={"unit": "J"}),
        pa.field("energy_high_j", pa.float64(), metadata={"unit": "J"}),
        pa.field("energy_per_pass_j", pa.float64(), metadata={"unit": "J"}),
        pa.field("energy_per_pass_low_j", pa.float64(), metadata={"unit": "J"}),
        pa.field("energy_per_pass_high_j", pa.float64(), metadata={"unit": "J"}),
        pa.field("channels", pa.list_(_CHANNEL)),
        pa.field("estimated", pa.bool_()),
        pa.field("failure", pa.string()),
    ],
    metadata={"fastgreen.layers.version": VERSION, "energy_j": "of all passes of the window together"},
)


class Meter(Protocol):
    """What is used of :class:`fastgreen.Monitor`."""

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
        What to measure.
    folder : path
        Gets ``layers.arrow``; what it holds already is kept and not measured again.
    monitor : callable, optional
        Makes the meter of one configuration from the plan's channels; :class:`fastgreen.Monitor` without it.
    workload : callable, optional
        Gives a forward pass for a kind and sizes; PyTorch without it.
    progress : callable, optional
        Told (done, all) after each configuration.
    clock : callable
        Seconds; when a window is over.

    Returns
    -------
    Path
        Of ``layers.arrow``. A configuration that could not run (out of memory) has rows of 0 passes and the reason.

    Raises
    ------
    ImportError
        Without PyTorch.
    ChannelNotFound
        If no energy channel can be read.
    TraceError
        If the folder holds a ``layers.arrow`` of another kind or version.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "layers.arrow"
    monitor = monitor or _monitor
    workload = workload or torch_workload(plan.threads, plan.device)
    done = read_rows(path) if path.exists() else None
    finished = _finished(done, plan.repeats)
    todo = [(kind, sizes) for kind, sizes in plan.layers if _key(kind, sizes) not in finished]
    total, count = len(plan.layers), len(plan.layers) - len(todo)
    for kind, sizes, writer in _appending(path, done, finished, todo):
        rows = _measure(plan, kind, sizes, monitor, workload, clock)
        writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=SCHEMA))
        count += 1
        if progress is not None:
            progress(count, total)
    return path


def read_rows(path: str | Path) -> pa.Table:
    """Rows of ``layers.arrow``, also of a collection that was killed: all up to its last whole configuration."""
    try:
        with pa.OSFile(str(path)) as file:
            reader = pa.ipc.open_stream(file)
            if reader.schema.metadata is None or b"fastgreen.layers.version" not in reader.schema.metadata:
                raise TraceError(f"{path}: not a collection of layers")
            if (version := reader.schema.metadata[b"fastgreen.layers.version"]) != VERSION:
                raise TraceError(
                    f"{path}: version {version.decode()} of a collection; this fastgreen reads {VERSION.decode()}"
                )
            if not reader.schema.equals(SCHEMA):
                raise TraceError(f"{path}: a collection with other columns than this fastgreen writes")
            batches = _whole_batches(reader)
    except pa.ArrowInvalid as error:
        raise TraceError(f"{path}: not an Arrow stream ({error})") from error
    return pa.Table.from_batches(batches, schema=SCHEMA)


def _whole_batches(reader: Any) -> list[pa.RecordBatch]:
    """All batches up to the end, or up to the one that was being written when the collection was killed."""
    batches = []
    while True:
        try:
            batches.append(reader.read_next_batch())
        except (StopIteration, pa.ArrowInvalid, OSError):
            return batches


def _appending(
    path: Path, done: pa.Table | None, finished: set, todo: list[tuple[str, dict[str, int]]]
) -> Iterable[tuple[str, dict[str, int], Any]]:
    """Give each configuration to be measured with the writer of its rows; the file changes only once it is whole.

    The rows kept are written to a new file, which then takes the old one's place and grows.
    """
    if not todo and done is not None:
        return
    fresh = path.with_suffix(".arrow.new")
    with fresh.open("wb") as file, pa.ipc.new_stream(file, SCHEMA) as writer:
        for batch in done.to_batches() if done is not None else []:
            kept = [row for row in batch.to_pylist() if _key(row["kind"], dict(row["sizes"])) in finished]
            if kept:
                writer.write_batch(pa.RecordBatch.from_pylist(kept, schema=SCHEMA))
        file.flush()
        os.replace(fresh, path)
        for kind, sizes in todo:
            yield kind, sizes, writer
            file.flush()


def _key(kind: str, sizes: dict[str, int]) -> tuple:
    return (kind, *sorted((name, int(value)) for name, value in sizes.items()))


def _finished(done: pa.Table | None, repeats: int) -> set:
    counts: dict[tuple, int] = {}
    for row in done.select(["kind", "sizes"]).to_pylist() if done is not None else []:
        key = _key(row["kind"], dict(row["sizes"]))
        counts[key] = counts.get(key, 0) + 1
    return {key for key, count in counts.items() if count >= repeats}


def _measure(
    plan: Plan, kind: str, sizes: dict[str, int], monitor: Callable, workload: Callable, clock: Callable[[], float]
) -> list[dict[str, Any]]:
    """The rows of one configuration: one per repeat."""
    empty = {"kind": kind, "sizes": list(sizes.items()), "passes": 0, "duration_s": 0.0, "estimated": False}
    empty |= {"energy_j": 0.0, "energy_low_j": 0.0, "energy_high_j": 0.0, "channels": []}
    empty |= {"energy_per_pass_j": None, "energy_per_pass_low_j": None, "energy_per_pass_high_j": None}
    try:
        forward = workload(kind, sizes)
        forward()
    except (RuntimeError, MemoryError) as error:
        reason = str(error).splitlines()[0]
        return [{**empty, "repeat": repeat, "failure": reason} for repeat in range(plan.repeats)]
    passes = []
    with monitor(plan.channels) as meter:
        window = meter.window("layer")
        for _ in range(plan.repeats):
            done = 0
            with window:
                end = clock() + plan.seconds
                while True:
                    forward()
                    done += 1
                    if clock() >= end:
                        break
            passes.append(done)
    return _rows(meter.result, empty, passes)


def _rows(result: Any, empty: dict[str, Any], passes: list[int]) -> list[dict[str, Any]]:
    whole = result.windows("layer").to_pylist()
    single: dict[int, list[dict[str, Any]]] = {}
    for row in result.windows("layer", per_channel=True).to_pylist():
        entry = {name: row[name] for name in ("energy_j", "energy_low_j", "energy_high_j")}
        single.setdefault(row["index"], []).append({"id": row["channel"], **entry})
    if not single:
        raise ChannelNotFound("no energy channel can be read here; `fastgreen channels` says why")
    rows = []
    for repeat, (row, done) in enumerate(zip(whole, passes, strict=True)):
        energies = {name: row[name] for name in ("duration_s", "energy_j", "energy_low_j", "energy_high_j")}
        rows.append(
            {
                **empty,
                **energies,
                "energy_per_pass_j": row["energy_j"] / done,
                "energy_per_pass_low_j": row["energy_low_j"] / done,
                "energy_per_pass_high_j": row["energy_high_j"] / done,
                "repeat": repeat,
                "passes": done,
                "channels": single.get(row["index"], []),
                "estimated": bool(result.estimated),
                "failure": None,
            }
        )
    return rows


def _monitor(channels: list[str] | None) -> Meter:
    import fastgreen

    # The last update of a slow counter is waited for: windows are short.
    return fastgreen.Monitor(channels, settle=True)


def torch_workload(
    threads: int | None = None, device: str = "cpu"
) -> Callable[[str, dict[str, int]], Callable[[], object]]:
    """Forward passes of PyTorch layers without gradients on random tensors; on a GPU each is waited for."""
    try:
        import torch
    except ImportError as error:
        raise ImportError("collecting layers needs torch: pip install 'fastgreen[torch]'") from error
    if threads is not None:
        torch.set_num_threads(threads)

    def build(kind: str, sizes: dict[str, int]) -> Callable[[], object]:
        module, shape = _module(torch, kind, sizes)
        module.eval().to(device)
        sample = torch.rand(shape, device=device)

        def forward() -> object:
            with torch.no_grad():
                result = module(sample)
            if sample.is_cuda:
                torch.cuda.synchronize(sample.device)
            return result

        return forward

    return build


def _module(torch: Any, kind: str, s: dict[str, int]) -> tuple[Any, tuple[int, ...]]:
    batch = s["batch_size"]
    if kind == "Linear":
        return torch.nn.Linear(s["input_size"], s["output_size"]), (batch, s["input_size"])
    if kind not in ("Conv2d", "MaxPool2d"):
        make = {"Softmax": lambda: torch.nn.Softmax(dim=1)}.get(kind, getattr(torch.nn, kind))
        return make(), (batch, s["input_size"])
    high, wide = s["image_size"], s.get("image_width", s["image_size"])
    stride = s.get("stride", s["kernel_size"] if kind == "MaxPool2d" else 1)
    window = {
        "kernel_size": (s["kernel_size"], s.get("kernel_width", s["kernel_size"])),
        "stride": (stride, s.get("stride_width", stride)),
        "padding": (s.get("padding", 0), s.get("padding_width", s.get("padding", 0))),
        "dilation": s.get("dilation", 1),
    }
    if kind == "MaxPool2d":
        module = torch.nn.MaxPool2d(**window, ceil_mode=bool(s.get("ceil_mode", 0)))
    else:
        module = torch.nn.Conv2d(
            s["in_channels"], s["out_channels"], groups=s.get("groups", 1), bias=bool(s.get("bias", 1)), **window
        )
    return module, (batch, s["in_channels"], high, wide)
