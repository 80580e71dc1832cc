"""A run as a timeline for Perfetto and Chrome: power as counters, windows and spans as slices.

The format is the "Trace Event Format": a list of events with a phase ``ph`` and a time ``ts`` in microseconds. As in
traces of torch.profiler, the instant of ``ts`` 0 is ``baseTimeNanoseconds`` of the Unix clock, so that a run and a
profile of one process share their time axis.
"""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from fastgreen.atomic_file import write_bytes
from fastgreen.errors import TraceError
from fastgreen.guards.arguments import path_text
from fastgreen.guards.printable import printable
from fastgreen.reports.curves import lines
from fastgreen.units import NS_PER_S

if TYPE_CHECKING:
    import pyarrow as pa

    from fastgreen.results.result import Result

    Event = dict[str, Any]

__all__ = ["trace_of", "write_trace"]

_BASE = "baseTimeNanoseconds"
_US = 1000  # ns
_NAME = 1000  # characters of a name


def write_trace(result: Result, path: str | os.PathLike[str], merge: str | os.PathLike[str] | None = None) -> None:
    """Write power, windows and spans of a run as a trace that Perfetto and Chrome open.

    Parameters
    ----------
    result : Result
        A finished run.
    path : path
        The JSON file; an existing one is replaced. A name that ends in .gz is compressed.
    merge : path, optional
        A trace of torch.profiler, of the same machine and time. Its events are kept, and those of the run are added
        on its clock. So is each of its slices once more, with its energies: kernels, operators and named ranges have
        those of ``fastgreen share --each``.

    Raises
    ------
    ValueError
        If `merge` is not a trace, or its time does not overlap with that of the run.
    OSError
        If a file cannot be read or written.
    """
    place = path_text("path", path)
    profile = None if merge is None else _read_profile(Path(path_text("merge", merge)))
    text = json.dumps(trace_of(result, profile)).encode()
    write_bytes(place, gzip.compress(text, mtime=0) if place.endswith(".gz") else text)


def trace_of(result: Result, profile: dict[str, Any] | None = None) -> dict[str, Any]:
    """The trace as Python values; with a profile, that profile with the events of the run.

    Parameters
    ----------
    result : Result
    profile : dict, optional
        A trace with ``traceEvents`` and, if its times do not count from 1970, ``baseTimeNanoseconds``.

    Raises
    ------
    ValueError
        If the time of the profile does not overlap with that of the run.
    """
    to_unix_ns = result.metadata["realtime_ns"] - result.metadata["monotonic_ns"]
    if profile is None:
        other = {"host": result.metadata.get("host"), "fastgreen": result.metadata.get("version")}
        profile = {_BASE: result.start_ns + to_unix_ns, "displayTimeUnit": "ms", "otherData": other, "traceEvents": []}
        process = 1
    else:
        _check_overlap(result, profile, to_unix_ns)
        used = [e["pid"] for e in profile["traceEvents"] if isinstance(e.get("pid"), int)]
        process = max(used, default=0) + 1
    zero_ns = int(profile.get(_BASE, 0)) - to_unix_ns  # CLOCK_MONOTONIC of ts 0
    events = [_label("process_name", process, 0, "energy (fastgreen)")]
    events += _counters(result, process, zero_ns)
    events += _slices(result, process, zero_ns)
    events += _spans(result, process, zero_ns)
    if profile["traceEvents"]:
        events += _priced(result, profile, process + 1)
    return {**profile, "traceEvents": [*profile["traceEvents"], *events]}


def _label(kind: str, process: int, thread: int, name: str) -> Event:
    return {"ph": "M", "name": kind, "pid": process, "tid": thread, "ts": 0, "args": {"name": name}}


def _counters(result: Result, process: int, zero_ns: int) -> list[Event]:
    """A counter track for each curve; a value holds until the next, and the last one ends at 0."""
    events: list[Event] = []
    for level in lines(result).levels[-1:]:
        ts = ((level.edges_ns - zero_ns) / _US).tolist()
        for name, curve in level.curves.items():
            track = f"power {printable(name, most=_NAME) or 'of all counted channels'} (W)"
            watts = [*curve["mean"].tolist(), 0.0]
            events += [
                {"ph": "C", "name": track, "pid": process, "tid": 0, "ts": at, "args": {"W": value}}
                for at, value in zip(ts, watts, strict=True)
                if np.isfinite(value)
            ]
    return events


