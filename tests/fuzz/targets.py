# SPDX-License-Identifier: Apache-2.0
"""What is fuzzed in Python: each target takes bytes and raises only where a promise is broken.

``python -m tests.fuzz.targets TARGET SECONDS [FOLDER]`` runs one, guided by coverage where atheris is installed (extra
``fuzz``), else by hypothesis; the folder keeps what was found. ``-runs=N`` in the place of SECONDS runs N inputs, and
the same ones every time. FUZZ_INPUT=FILE runs that one alone.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import math
import os
import random
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

try:
    import atheris
except ImportError:
    atheris = None

with atheris.instrument_imports(include=["fastgreen"]) if atheris else contextlib.nullcontext():
    import fastgreen as fg
    from fastgreen.measuring import replay  # noqa: F401
    from fastgreen.results import (
        result,  # noqa: F401
        run_folder,  # noqa: F401
        run_reader,  # noqa: F401
        trace,  # noqa: F401
    )
    from fastgreen.sensors import (
        catalog,  # noqa: F401
        channel,  # noqa: F401
        rapl,  # noqa: F401
    )

import numpy as np

from tests.fakes.powercap import PowercapTree, Zone
from tests.fuzz.fields import FILES, NUMBERS, Run
from tests.fuzz.saved import save_a_run

MEMORY = Path("/dev/shm")  # a file system without a disk, where there is one
HERE = Path(tempfile.mkdtemp(prefix="fastgreen-fuzz-", dir=MEMORY if os.access(MEMORY, os.W_OK) else None))
TEXTS = ("name", "energy_uj", "max_energy_range_uj", "constraint_0_max_power_uw")


class Take:
    """Pieces of the input, in order; zeros when it has ended."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def number(self, below: int) -> int:
        piece = self.data[self.at : self.at + 4]
        self.at += 4
        return int.from_bytes(piece, "little") % below

    def bytes(self, most: int) -> bytes:
        length = self.number(most + 1)
        piece = self.data[self.at : self.at + length]
        self.at += length
        return piece

    def left(self) -> bool:
        return self.at < len(self.data)


def _tree() -> PowercapTree:
    zones = (Zone("package-0", children=(Zone("core"), Zone("dram"))), Zone("psys"), Zone(control="intel-rapl-mmio"))
    return PowercapTree(HERE / "powercap", zones)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The promises are about errors; warnings are part of the answer."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


@functools.cache
def _tables() -> Run:
    return Run(SAVED)


def _mutated(take: Take) -> Path:
    """A copy of the saved run with fields changed, or with bytes set, files cut, grown or exchanged."""
    copy = HERE / "mutated"
    shutil.rmtree(copy, ignore_errors=True)
    if take.number(4):
        _tables().spoilt(take).write(copy)
        return copy
    shutil.copytree(SAVED, copy)
    while take.left():
        file = copy / FILES[take.number(3)]
        content = bytearray(file.read_bytes())
        how, at = take.number(8), take.number(len(content) + 1)
        if how == 0:
            content = content[:at]
        elif how == 1:
            content = bytearray((copy / FILES[take.number(3)]).read_bytes())
        elif how == 2:
            content[at:at] = take.bytes(16)
        elif how >= 5:  # a digit of a number in the JSON of traits, reports and metadata
            digits = [i for i, byte in enumerate(content) if 48 <= byte <= 57 and content[i - 1] in b" 0123456789-."]
            if digits:
                content[digits[at % len(digits)]] = b"0123456789-.eE,"[take.number(15)]
        else:
            piece = take.bytes(8)
            content[at : at + len(piece)] = piece
        file.write_bytes(content)
    return copy


def _use(loaded: fg.Result) -> None:
    """Everything that a user may ask of a result; and the answers fit each other."""
    _ = loaded.energy_wh, loaded.duration_s, loaded.mean_power_w, loaded.notes, loaded.to_dict(), repr(loaded)
    samples = loaded.samples()
    left = set(samples["channel"].unique().to_pylist())
    tables = [loaded.channels, loaded.windows(per_channel=True)]
    if all(t.channel.id in left for t in loaded.traces if t.counted and t.has_data):
        tables += [loaded.summary(), loaded.windows()]
        assert 0 <= loaded.energy_low_j <= loaded.energy_j <= loaded.energy_high_j < math.inf, loaded
    for table in tables:
        for row in table.to_pylist():
            if row["energy_j"] is not None and row.get("id", row.get("channel")) in left | {None}:
                assert 0 <= row["energy_low_j"] <= row["energy_j"] <= row["energy_high_j"] < math.inf, row
    if len(loaded.notes) % 4 == 0:  # slow
        _ = str(loaded)


