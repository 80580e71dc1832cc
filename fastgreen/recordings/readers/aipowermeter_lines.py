"""Lines of AIPowerMeter's ``power_metrics.json``: which ones are valid, their shape, and their regular form.

A shape is a dict of shapes, a list of one shape, ``"text"`` or ``"number"``. Lines of one shape are columns to Arrow.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pyarrow as pa

from fastgreen.recordings.readers.aipowermeter_keys import PER_GPU, STREAMING

__all__ = ["fields_of", "is_line", "merged", "number_of", "objects_only", "plain", "shape_of", "text_of", "type_of"]

_BARE_NULL = re.compile(rb"\}\s*null")
_MOST_KEYS = 400  # of a line, or GPUs of one of its keys; a line with more is not of this format
_MOST_DEPTH = 10


def objects_only(data: bytes) -> bool:
    """Whether each line begins and ends as an object: Arrow's reader (26.0) crashes on a bare null between objects."""
    octets = np.frombuffer(data, np.uint8)
    breaks = np.flatnonzero(octets == 10)
    starts = np.concatenate([[0], breaks + 1])
    ends = np.concatenate([breaks, [octets.size]]) - 1
    starts, ends = (starts[:-1], ends[:-1]) if data.endswith(b"\n") else (starts, ends)
    if not ((octets[starts] == ord("{")).all() and (octets[ends] == ord("}")).all()):
        return False
    return b"null" not in data or _BARE_NULL.search(data) is None


def shape_of(value: Any) -> Any:
    """Shape of a value: a dict of shapes, a list of one shape, or the name of a scalar type."""
    if isinstance(value, dict):
        return {name: shape_of(v) for name, v in value.items() if v != {} and text_of(name) == name}
    if isinstance(value, list):
        first = next((v for v in value if v is not None), 0.0)
        return [shape_of(first)]
    return "text" if isinstance(value, str) else "number"


def merged(old: Any, new: Any) -> Any:
    """Merge two shapes. If they differ, the new one counts, because the next lines have it."""
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{name: merged(old[name], s) if name in old else s for name, s in new.items()}}
    if isinstance(old, list) and isinstance(new, list):
        return [merged(old[0], new[0])]
    return new


def type_of(shape: Any) -> Any:
    if isinstance(shape, dict):
        fields = [pa.field(name, type_of(inner)) for name, inner in shape.items()]
        return pa.struct(fields)
    if isinstance(shape, list):
        return pa.list_(type_of(shape[0]))
    return pa.string() if shape == "text" else pa.float64()


def fields_of(shape: Any) -> int:
    inner = shape.values() if isinstance(shape, dict) else shape if isinstance(shape, list) else ()
    return 1 + sum(map(fields_of, inner))


def is_line(document: Any) -> bool:
    """Whether a JSON value has the form of a line; one with very many keys, or nested deeply, has not."""
    if not isinstance(document, dict) or not isinstance(document.get("metrics"), dict):
        return False
    metrics = document["metrics"]
    parts = [metrics, *(metrics[name] for name in ("cpu", "gpu") if isinstance(metrics.get(name), dict))]
    by_gpu = [part[name] for part in parts for key in PER_GPU for name in key.keys if isinstance(part.get(name), dict)]
    return len(document) + max(map(len, parts + by_gpu)) <= _MOST_KEYS and _is_shallow(document, _MOST_DEPTH)


def _is_shallow(value: Any, depth: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth > 0 and all(_is_shallow(one, depth - 1) for one in inner if isinstance(one, (dict, list)))


def plain(metrics: dict[str, Any]) -> dict[str, Any]:
    """One line in a regular form: {part: {key: number, or {gpu: number} for a key by GPU}}."""
    by_gpu = {n for key in PER_GPU for n in key.keys}
    out: dict[str, Any] = {}
    for name, value in metrics.items():
        if name in ("cpu", "gpu"):
            out[name] = plain(value) if isinstance(value, dict) else None
        elif name in by_gpu:
            out[name] = {text_of(gpu): number_of(v) for gpu, v in value.items()} if isinstance(value, dict) else None
        elif name == STREAMING:
            entries = value if isinstance(value, list) else []
            out[name] = [{"sm": number_of(e.get("sm"))} for e in entries if isinstance(e, dict)]
        else:
            out[text_of(name) or ""] = number_of(value)
    return out


def text_of(value: Any) -> str | None:
    # JSON may hold half of a surrogate pair, which Arrow cannot store as text.
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else None


def number_of(value: Any) -> float:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        present = [v for v in map(number_of, value) if v >= 0]
    try:
        if isinstance(value, list):
            return math.fsum(present) if present else math.nan
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
