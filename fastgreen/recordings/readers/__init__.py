"""Readers of other tools' recordings. :func:`read` detects the format of a file and calls its reader."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastgreen.errors import TraceError
from fastgreen.recordings.readers.aipowermeter import read_aipowermeter
from fastgreen.recordings.readers.any_table import read_dmon, read_rocm_smi, read_table
from fastgreen.recordings.readers.codecarbon import read_codecarbon
from fastgreen.recordings.readers.interval_logs import (
    is_perf,
    is_tegrastats,
    is_turbostat,
    read_perf_stat,
    read_tegrastats,
    read_turbostat,
)
from fastgreen.recordings.readers.known_tables import (
    known_table,
    read_amd_smi,
    read_carbontracker,
    read_home_assistant,
    read_influxdb,
    read_zeus,
)
from fastgreen.recordings.readers.nvidia_smi import is_header, read_nvidia_smi
from fastgreen.recordings.readers.omegawatt import read_omegawatt
from fastgreen.recordings.readers.perun import is_perun, other_perun, read_perun
from fastgreen.recordings.readers.ptdaemon import is_ptdaemon, read_ptdaemon
from fastgreen.recordings.readers.text import open_text
from fastgreen.recordings.recording import Recording

__all__ = [
    "FORMATS",
    "format_of",
    "read",
    "read_aipowermeter",
    "read_amd_smi",
    "read_carbontracker",
    "read_codecarbon",
    "read_dmon",
    "read_home_assistant",
    "read_influxdb",
    "read_nvidia_smi",
    "read_omegawatt",
    "read_perf_stat",
    "read_perun",
    "read_ptdaemon",
    "read_rocm_smi",
    "read_table",
    "read_tegrastats",
    "read_turbostat",
    "read_zeus",
]

FORMATS: dict[str, Callable[..., Recording]] = {
    "aipowermeter": read_aipowermeter,
    "nvidia-smi": read_nvidia_smi,
    "codecarbon": read_codecarbon,
    "omegawatt": read_omegawatt,
    "nvidia-smi-dmon": read_dmon,
    "rocm-smi": read_rocm_smi,
    "tegrastats": read_tegrastats,
    "perf": read_perf_stat,
    "turbostat": read_turbostat,
    "amd-smi": read_amd_smi,
    "zeus": read_zeus,
    "home-assistant": read_home_assistant,
    "influxdb": read_influxdb,
    "carbontracker": read_carbontracker,
    "ptdaemon": read_ptdaemon,
    "perun": read_perun,
    "table": read_table,
}
_SMI = re.compile(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{3},")  # a log of nvidia-smi without a header
# Logs whose first lines may be remarks.
_BY_LINE = {"ptdaemon": is_ptdaemon, "perun": is_perun}
_BY_LINE |= {"tegrastats": is_tegrastats, "perf": is_perf, "turbostat": is_turbostat}
_IN_FOLDER = {"power_metrics.json": "aipowermeter", "emissions.csv": "codecarbon", "omegawatt.csv": "omegawatt"}


def format_of(path: str | Path) -> str:
    """Detect the format of a file or folder from its first lines.

    Parameters
    ----------
    path : path

    Returns
    -------
    str
        A name for the argument `format` of :func:`read`.

    Raises
    ------
    TraceError
        If the file does not exist or its format is unknown.
    """
    path = Path(path)
    if path.is_dir():
        for name, known in _IN_FOLDER.items():
            if (path / name).exists():
                return known
        raise TraceError(f"{path}: the folder must hold one of {', '.join(_IN_FOLDER)}")
    try:
        with open_text(path) as stream:
            head = stream.read(65536)
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror}") from None
    first = next((line for line in head.splitlines() if line.strip()), "")
    if other_perun(head):
        return "perun"
    if first.lstrip().startswith(("{", '"END OF')):
        return "aipowermeter"
    if "#timestamp" in head:
        return "omegawatt"
    if "energy_consumed" in first or "emissions_rate" in first:
        return "codecarbon"
    if any(is_header(line.split(",")) for line in head.splitlines()[:100]):
        return "nvidia-smi"
    if _SMI.match(first):
        return "nvidia-smi"
    if first.startswith("#") and "gpu" in first.split() and "pwr" in first.split():
        return "nvidia-smi-dmon"
    if first.startswith("device,") and "power" in first.lower():
        return "rocm-smi"
    tables = (known_table([cell.strip() for cell in line.split(",")]) for line in head.splitlines()[:500])
    if (named := next(filter(None, tables), None)) is not None:
        return named
    if " - Average power usage (W) for " in head:
        return "carbontracker"
    for name, is_line in _BY_LINE.items():
        if any(is_line(line) for line in head.splitlines()[:500]):
            return name
    begins = f"it begins with {first[:60]!r}" if first else "it is empty"
    raise TraceError(
        f"{path} is of an unknown format, not one of {', '.join(FORMATS)}; {begins}; "
        "name the columns of a table: --time COLUMN --power COLUMN, and --columns A,B,C where it has no header"
    )


def read(path: str | Path, format: str | None = None, **options: Any) -> Recording:
    """Read a recording of any known format.

    Parameters
    ----------
    path : path
        File or folder.
    format : str, optional
        Name of the format; by default it is detected.
    **options
        Arguments of the format's reader.

    Returns
    -------
    Recording

    Raises
    ------
    TraceError
        If the file cannot be read, or its format is unknown.
    ValueError
        If `format` is unknown.
    """
    known = format or format_of(path)
    if known not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, not {known!r}")
    return FORMATS[known](path, **options)
