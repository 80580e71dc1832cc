"""Writer of AIPowerMeter's layout: ``<main>/input_<size>/run_<k>/power_metrics.json`` and ``latency.csv``."""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from fastgreen.atomic_file import new_file, write_text
from fastgreen.errors import FastgreenWarning
from fastgreen.recordings.comparison import Curve
from fastgreen.recordings.readers.aipowermeter import SEGMENT_END
from fastgreen.recordings.readers.timestamps import check_zone
from fastgreen.recordings.recording import Recording, recording_of
from fastgreen.sensors.channel_kinds import kind_of
from fastgreen.units import NS_PER_S

__all__ = ["run_folder", "write_power_metrics", "write_run"]

# fastgreen's channel -> the part and keys of the format; older and newer readers use different keys.
_KEYS = {
    "package": ("cpu", ("intel_power",)),
    "core": ("cpu", ("total_cpu_power",)),
    "uncore": ("cpu", ("uncore_power",)),
    "psys": ("cpu", ("psys_power",)),
    "dram": ("cpu", ("total_dram_power",)),
    "process/package": ("cpu", ("rel_intel_power",)),
    "gpu": ("gpu", ("nvidia_draw_absolute",)),
    "process/gpu": ("gpu", ("nvidia_estimated_attributable_power_draw",)),
}
# Channels of fastgreen; on a machine without sensors the estimate is written as the package.
_OURS = (
    (r"(?:rapl|perf):package-\d+|procstat:\w+", "package"),
    (r"(?:rapl|perf):package-\d+/(?:die-\d+/)?(core|uncore|dram)", r"\1"),
    (r"(?:rapl|perf):psys(?:-\d+)?", "psys"),
    (r"nvml:(\d+)", r"gpu:\1"),
    (r"aipowermeter:(.+)|nvidia-smi:(gpu:\d+)", r"\1\2"),
)


def run_folder(main: str | Path, size: object, repeat: int) -> Path:
    """Path of a run's folder: ``<main>/input_<size>/run_<repeat>``."""
    return Path(main) / f"input_{size}" / f"run_{repeat}"


def write_run(
    main: str | Path,
    size: object,
    repeat: int,
    source: Any,
    latency_s: Iterable[float] = (),
    *,
    period_s: float | None = None,
    timezone: str = "UTC",
) -> Path:
    """Write one run of a study in AIPowerMeter's layout.

    Parameters
    ----------
    main : path
        Folder of the study.
    size : object
        Size of the input, as text in the name of the folder.
    repeat : int
        Number of the run.
    source : Recording or fastgreen.Result
        The measured power.
    latency_s : iterable of float
        Seconds of each inference, for ``latency.csv``.
    period_s, timezone
        As in :func:`write_power_metrics`.

    Returns
    -------
    Path
        Folder of the run.
    """
    folder = run_folder(main, size, repeat)
    folder.mkdir(parents=True, exist_ok=True)
    write_power_metrics(folder / "power_metrics.json", source, period_s=period_s, timezone=timezone)
    write_latencies(folder, latency_s)
    return folder


def write_latencies(folder: Path, latency_s: Iterable[float]) -> None:
    """Write ``latency.csv``: the seconds of one inference per line, without a header."""
    write_text(folder / "latency.csv", "".join(f"{seconds!r}\n" for seconds in map(float, latency_s)))


def write_power_metrics(path: str | Path, source: Any, *, period_s: float | None = None, timezone: str = "UTC") -> None:
    """Write a recording as AIPowerMeter's ``power_metrics.json``: a line per time, a marker after each segment.

    Parameters
    ----------
    path : path
        The file.
    source : Recording or fastgreen.Result
        Its packages, core, uncore, dram, psys and GPUs are written; the format has no name for other channels.
    period_s : float, optional
        Write mean powers over periods of this length in s instead of the points. Needed if the channels were read at
        different times; then the default is 2 s, the period of AIPowerMeter.
    timezone : str
        Time zone of the timestamps, which are local times with microseconds and without offset.

    Raises
    ------
    ValueError
        If `period_s` is not above 0, or the time zone is unknown.

    Notes
    -----
    Without `period_s` the energy of the file (trapezoids) is that of the recording, but for rounding to microseconds.
    """
    zone = ZoneInfo(check_zone(timezone))
    recording = recording_of(source)
    places = _places(recording)
    points = {name: recording.points(name) for names in places.values() for name in names}
    if period_s is None and not (_same_moments(points) and all(len(names) == 1 for names in places.values())):
        period_s = 2.0
    raw = _resampled(points, period_s) if period_s is not None else _as_recorded(points)
    lines = ((at_ns, segment, _gathered(values, places)) for at_ns, segment, values in raw)
    with new_file(path, overwrite=True, devices=True) as place, open(place, "w", encoding="utf-8") as stream:
        last = None
        for at_ns, segment, values in lines:
            if last is not None and segment != last:
                stream.write(json.dumps(SEGMENT_END) + "\n")
            last = segment
            stream.write(json.dumps({"date": _local(at_ns, zone), "metrics": _metrics(values)}) + "\n")
        if last is not None:
            stream.write(json.dumps(SEGMENT_END) + "\n")


