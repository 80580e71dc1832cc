# SPDX-License-Identifier: Apache-2.0
"""What is fuzzed in Python: each target takes bytes and raises only where a promise is broken.

``python -m tests.fuzz.targets TARGET SECONDS [FOLDER]`` runs one, guided by coverage where atheris is installed (extra
``fuzz``), else by hypothesis; the folder keeps what was found.
"""

from __future__ import annotations

import atexit
import contextlib
import os
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
    from fastgreen import arrow, catalog, channel, discovery, replay, result, runfile, trace  # noqa: F401

import numpy as np

from tests.fakes.powercap import PowercapTree, Zone

FILES = ("channels.arrow", "samples.arrow", "windows.arrow")
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


def _saved() -> Path:
    """A run of four channels (one of power, one of a counter that wraps) with windows, saved."""
    path = HERE / "saved"
    tree = _tree()
    with fg.Monitor(hz=200, channels=["rapl:*", "procstat:*"], powercap_root=tree.root) as monitor:
        for value in (1_000_000, 2_000_000, 500_000):
            with monitor.window("w"), monitor.window("inner"):
                tree.set_uj("package-0", value)
                time.sleep(0.02)
    monitor.result.save(path)
    return path


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The promises are about errors; warnings are part of the answer."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def _mutated(run: Path, take: Take) -> Path:
    """A copy of the run with bytes set, files cut, grown or exchanged."""
    copy = HERE / "mutated"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(run, copy)
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
    """Everything that a user may ask of a result."""
    _ = loaded.energy_j, loaded.energy_low_j, loaded.energy_high_j, loaded.duration_s, loaded.mean_power_w
    _ = loaded.channels, loaded.notes, loaded.summary(), loaded.windows(), loaded.windows(per_channel=True)
    _ = loaded.samples(), loaded.to_dict(), repr(loaded)
    if len(loaded.notes) % 4 == 0:  # slow
        _ = str(loaded)


def powercap(data: bytes) -> None:
    """Any texts in the files of a powercap tree: discovery lists every zone, and a monitor measures or says why not."""
    shutil.rmtree(HERE / "powercap", ignore_errors=True)
    tree, take = _tree(), Take(data)
    for placed in tree.placed:
        for name in TEXTS:
            if take.number(2):
                (placed.folder / name).write_bytes(take.bytes(40))
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
    path = _mutated(SAVED, Take(data))
    with _quiet():
        try:
            _use(fg.load(path))
        except fg.errors.TraceError:
            return


def play(data: bytes) -> None:
    """Any bytes in the files of a run that is played again: TraceError, or a result."""
    path = _mutated(SAVED, Take(data))
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


def _with_hypothesis(target: Callable[[bytes], None], seconds: int) -> None:
    from hypothesis import HealthCheck, example, given, settings
    from hypothesis import strategies as st

    until, runs = time.monotonic() + seconds, 0
    while time.monotonic() < until:

        @settings(max_examples=50, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(st.binary(max_size=256))
        @example(_seeds()[runs % len(_seeds())])
        def once(data: bytes) -> None:
            target(data)

        once()
        runs += 1


def main(name: str, seconds: str, folder: str | None = None) -> None:
    os.environ["FASTGREEN_NVML_LIBRARY"] = os.environ["FASTGREEN_HWMON_ROOT"] = str(HERE / "none")
    os.environ["FASTGREEN_CACHE_DIR"] = str(HERE / "cache")
    corpus = Path(folder) if folder else HERE / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    if name != "powercap":
        _saved()
    atexit.register(shutil.rmtree, HERE, ignore_errors=True)
    if os.environ.get("FUZZ_INPUT"):
        TARGETS[name](Path(os.environ["FUZZ_INPUT"]).read_bytes())
    elif atheris is not None:
        _with_atheris(TARGETS[name], int(seconds), corpus)
    else:
        print("atheris is not here (pip install 'fastgreen[fuzz]'): hypothesis, without coverage", file=sys.stderr)
        _with_hypothesis(TARGETS[name], int(seconds))


if __name__ == "__main__":
    main(*sys.argv[1:])
