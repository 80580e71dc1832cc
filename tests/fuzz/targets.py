# SPDX-License-Identifier: Apache-2.0
"""What is fuzzed in Python: each target takes bytes and raises only where a promise is broken.

``python -m tests.fuzz.targets TARGET SECONDS [FOLDER]`` runs one, guided by coverage where atheris is installed (extra
``fuzz``), else by hypothesis; the folder keeps what was found. ``all`` in the place of a target runs every one, each in
its own process, on all cores, in that time together. ``-runs=N`` in the place of SECONDS runs the kept inputs of
tests/fuzz/corpus and N more, the same ones every time. FUZZ_INPUT=FILE runs that one alone;
FUZZ_ALL=1 goes on after a failure and keeps one input for each place in the code.
"""

from __future__ import annotations

import atexit
import base64
import hashlib
import importlib
import os
import random
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import click

from tests.fuzz.instrument import atheris  # before anything of the package

from fastgreen.errors import TraceError  # isort: skip
from tests.fuzz import networks, readers, runs, studies, traces, words  # isort: skip
from tests.fuzz.guard import HERE, Broken, Take, guarded, prepare  # isort: skip

CORPUS = Path(__file__).with_name("corpus")
_LONGEST_INPUT = 512


class Target(NamedTuple):
    """A function of the pieces of an input, the errors that it may raise, and modules to import before any input."""

    function: Callable[[Take], None]
    allowed: tuple[type[BaseException], ...] = (ValueError, click.ClickException)
    slow_imports: tuple[str, ...] = ()

    def __call__(self, data: bytes) -> None:
        with guarded(self.allowed):
            self.function(Take(data))


TARGETS = {
    "powercap": Target(runs.powercap, ()),
    "facts": Target(runs.facts, ()),
    "load": Target(runs.load, (TraceError,)),
    "replay": Target(runs.play, (TraceError,)),
    "sweep": Target(readers.sweep, (TraceError,), ("pandas",)),
    "recording": Target(readers.recording),
    "spans": Target(traces.spans),
    "table": Target(readers.table, slow_imports=("scipy.stats", "scikit_posthocs")),
    "hourly": Target(readers.hourly, (TraceError,)),
    "study": Target(studies.study, (), ("matplotlib.pyplot", "scipy.stats")),
    "layers": Target(networks.layers, slow_imports=("scipy.optimize", "sklearn.linear_model")),
    "models": Target(networks.models, (TraceError,)),
    "network": Target(networks.network),
    "graph": Target(networks.graph, slow_imports=("onnx.inliner", "onnx.reference", "onnx.shape_inference")),
    "words": Target(words.words, words.ALLOWED),
}


def corpus(name: str) -> list[bytes]:
    """Inputs that reach different code, and those that once broke a promise: a line of base64 each."""
    file = CORPUS / f"{name}.txt"
    return [base64.b64decode(line) for line in file.read_text().split()] if file.exists() else []


def _seeds(name: str) -> list[bytes]:
    """A few changes of each kind, and none, beside the kept inputs."""
    one = lambda n: n.to_bytes(4, "little")  # noqa: E731
    seeds = [b"", *(one(1) + one(len(t)) + t for t in (b"0\n", b"-1\n", b"262143328850\n", b"package-0\n", b"psys\n"))]
    seeds += [one(file) + one(how) + one(at) for file in range(3) for how in (0, 1, 2, 3, 5) for at in (8, 400)]
    return seeds + corpus(name)


def _collecting(target: Target, folder: Path) -> Callable[[bytes], None]:
    """The target, whose failures are kept, one input for each place in the code, and end nothing."""
    known: dict[str, int] = {}

    def once(data: bytes) -> None:
        try:
            target(data)
        except (Exception, Broken) as error:
            frames = traceback.extract_tb(error.__traceback__)
            place = " ".join(f"{Path(f.filename).name}:{f.lineno}" for f in frames[-2:])
            name = hashlib.sha1(f"{type(error).__name__} {place}".encode()).hexdigest()[:10]
            known[name] = known.get(name, 0) + 1
            if known[name] == 1:
                (folder / f"found-{name}").write_bytes(data)
                print(
                    f"FOUND {name} {type(error).__name__} at {place}: {str(error)[:300]!a}", file=sys.stderr, flush=True
                )

    return once