def _places(recording: Recording) -> dict[str, list[str]]:
    """Channels by name in the format; warns about a counted channel without a name."""
    places: dict[str, list[str]] = {}
    for row in recording.channels.to_pylist():
        place = published_name(row["id"])
        if not row["samples"] or row["kind"] != "power":
            continue
        if place is not None:
            places.setdefault(place, []).append(row["id"])
        elif row["root"]:
            text = f"{row['id']} is left out: power_metrics.json has no name for it"
            warnings.warn(text, FastgreenWarning, stacklevel=3)
    return places


def published_name(channel: str) -> str | None:
    """Name in AIPowerMeter's format of a channel of fastgreen or of a reader; None if it has none."""
    if channel in _KEYS or re.fullmatch(r"gpu:\d+", channel):
        return channel
    known = next((re.sub(pattern, name, channel) for pattern, name in _OURS if re.fullmatch(pattern, channel)), None)
    if known is not None or channel.partition(":")[0] not in ("hwmon", "scmi"):
        return known
    return "package" if kind_of(channel) == "cpu" else None


def _gathered(values: dict[str, float], places: dict[str, list[str]]) -> dict[str, float]:
    """Sum the channels of each name: the format has one number for all packages, and one for all memory."""
    return {place: math.fsum(values[name] for name in names) for place, names in places.items()}


def _same_moments(points: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]) -> bool:
    first = next(iter(points.values()), None)
    return first is None or all(
        np.array_equal(first[0], p[0]) and np.array_equal(first[1], p[1]) for p in points.values()
    )


def _as_recorded(
    points: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]],
) -> Iterable[tuple[int, int, dict[str, float]]]:
    if not points:
        return
    time_ns, segment, _ = next(iter(points.values()))
    for i in range(time_ns.size):
        yield int(time_ns[i]), int(segment[i]), {name: float(p[2][i]) for name, p in points.items()}


def _resampled(
    points: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]], period_s: float
) -> Iterable[tuple[int, int, dict[str, float]]]:
    if not period_s > 0:
        raise ValueError(f"period_s must be above 0, not {period_s}")
    curves = {name: Curve(*p) for name, p in points.items()}
    spans = {name: curve.spans() for name, curve in curves.items()}
    if not any(spans.values()):
        return
    start = min(a for s in spans.values() for a, _ in s)
    end = max(b for s in spans.values() for _, b in s)
    edges = np.append(np.arange(start, end, round(period_s * NS_PER_S), dtype=np.int64), end)
    means = []
    for a, b in pairwise(edges):
        means.append({name: _mean_w(curve, spans[name], int(a), int(b)) for name, curve in curves.items()})
    # A timestamp is the end of its interval; the first line only marks the start of the first interval.
    yield int(edges[0]), 0, means[0]
    for at_ns, values in zip(edges[1:], means, strict=True):
        yield int(at_ns), 0, values


def _mean_w(curve: Curve, spans: list[tuple[int, int]], start_ns: int, end_ns: int) -> float:
    inside = [(max(a, start_ns), min(b, end_ns)) for a, b in spans]
    inside = [(a, b) for a, b in inside if a < b]
    seconds = sum(b - a for a, b in inside) / NS_PER_S
    return sum(curve.energy_j(a, b) for a, b in inside) / seconds if seconds else math.nan


def _metrics(values: dict[str, float]) -> dict[str, Any]:
    present = {name: value for name, value in values.items() if math.isfinite(value)}
    metrics: dict[str, Any] = {"cpu": {}}
    for name, (part, keys) in _KEYS.items():
        if name in present:
            metrics.setdefault(part, {}).update(dict.fromkeys(keys, present[name]))
    boards = {name.removeprefix("gpu:"): w for name, w in present.items() if name.startswith("gpu:")}
    if boards:
        gpu = metrics.setdefault("gpu", {})
        gpu.setdefault("nvidia_draw_absolute", math.fsum(boards.values()))
        gpu["per_gpu_power_draw"] = boards
    if "gpu" in metrics:
        # AIPowerMeter's loader needs these keys.
        metrics["gpu"].setdefault("per_gpu_power_draw", {})
        metrics["gpu"]["per_gpu_attributable_power"] = {"all": present.get("process/gpu")}
        for key in (
            "per_gpu_attributable_mem_use",
            "per_gpu_absolute_percent_usage",
            "per_gpu_estimated_attributable_utilization",
        ):
            metrics["gpu"][key] = {}
    return metrics


def _local(at_ns: int, zone: ZoneInfo) -> str:
    seconds, rest = divmod(at_ns, NS_PER_S)
    moment = datetime.fromtimestamp(seconds, zone).replace(tzinfo=None) + timedelta(microseconds=round(rest / 1000))
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f")