def _slices(result: Result, process: int, zero_ns: int) -> list[Event]:
    """A track for each name of windows. Windows that overlap others of their name become asynchronous slices."""
    events: list[Event] = []
    identity = 0
    for thread, name in enumerate(result.names, start=1):
        table = result.windows(name).sort_by("start_ns")
        shown = printable(name, most=_NAME)
        begin_ns = table["start_ns"].to_numpy()
        length_ns = np.rint(table["duration_s"].to_numpy() * NS_PER_S).astype(np.int64)
        ts, until = ((begin_ns - zero_ns) / _US).tolist(), ((begin_ns + length_ns - zero_ns) / _US).tolist()
        arguments = _arguments(table, result.known)
        if bool(np.all(begin_ns[1:] >= (begin_ns + length_ns)[:-1])):
            events.append(_label("thread_name", process, thread, shown))
            same: Event = {"ph": "X", "name": shown, "cat": "window", "pid": process, "tid": thread}
            lengths = (length_ns / _US).tolist()
            events += [
                {**same, "ts": at, "dur": dur, "args": said}
                for at, dur, said in zip(ts, lengths, arguments, strict=True)
            ]
            continue
        for at, end, said in zip(ts, until, arguments, strict=True):
            identity += 1
            pair = {"name": shown, "cat": "window", "id": f"window {identity}", "pid": process, "tid": 0}
            events += [{**pair, "ph": "b", "ts": at, "args": said}, {**pair, "ph": "e", "ts": end}]
    return events


def _spans(result: Result, process: int, zero_ns: int) -> list[Event]:
    """A track for each ledger. Spans are asynchronous slices, because they may overlap; phases are slices in them."""
    events: list[Event] = []
    for name in result.ledger_names:
        table = result.spans(name)
        if not table.num_rows:
            continue
        shown = printable(name, most=_NAME)
        phases = _phases(result, name)
        columns = zip(
            table["start_ns"].to_pylist(), table["duration_s"].to_pylist(), _arguments(table, result.known), strict=True
        )
        for number, (begin_ns, seconds, said) in enumerate(columns):
            same = {"cat": "span", "id": f"{shown} {number}", "pid": process, "tid": 0}
            begin, end = (begin_ns - zero_ns) / _US, (begin_ns + round(seconds * NS_PER_S) - zero_ns) / _US
            events.append({**same, "name": shown, "ph": "b", "ts": begin, "args": said})
            for phase, start_ns, lasted_s, of_phase in phases.get((said["id"], begin_ns), ()):
                until = min((start_ns + round(lasted_s * NS_PER_S) - zero_ns) / _US, end)
                events.append({**same, "name": phase, "ph": "b", "ts": (start_ns - zero_ns) / _US, "args": of_phase})
                events.append({**same, "name": phase, "ph": "e", "ts": until})
            events.append({**same, "name": shown, "ph": "e", "ts": end})
    return events


def _phases(result: Result, name: str) -> dict[tuple[str, int], list[tuple[str, int, float, dict[str, Any]]]]:
    """The phases of the spans that have any, by id and begin of the span."""
    table = result.spans(name, by="phase")
    if table["phase"].null_count == table.num_rows:
        return {}
    out: dict[tuple[str, int], list[tuple[str, int, float, dict[str, Any]]]] = {}
    key, end_ns = ("", 0), -1
    rows = zip(
        table["id"].to_pylist(),
        table["start_ns"].to_pylist(),
        table["duration_s"].to_pylist(),
        table["phase"].cast("string").to_pylist(),
        _arguments(table, result.known),
        strict=True,
    )
    for identity, start_ns, seconds, phase, said in rows:
        if identity != key[0] or start_ns != end_ns:  # the pieces of a span follow each other
            key = (identity, start_ns)
        end_ns = start_ns + round(seconds * NS_PER_S)
        if phase is not None:
            out.setdefault(key, []).append((printable(phase, most=_NAME), start_ns, seconds, said))
    return out