def _with_atheris(name: str, seconds: int, folder: Path) -> None:
    for number, seed in enumerate(_seeds(name)):
        (folder / f"seed{number}").write_bytes(seed)
    found = folder.with_name(f"{folder.name}-found")
    found.mkdir(exist_ok=True)
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={_LONGEST_INPUT}",
        "-len_control=0",
        "-timeout=60",
        "-rss_limit_mb=6000",
        f"-artifact_prefix={found}/",
        "-print_final_stats=1",
    ]
    atheris.Setup(
        [sys.argv[0], *options, str(folder)],
        _collecting(TARGETS[name], found) if os.environ.get("FUZZ_ALL") else TARGETS[name],
    )
    atheris.Fuzz()


def _given(target: Callable[[bytes], None], examples: int, seed: bytes, fixed: bool = False) -> None:
    """Bytes by hypothesis: short ones that it shrinks, and long ones that a generator makes of a number."""
    from hypothesis import HealthCheck, example, given, settings
    from hypothesis import strategies as st

    drawn = st.integers(0, 2**32).map(lambda n: random.Random(n).randbytes(4 * (1 + n % 24)))

    @settings(
        max_examples=examples,
        derandomize=fixed,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.one_of(st.binary(max_size=256), drawn, drawn))
    @example(seed)
    def once(data: bytes) -> None:
        try:
            target(data)
        except Broken as error:  # hypothesis shrinks errors only
            raise AssertionError(str(error)) from error

    once()


def _with_hypothesis(name: str, seconds: int) -> None:
    until, runs = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        _given(TARGETS[name], 50, _seeds(name)[runs % len(_seeds(name))])
        runs += 1


def _with_fixed_inputs(name: str, runs: int) -> None:
    """The same inputs every time, whatever is installed."""
    for number, seed in enumerate(_seeds(name)):
        try:
            TARGETS[name](seed)
        except BaseException:
            print(f"seed {number}: {base64.b64encode(seed).decode()}", file=sys.stderr)
            raise
    _given(TARGETS[name], runs, b"", fixed=True)


def run_all(seconds: int, folder: Path) -> int:
    """Every target in its own process, on all cores, in about that time together; the number of targets that fail."""
    cores = len(os.sched_getaffinity(0))
    share = str(max(1, seconds * cores // len(TARGETS)))

    def one(name: str) -> bool:
        command = [sys.executable, "-m", "tests.fuzz.targets", name, share, str(folder / name)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
        lines = done.stdout.splitlines()
        ended = next((line for line in reversed(lines) if "cov:" in line), "")
        print(f"{name}: {'fails' if done.returncode else 'holds'}; {ended[:100]}", flush=True)
        if done.returncode:
            print("\n".join([line for line in lines if not line.startswith("#")][-60:]), flush=True)
        return done.returncode != 0

    with ThreadPoolExecutor(cores) as pool:
        return sum(pool.map(one, TARGETS))


def main(name: str, amount: str, folder: str | None = None) -> None:
    if name == "all":
        sys.exit(run_all(int(amount), Path(folder or HERE)) > 0)
    for seam in (
        "NVML_LIBRARY",
        "AMDSMI_LIBRARY",
        "HWMON_ROOT",
        "EVENT_SOURCE_ROOT",
        "GRANT_SOCKET",
        "PROC_ROOT",
        "POWERCAP_ROOT",
    ):
        os.environ[f"FASTGREEN_{seam}"] = str(HERE / "none")
    os.environ["FASTGREEN_CACHE_DIR"] = str(HERE / "cache")
    kept = Path(folder).resolve() if folder else HERE / "corpus"
    kept.mkdir(parents=True, exist_ok=True)
    given = Path(os.environ["FUZZ_INPUT"]).read_bytes() if os.environ.get("FUZZ_INPUT") else None
    prepare()
    for module in TARGETS[name].slow_imports:
        importlib.import_module(module)
    if not os.environ.get("FUZZ_KEEP"):
        atexit.register(shutil.rmtree, HERE, ignore_errors=True)
    if given is not None:
        TARGETS[name](given)
    elif amount.startswith("-runs="):
        _with_fixed_inputs(name, int(amount.removeprefix("-runs=")))
    elif atheris is not None:
        _with_atheris(name, int(amount), kept)
    else:
        print("atheris is not here (pip install 'fastgreen[fuzz]'): hypothesis, without coverage", file=sys.stderr)
        _with_hypothesis(name, int(amount))


if __name__ == "__main__":
    main(*sys.argv[1:])
