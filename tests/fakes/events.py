# SPDX-License-Identifier: Apache-2.0
"""Fakes of the kernel's event sources: a folder that describes them, and a file that reads like a group of counters.

The system call itself cannot be faked by files. A tree whose `type` is that of the software events makes it real: the
kernel then counts nanoseconds where a `power` source would count energy.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterable
from pathlib import Path

EVENTS = {"energy-pkg": 2, "energy-ram": 3, "energy-cores": 1, "energy-gpu": 4, "energy-psys": 5}
SCALE = "2.3283064365386962890625e-10"


def event_source(
    root: Path, kind: int, config: str | None = None, cpumask: str = "0", events: tuple[str, ...] = tuple(EVENTS)
) -> Path:
    """What stands for /sys/bus/event_source/devices, holding `power`; `config` replaces each event's own number."""
    power = root / "power"
    (power / "events").mkdir(parents=True)
    (power / "type").write_text(f"{kind}\n")
    (power / "cpumask").write_text(f"{cpumask}\n")
    for name in events:
        (power / "events" / name).write_text(config or f"event={EVENTS[name]:#04x}")
        (power / "events" / f"{name}.scale").write_text(SCALE)
        (power / "events" / f"{name}.unit").write_text("Joules")
    return root


def group(values: Iterable[int]) -> bytes:
    """PERF_FORMAT_GROUP: how many values, then the values, 64 bits each."""
    values = list(values)
    return struct.pack(f"={1 + len(values)}Q", len(values), *values)


class GroupFile:
    """A group as a file, which shows the values last written; a reader may see one value new and another old."""

    def __init__(self, path: Path, *values: int) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.write(*values)

    def write(self, *values: int) -> None:
        data = group(values)
        os.pwrite(self.fd, data, 0)
        os.ftruncate(self.fd, len(data))

    def damage(self) -> None:
        os.ftruncate(self.fd, 5)

    def __enter__(self) -> GroupFile:
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self.fd)


class GroupStream:
    """A group as a stream of messages: each read brings the next, whole, and after the last comes the end, as an event
    answers that the kernel counts no more."""

    def __init__(self, rounds: Iterable[Iterable[int]]) -> None:
        self._reader, self._writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.fd = self._reader.fileno()
        self._rounds = rounds
        self._feeder = threading.Thread(target=self._feed)

    def _feed(self) -> None:
        try:
            for values in self._rounds:
                self._writer.send(group(values))
        except OSError:  # nobody reads any more
            return
        finally:
            self._writer.close()

    def __enter__(self) -> GroupStream:
        self._feeder.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._reader.shutdown(socket.SHUT_RDWR)
        self._feeder.join()
        self._reader.close()