def _arguments(table: pa.Table, known: bool) -> list[dict[str, Any]]:
    """What a viewer shows of a slice: all columns but its name and its place in time."""
    columns = [c for c in table.schema.names if c not in ("name", "start_ns", "duration_s")]
    if not known:
        columns = [c for c in columns if "energy" not in c]
    rows = table.select(columns).to_pylist()
    return [{k: v for k, v in row.items() if v is not None and v == v} for row in rows]


# ---- profiles ----


def _priced(result: Result, profile: dict[str, Any], process: int) -> list[Event]:
    """Each slice of a profile once more, in a process of its own, with the energies that ``fastgreen share`` gives it.

    Slices that the profile has on a track keep their track, asynchronous ones stay so.
    """
    import pyarrow as pa

    from fastgreen.recordings.span_files.charged import charged_table
    from fastgreen.recordings.span_files.chrome import chrome_spans

    if not result.known:
        return []
    try:
        file = chrome_spans(profile, Path("the profile"))
        file.columns = pa.table({"place": file.place})
        table = charged_table(result, file, each=True)
    except TraceError:  # no slice, or none within the run: power and windows are added all the same
        return []
    events = [_label("process_name", process, 0, "energy of each slice (fastgreen)")]
    tracks: dict[tuple[str, str], int] = {}
    rows = table.filter(pc.is_valid(table["energy_j"])).to_pylist()
    for row in rows:
        original = profile["traceEvents"][row["place"]]
        said = {key: value for key, value in row.items() if "energy" in key or key == "device"}
        same: Event = {"name": printable(row["name"], most=_NAME), "cat": "share", "pid": process, "ts": original["ts"]}
        if original["ph"] == "X":
            key = str(original.get("pid")), str(original.get("tid"))
            if key not in tracks:
                tracks[key] = len(tracks) + 1
                events.append(_label("thread_name", process, tracks[key], f"energy on {' '.join(key)}"))
            events.append({**same, "ph": "X", "tid": tracks[key], "dur": original["dur"], "args": said})
            continue
        pair = {**same, "tid": 0, "id": f"share {row['place']}"}
        events.append({**pair, "ph": "b", "args": said})
        events.append({**pair, "ph": "e", "ts": original["ts"] + row["duration_s"] * 1e6})
    return events if rows else []


def _read_profile(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    try:
        found = json.loads(gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data)
    except (ValueError, EOFError, OSError, RecursionError) as error:
        raise ValueError(f"merge must be a trace in JSON, not {path}: {error}") from None
    found = {"traceEvents": found} if isinstance(found, list) else found
    events = found.get("traceEvents") if isinstance(found, dict) else None
    if not isinstance(events, list) or not all(isinstance(event, dict) for event in events):
        raise ValueError(f"merge must be a trace with a list of traceEvents, not {path}")
    if not _is_number(found.get(_BASE, 0)):
        raise ValueError(f"merge must have a number as {_BASE}, not {found[_BASE]!r}")
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e30


def _check_overlap(result: Result, profile: dict[str, Any], to_unix_ns: int) -> None:
    timed = [e for e in profile["traceEvents"] if e.get("ph") not in (None, "M") and _is_number(e.get("ts"))]
    if not timed:
        raise ValueError("merge must be a trace with at least one event that has a time")
    zero_ns = int(profile.get(_BASE, 0)) - to_unix_ns
    first_ns = zero_ns + min(e["ts"] for e in timed) * _US
    last_ns = zero_ns + max(e["ts"] + (e["dur"] if _is_number(e.get("dur")) else 0) for e in timed) * _US
    if last_ns < result.start_ns or first_ns > result.end_ns:
        away_s = max(result.start_ns - last_ns, first_ns - result.end_ns) / NS_PER_S
        order = "before" if last_ns < result.start_ns else "after"
        raise ValueError(f"merge must be a trace of the time of the run; its events are {away_s:.6g} s {order} the run")
