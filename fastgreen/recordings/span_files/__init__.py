# SPDX-License-Identifier: Apache-2.0
"""Readers of spans: Chrome traces (torch.profiler, py-spy), spans of OpenTelemetry, tables."""

from __future__ import annotations

import json
from pathlib import Path

from fastgreen.errors import TraceError
from fastgreen.guards.untrusted import open_regular
from fastgreen.recordings.span_files.charged import charged_table
from fastgreen.recordings.span_files.chrome import read_chrome
from fastgreen.recordings.span_files.otlp import read_otlp
from fastgreen.recordings.span_files.span_file import SpanFile
from fastgreen.recordings.span_files.span_table import read_span_table

__all__ = ["FORMATS", "SpanFile", "charged_table", "format_of", "read_spans"]

FORMATS = ("chrome", "otlp", "table")
_HEAD = 65536
_OTLP = ("resourceSpans", "resource_spans")


def format_of(path: Path) -> str:
    """Detect the format of a file of spans from its first bytes: one of `FORMATS`."""
    import gzip
    import os
    import zlib

    with os.fdopen(open_regular(path), "rb") as stream:
        head = stream.read(_HEAD)
        if head.startswith(b"\x1f\x8b"):
            stream.seek(0)
            try:
                head = gzip.GzipFile(fileobj=stream).read(_HEAD)
            except (OSError, EOFError, ValueError, zlib.error):
                raise TraceError(f"{path} is not a file of gzip, or a damaged one") from None
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text[:1] not in (b"{", b"["):
        return "table"
    first = text.split(b"\n", 1)[0]
    try:
        line = json.loads(first)
    except (ValueError, RecursionError):
        line = None
    if isinstance(line, dict) and any(key in line for key in _OTLP):
        return "otlp"
    named = [at for key in _OTLP if (at := text.find(f'"{key}"'.encode())) >= 0]
    events = text.find(b'"traceEvents"')
    return "otlp" if named and not 0 <= events < min(named) else "chrome"


def read_spans(
    path: str | Path,
    format: str | None = None,
    *,
    begin: str | None = None,
    end: str | None = None,
    name: str | None = None,
    weight: str | None = None,
) -> SpanFile:
    """Read spans from the file of another program.

    Parameters
    ----------
    path : path
    format : "chrome", "otlp" or "table", optional
        By default the first bytes decide.
    begin, end, name, weight : str, optional
        Columns of a table.

    Returns
    -------
    SpanFile

    Raises
    ------
    TraceError
        If the file is damaged or holds no spans.
    ValueError
        For an unknown format, or columns for a file that is not a table.
    """
    path = Path(path)
    known = format or format_of(path)
    if known not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, not {known!r}")
    if known == "table":
        return read_span_table(path, begin, end, name, weight)
    for option, given in (("begin", begin), ("end", end), ("name", name), ("weight", weight)):
        if given is not None:
            raise ValueError(f"{option} must be left out, because {path} is not a table, not {given!r}")
    return read_chrome(path) if known == "chrome" else read_otlp(path)
