# SPDX-License-Identifier: Apache-2.0
"""Target for words of the command line: ranges, shapes, targets, channels; the input is the text itself."""

from __future__ import annotations

from collections.abc import Callable

import click
import numpy as np

from fastgreen.commands.common import did_you_mean, names_object, split_channels
from fastgreen.commands.estimate import Accuracy, Shape
from fastgreen.commands.metrics import TargetAxis
from fastgreen.commands.ranges import Range
from fastgreen.estimate.inputs import InputShape
from fastgreen.estimate.plain import load_network
from fastgreen.recordings.readers.timestamps import ABSENT_NS, check_zone, to_utc_ns
from fastgreen.sensors.catalog import select
from fastgreen.sensors.channel import Channel
from tests.fuzz.guard import Take

_MOST = 10_000
_CHANNELS = [Channel(f"rapl:package-{i}", "rapl", "energy", f"package-{i}", "uJ") for i in range(4)]
_CHANNELS += [Channel(f"nvml:{i}", "nvml", "energy", f"GPU {i}", "mJ") for i in range(4)]
SEEDS = ["0:1:0.1", "1:20:5", "5:1:-1", "1,2,3", "7", "1e308:-1e308:-1e300", "0:1:1e-320", "9" * 5000, "nan", "0:inf:1"]
SEEDS += [
    "ids=128:int64",
    "3x224x224",
    "=,",
    "best,0.55",
    "0.9/2.5",
    "0.9/2.5/1",
    "rapl:*",
    "gpu",
    "[!a-",
    "*" * 60 + "b",
]
SEEDS += [
    "replay:a,b",
    "a,,b",
    "file.py:name",
    "Europe/Paris",
    "2024-01-01 00:00:00",
    "2023-10-29T02:30:00+01:00",
    "1:2",
]


def _range(text: str) -> None:
    numbers = Range(most_numbers=_MOST).convert(text, None, None)
    assert numbers.dtype == np.float64
    if ":" in text:
        start, stop, step = map(float, text.split(":"))
        reach = abs(step) * 1e-6 + abs(stop) * 1e-9
        assert numbers[0] == start
        assert min(start, stop) - reach <= numbers.min() <= numbers.max() <= max(start, stop) + reach, numbers


def _whole(text: str) -> None:
    numbers = Range(whole=True, least=1, most=2**31 - 1, most_numbers=_MOST).convert(text, None, None)
    assert 1 <= numbers.min() <= numbers.max() < 2**31
    assert numbers.size <= _MOST or ":" not in text


def _channel(text: str) -> None:
    names = split_channels(None, None, (text,))
    chosen, _ = select(_CHANNELS, names)
    assert chosen
    assert set(chosen) <= set(_CHANNELS)


def _shape(text: str) -> None:
    assert all(1 <= size < 2**31 for size in InputShape.parse(text).sizes)
    assert Shape().convert(text, None, None) == InputShape.parse(text)


def _time(text: str) -> None:
    (at,) = to_utc_ns([text], "Europe/Paris")
    assert at == ABSENT_NS or 0 <= at <= 1 << 62
    check_zone(text)


def _target(text: str) -> None:
    assert len(TargetAxis().convert(text, None, None)) == text.count(",") + 1


def _accuracy(text: str) -> None:
    assert 0 <= Accuracy(0, 1).convert(text, None, None) <= 1


def _network(text: str) -> None:
    if ":" not in text:  # it would import a module of that name
        load_network(text)
    did_you_mean(text, ["channels", "calibrate"])
    names_object(text)


_READERS: list[Callable[[str], None]] = [_range, _whole, _channel, _shape, _time, _target, _accuracy, _network]
ALLOWED = (ValueError, LookupError, click.ClickException)


def words(take: Take) -> None:
    """Any text where a command takes a word: a value within its limits, or an error of the package."""
    reader = _READERS[take.number(len(_READERS))]
    text = SEEDS[take.number(len(SEEDS))] if take.number(2) else ""
    more = take.rest().decode("utf-8", "surrogateescape")
    at = len(text) // 2
    reader(text[:at] + more + text[at:])