def powercap(data: bytes) -> None:
    """Any texts in the files of a powercap tree: discovery lists every zone, and a monitor measures or says why not."""
    shutil.rmtree(HERE / "powercap", ignore_errors=True)
    tree, take = _tree(), Take(data)
    for placed in tree.placed:
        for name in TEXTS:
            how = take.number(3)
            if how:
                number = NUMBERS[take.number(len(NUMBERS))] if how == 2 else None
                (placed.folder / name).write_bytes(take.bytes(40) if number is None else str(number).encode())
    with _quiet():
        found = fg.channels(powercap_root=tree.root)
        rapl = [c for c in found if c.source == "rapl"]
        assert len(rapl) == len(tree.placed), rapl
        assert len({c.id for c in found}) == len(found), rapl
        assert all(c.readable or c.reason for c in found)
        try:
            with fg.Monitor(hz=1000, powercap_root=tree.root) as monitor, monitor.window("w"):
                pass
        except ValueError as error:
            if "too low for" in str(error):  # a range so short that it wraps between two readings
                return
            raise
        _use(monitor.result)
        assert 0 <= monitor.result.energy_low_j <= monitor.result.energy_j <= monitor.result.energy_high_j


def load(data: bytes) -> None:
    """Any bytes in the files of a run: TraceError, or a result that answers every question."""
    path = _mutated(Take(data))
    with _quiet():
        try:
            _use(fg.load(path))
        except fg.errors.TraceError:
            return


def play(data: bytes) -> None:
    """Any bytes in the files of a run that is played again: TraceError, or a result."""
    path = _mutated(Take(data))
    with _quiet():
        try:
            with fg.Monitor(f"replay:{path}", speed=0) as monitor, monitor.window("w"):
                pass
            _use(monitor.result)
        except fg.errors.TraceError:
            return


TARGETS: dict[str, Callable[[bytes], None]] = {"powercap": powercap, "load": load, "replay": play}
SAVED = HERE / "saved"


def _seeds() -> list[bytes]:
    """One change of each file, and none; for the tree a text in each place."""
    one = lambda n: n.to_bytes(4, "little")  # noqa: E731
    seeds = [b"", *(one(1) + one(len(t)) + t for t in (b"0\n", b"-1\n", b"262143328850\n", b"package-0\n", b"psys\n"))]
    seeds += [one(file) + one(how) + one(at) for file in range(3) for how in (0, 1, 2, 3, 5) for at in (8, 400)]
    return seeds


def _with_atheris(target: Callable[[bytes], None], seconds: int, corpus: Path) -> None:
    for number, seed in enumerate(_seeds()):
        (corpus / f"seed{number}").write_bytes(seed)
    options = [
        f"-max_total_time={seconds}",
        "-max_len=256",
        "-len_control=0",
        "-timeout=60",
        f"-artifact_prefix={corpus}/",
        "-verbosity=1",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], target)
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
        target(data)

    once()


def _with_hypothesis(target: Callable[[bytes], None], seconds: int) -> None:
    until, runs = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        _given(target, 50, _seeds()[runs % len(_seeds())])
        runs += 1


def _with_fixed_inputs(target: Callable[[bytes], None], runs: int) -> None:
    """The same inputs every time, whatever is installed."""
    for seed in _seeds():
        target(seed)
    _given(target, runs, b"", fixed=True)


def main(name: str, amount: str, folder: str | None = None) -> None:
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
    corpus = Path(folder) if folder else HERE / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    if name != "powercap":
        save_a_run(SAVED)
    atexit.register(shutil.rmtree, HERE, ignore_errors=True)
    if os.environ.get("FUZZ_INPUT"):
        TARGETS[name](Path(os.environ["FUZZ_INPUT"]).read_bytes())
    elif amount.startswith("-runs="):
        _with_fixed_inputs(TARGETS[name], int(amount.removeprefix("-runs=")))
    elif atheris is not None:
        _with_atheris(TARGETS[name], int(amount), corpus)
    else:
        print("atheris is not here (pip install 'fastgreen[fuzz]'): hypothesis, without coverage", file=sys.stderr)
        _with_hypothesis(TARGETS[name], int(amount))


if __name__ == "__main__":
    main(*sys.argv[1:])
