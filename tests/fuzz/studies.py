# SPDX-License-Identifier: Apache-2.0
"""Target for the folder of a study: any contents, links, pipes and devices in the place of its files."""

from __future__ import annotations

import functools
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import fastgreen as fg
from fastgreen.results.result import Result
from fastgreen.results.trace import Windows
from tests.fuzz.fields import FILES
from tests.fuzz.guard import CANARY, HERE, Take, building, fresh
from tests.fuzz.readers import _LINES, run
from tests.fuzz.runs import _tables, saved
from tests.fuzz.spoil import spoilt_bytes, spoilt_json, spoilt_rows

_STATUS = {"size": "1", "repeat": 0, "state": "done", "iterations": 1, "error": ""}
_ABOUT = {"protocol": "model", "size_unit": "px", "batch": 2}
_SIZES = ["1", "2", "1e400", "nan", "x", "-1", "", "\x1b[2J", "0x10", "9" * 200, "\udcff", "[/b]", "$x_{", "=1+1"]
_OUTPUTS = ["sizes.csv", "runs.arrow", "channels.csv", "pearson.arrow"]


@functools.cache
def _files() -> dict[str, bytes]:
    """The files of a small study: two sizes with a saved run, one with a published run, one that failed."""
    loaded = fg.load(saved())
    first = loaded._windows[0]
    lanes = [Windows("inference", 0, first.begin_ns, first.end_ns)]
    Result(loaded.traces, lanes, loaded.metadata, loaded.start_ns, loaded.end_ns).save(HERE / "inference")
    files = {"study.json": json.dumps(_ABOUT).encode()}
    for size in ("1", "2"):
        place = f"input_{size}/run_0"
        files |= {f"{place}/run/{name}": (HERE / "inference" / name).read_bytes() for name in FILES}
        files[f"{place}/status.json"] = json.dumps({**_STATUS, "size": size}).encode()
        files[f"{place}/gauges.json"] = json.dumps({"cpu_use": 0.5, "memory_b": 1e9}).encode()
    failed = {**_STATUS, "size": "8", "state": "failed", "error": "OSError: x", "exit_code": 3}
    files["input_8/run_0/status.json"] = json.dumps(failed).encode()
    files["input_4/run_0/power_metrics.json"] = "".join(_LINES).encode()
    files["input_4/run_0/latency.csv"] = b"0.5\n0.5\n"
    return files


def _place(kind: int, path: Path) -> None:
    """Something else in the place of a file."""
    makers: list[Callable[[], object]] = [
        lambda: os.mkfifo(path),
        lambda: path.symlink_to("/dev/zero"),
        lambda: path.symlink_to("/proc/self/mem"),
        lambda: path.mkdir(),
        lambda: path.symlink_to(path.name),
        lambda: path.symlink_to(CANARY / "canary.csv"),
        lambda: path.symlink_to("../run_0/status.json"),
        lambda: None,
    ]
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    makers[kind % len(makers)]()


def _spoil(folder: Path, take: Take) -> None:
    names = sorted(_files())
    name = names[take.number(len(names))]
    path, how = folder / name, take.number(8)
    if not Path(os.path.realpath(path.parent)).is_relative_to(folder):
        return
    if how == 0:
        parts = Path(name).parts  # the file, or a folder above it
        _place(take.number(8), folder.joinpath(*parts[: 1 + take.number(len(parts))]))
    elif how == 1:
        compiled = folder / "compiled"
        if take.number(2) and not compiled.exists():
            compiled.symlink_to(CANARY)
        elif compiled.is_dir() and not compiled.is_symlink():
            _place(5, compiled / _OUTPUTS[take.number(len(_OUTPUTS))])
        else:
            compiled.mkdir(exist_ok=True)
    elif how == 2:
        source, size = folder / "input_2", _SIZES[take.number(len(_SIZES))]
        if source.exists():
            source.rename(folder / f"input_{size}")
    elif path.is_file() and not path.is_symlink():
        content = path.read_bytes()
        if name.endswith(".json") and "metrics" not in name and how < 7:
            content = spoilt_json(_files()[name].decode(), take).encode("utf-8", "surrogatepass")
        elif name.endswith(".csv") and how < 7:
            content = spoilt_rows(_files()[name].decode(), take).encode("utf-8", "surrogatepass")
        elif name.endswith(".arrow") and how < 7:
            _tables().spoilt(Take(take.bytes(24))).write(path.parent)
            return
        else:
            content = spoilt_bytes(content, take)
        path.write_bytes(content)


def study(take: Take) -> None:
    """Any folder as a study: `compile` prints tables or a sentence, and writes to its own folder only."""
    pictures = take.number(64) == 63
    with building():
        folder = _built(take)
    run("compile", folder, *([] if pictures else ["--no-pictures"]))


def _built(take: Take) -> Path:
    folder = fresh("study")
    for name, content in _files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    for _ in range(6):
        if take.left():
            try:
                _spoil(folder, take)
            except OSError:  # a change before took the place away
                continue
    return folder
