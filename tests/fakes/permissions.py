# SPDX-License-Identifier: Apache-2.0
"""File permissions that bind even where the tests run as root."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator

CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_SYS_ADMIN, CAP_SYS_RESOURCE, CAP_PERFMON = 1, 2, 21, 24, 38
PR_CAPBSET_DROP = 24
VERSION_3 = 0x20080522


class Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class Sets(ctypes.Structure):
    _fields_ = [("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32)]


def _capabilities(change: bool, sets: ctypes.Array[Sets]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    header = Header(VERSION_3, 0)
    function = libc.capset if change else libc.capget
    if function(ctypes.byref(header), sets) != 0:
        raise OSError(ctypes.get_errno(), "capset" if change else "capget")


@contextlib.contextmanager
def without(*capabilities: int) -> Iterator[None]:
    """This thread, and threads it starts meanwhile, lack these capabilities although root."""
    sets = (Sets * 2)()
    _capabilities(False, sets)
    before = [part.effective for part in sets]
    try:
        for number in capabilities:
            sets[number // 32].effective &= ~(1 << number % 32)
        _capabilities(True, sets)
        yield
    finally:
        for part, effective in zip(sets, before, strict=True):
            part.effective = effective
        _capabilities(True, sets)


def without_dac_override() -> contextlib.AbstractContextManager[None]:
    """Without what lets root open a file of mode 000."""
    return without(CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH)


def drop(*capabilities: int) -> None:
    """As `preexec_fn=` of a subprocess: the program it becomes lacks these capabilities although root."""
    libc = ctypes.CDLL(None)
    for number in capabilities:
        libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)


def drop_dac_override() -> None:
    """As `preexec_fn=` of a subprocess: the program it becomes obeys file modes although root."""
    drop(CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH)
