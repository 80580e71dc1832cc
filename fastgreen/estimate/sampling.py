"""Plans of layers to measure: configurations drawn from ranges, at random or on a grid, under rules.

The plan is a TOML file::

    [collect]
    seconds = 2.0            # of forward passes per repeat
    repeats = 3
    channels = ["rapl:*"]    # as Monitor takes them; by default all readable ones
    seed = 1
    threads = 2              # of PyTorch; by default its own choice
    device = "cpu"           # or "cuda"
    max_bytes = 1e9          # most of input, output and weights together; by default half the memory
    rotate_bytes = 256e6     # of weights of equal layers that run in turn, so that they come from memory; by default 0

    [layer.Conv2d]
    count = 200
    sample = "random"        # or "grid": every combination
    batch_size = [1, 256]    # whole numbers of a range, both ends included
    kernel_size = {values = [1, 3, 5, 7]}
    image_size = {low = 4, high = 224, log = true}
    rules = ["kernel_size <= image_size", "stride <= kernel_size"]

A rule compares integer expressions of the layer's sizes. Impossible layers (a kernel larger than the padded image) are
always left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from fastgreen.estimate.layers import KINDS, complete
from fastgreen.estimate.size_rules import Rule, allowed
from fastgreen.estimate.work import TERMS, terms
from fastgreen.guards.untrusted import read_toml

__all__ = ["Plan", "allowed", "configurations", "read_plan"]

# Plans of the package.
PRESETS = {"transformers": Path(__file__).parent / "plans" / "transformers.toml"}

MOST_TRIES = 1000
MOST_GRID = 100_000
MOST_WHOLE = 2**53
_LARGEST = float(np.finfo(np.float64).max)


@dataclass(frozen=True)
class Plan:
    """Layers to measure, and how; `read_plan` reads one from a TOML file.

    Attributes
    ----------
    layers : list of (kind, sizes)
        The configurations, in the order of measurement.
    seconds : float
        Time of the forward passes in each repeat, in s.
    repeats : int
        Measurements of each configuration.
    channels : list of str or None
        Ids or patterns, as :class:`fastgreen.Monitor` takes them; None for all readable channels.
    threads : int or None
        Threads of PyTorch; None for PyTorch's own choice.
    device : str
        PyTorch's name of the device: ``cpu``, ``cuda`` or ``cuda:N``.
    rotate_bytes : float
        Bytes of weights or caches of equal layers that run in turn; 0 for one layer that runs again and again.
    """

    layers: list[tuple[str, dict[str, int]]]
    seconds: float = 2.0
    repeats: int = 3
    channels: list[str] | None = None
    threads: int | None = None
    device: str = "cpu"
    rotate_bytes: float = 0.0

    @property
    def duration_s(self) -> float:
        """Time of all forward passes in s, without warm-up."""
        return len(self.layers) * self.repeats * self.seconds


def read_plan(path: str | Path) -> Plan:
    """Read a plan from a TOML file; the top of this file shows an example.

    Raises
    ------
    TraceError
        If the file is not TOML.
    ValueError
        If a key or kind is unknown, a range is empty, or a rule is not a comparison.
    """
    return plan_from(read_toml(Path(path)), str(path))


def plan_from(document: Mapping[str, Any], where: str = "plan") -> Plan:
    """Make a plan from the contents of its file."""
    if unknown := sorted(set(document) - {"collect", "layer"}):
        raise ValueError(f"{where}: sections must be [collect] and [layer.KIND], not [{unknown[0]}]")
    given = Settings(where, _mapping(where, "[collect]", document.get("collect", {})))
    sections = _mapping(where, "[layer.KIND]", document.get("layer", {}))
    if not sections:
        raise ValueError(f"{where}: at least one section must be [layer.KIND]; there is nothing to collect")
    seconds, repeats = given.number("seconds", 2.0), given.whole("repeats", 3, 1)
    threads, channels, device = given.whole("threads", None, 1), given.channels(), given.device()
    generator = np.random.default_rng(given.whole("seed", 0, 0))
    most_bytes = given.number("max_bytes", _half_of_memory())
    rotate_bytes = given.number("rotate_bytes", 0.0)
    layers = [
        (kind, sizes)
        for kind, section in sections.items()
        for sizes in configurations(kind, _mapping(where, f"[layer.{kind}]", section), generator, most_bytes, where)
    ]
    return Plan(layers, seconds, repeats, channels, threads, device, rotate_bytes)


def _mapping(where: str, name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: {name} must be a section, not {value!r}")
    return value


def _half_of_memory() -> float:
    """Default limit in bytes of one layer's data: for a larger layer the kernel might kill the process."""
    import psutil

    return psutil.virtual_memory().total / 2


class Settings:
    """The ``[collect]`` section; every getter checks its value."""

    KNOWN = ("seconds", "repeats", "channels", "seed", "threads", "max_bytes", "rotate_bytes", "device")

    def __init__(self, where: str, given: Mapping[str, Any]) -> None:
        if unknown := sorted(set(given) - set(self.KNOWN)):
            raise ValueError(f"{where}: [collect] has no key {unknown[0]!r}; it has {', '.join(sorted(self.KNOWN))}")
        self.where, self.given = where, given

    def number(self, name: str, default: float) -> float:
        """A finite number above 0."""
        if name not in self.given:
            return default
        value = self.given[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _LARGEST:
            raise ValueError(f"{self.where}: {name} must be more than 0 and finite, not {value!r}")
        return float(value)

    def whole(self, name: str, default: Any, low: int) -> Any:
        value = self.given.get(name, default)
        if value is not default and (type(value) is not int or not low <= value <= MOST_WHOLE):
            raise ValueError(f"{self.where}: {name} must be a whole number of at least {low}, not {value!r}")
        return value

    def channels(self) -> list[str] | None:
        value = self.given.get("channels")
        value = [value] if isinstance(value, str) else value
        if value is not None and (not isinstance(value, list) or not all(isinstance(one, str) for one in value)):
            raise ValueError(f"{self.where}: channels must be a list of ids or patterns, not {value!r}")
        return value

    def device(self) -> str:
        value = self.given.get("device", "cpu")
        if not isinstance(value, str) or not re.fullmatch(r"cpu|cuda(:\d+)?", value):
            raise ValueError(f"{self.where}: device must be cpu, cuda or cuda:N, not {value!r}")
        return value


def configurations(
    kind: str,
    section: Mapping[str, Any],
    generator: np.random.Generator,
    most_bytes: float = np.inf,
    where: str = "plan",
) -> list[dict[str, int]]:
    """Configurations of one ``[layer.KIND]`` section: distinct, possible, and within its rules.

    Parameters
    ----------
    kind : str
        A kind of layer that can be collected.
    section : mapping
        The contents of the section.
    generator : numpy.random.Generator
        Draws the random configurations.
    most_bytes : float
        Most bytes of input, output and weights of one configuration.
    where : str
        Name of the plan in errors.

    Returns
    -------
    list of dict of str to int

    Raises
    ------
    ValueError
        If the section is wrong, or too few configurations are possible.
    """
    part = _section(kind, section, where)
    if part.sample == "random":
        return _draw(part, generator, most_bytes, where)
    found = [one for one in _grid(part.axes, where) if _fits(kind, one, part.rules, most_bytes)]
    if not found:
        raise ValueError(f"{where}: no point of the grid of [layer.{kind}] is possible and within its rules")
    return found[: part.count]


@dataclass(frozen=True)
class _Section:
    """A ``[layer.KIND]`` section, checked. An axis is an array of values, or (low, high, log)."""

    kind: str
    axes: dict[str, Any]
    rules: list[Rule]
    sample: str
    count: int


def _section(kind: str, given: Mapping[str, Any], where: str) -> _Section:
    if kind not in TERMS["basic"]:
        raise ValueError(f"{where}: kind must be one of {', '.join(TERMS['basic'])}, not {kind!r}")
    texts = given.get("rules", [])
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{where}: rules of [layer.{kind}] must be a list of strings, not {texts!r}")
    rules = [Rule(text, where) for text in texts]
    sizes = {name: value for name, value in given.items() if name not in ("count", "sample", "rules")}
    _check_names(kind, sizes, where)
    axes = {name: _axis(f"{where}: {kind}.{name}", value) for name, value in sizes.items()}
    sample = given.get("sample", "random")
    if sample not in ("random", "grid"):
        raise ValueError(f"{where}: sample must be random or grid, not {sample!r}")
    count = given.get("count", MOST_GRID if sample == "grid" else None)
    if type(count) is not int or not 1 <= count <= MOST_GRID:
        raise ValueError(f"{where}: [layer.{kind}] needs a count of 1 to {MOST_GRID} to draw, not {count!r}")
    return _Section(kind, axes, rules, sample, count)


def _check_names(kind: str, sizes: Mapping[str, Any], where: str) -> None:
    """Raise a ValueError for a size that the kind does not have, and for one that it needs and the section lacks."""
    needed = ("batch_size", *KINDS[kind].needs)
    known = [name for name in (*needed, *KINDS[kind].defaults) if _varies(kind, name)]
    if unknown := sorted(set(sizes) - set(known)):
        raise ValueError(f"{where}: {kind} has no size {unknown[0]!r}; it has {', '.join(known)}")
    if missing := [name for name in needed if name not in sizes]:
        raise ValueError(f"{where}: [layer.{kind}] needs {', '.join(missing)}")


def _varies(kind: str, name: str) -> bool:
    """Whether PyTorch runs this kind with different values of the size; only ReLU can overwrite its input."""
    return name != "inplace" or kind == "ReLU"


def _draw(part: _Section, generator: np.random.Generator, most_bytes: float, where: str) -> list[dict[str, int]]:
    """Distinct random configurations, until there are enough or many draws in a row give no new one."""
    found: dict[tuple, dict[str, int]] = {}
    missed = 0
    while len(found) < part.count and missed < MOST_TRIES:
        one = {name: _choose(axis, generator) for name, axis in part.axes.items()}
        missed += 1
        if tuple(one.values()) not in found and _fits(part.kind, one, part.rules, most_bytes):
            found[tuple(one.values())] = one
            missed = 0
    if len(found) < part.count:
        raise ValueError(
            f"{where}: found only {len(found)} of {part.count} {part.kind} configurations, and no other in "
            f"{MOST_TRIES} more draws; widen the ranges, loosen the rules, or raise max_bytes"
        )
    return list(found.values())


def _axis(where: str, value: Any) -> Any:
    """A range (low, high, log) or an array of values."""
    if _is_size(value):
        return np.array([value])
    if isinstance(value, list) and len(value) == 2:
        value = {"low": value[0], "high": value[1]}
    if isinstance(value, dict) and "values" in value:
        values = value["values"]
        if set(value) != {"values"} or not isinstance(values, list) or not values or not all(map(_is_size, values)):
            raise ValueError(f"{where} must have a list of whole numbers as values and no other key, not {value}")
        return np.array(list(dict.fromkeys(values)))
    if not isinstance(value, dict) or not {"low", "high"} <= set(value) <= {"low", "high", "log"}:
        raise ValueError(
            f"{where} must be a number, [low, high], {{values = [...]}} or {{low, high, log}}, not {value!r}"
        )
    low, high = value["low"], value["high"]
    if not (_is_size(low) and _is_size(high)) or low > high:
        raise ValueError(f"{where} must be from a whole number to one at least as large, not from {low} to {high}")
    if not isinstance(value.get("log", False), bool):
        raise ValueError(f"{where}: log must be true or false, not {value['log']!r}")
    if value.get("log") and low < 1:
        raise ValueError(f"{where} must begin at 1 or more for log = true, not at {low}")
    return (low, high, bool(value.get("log", False)))


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MOST_WHOLE


def _choose(axis: Any, generator: np.random.Generator) -> int:
    if isinstance(axis, np.ndarray):
        return int(generator.choice(axis))
    low, high, log = axis
    if not log:
        return int(generator.integers(low, high + 1))
    return int(np.clip(np.floor(np.exp(generator.uniform(np.log(low), np.log(high + 1)))), low, high))


def _grid(axes: dict[str, Any], where: str) -> Iterator[dict[str, int]]:
    values = [axis if isinstance(axis, np.ndarray) else range(axis[0], axis[1] + 1) for axis in axes.values()]
    total = prod(len(one) for one in values)
    if total > MOST_GRID:
        raise ValueError(f"{where}: grid must have at most {MOST_GRID} points, not {total}; give values, not ranges")
    return (dict(zip(axes, map(int, point), strict=True)) for point in product(*values))


def _fits(kind: str, sizes: dict[str, int], rules: list[Rule], most_bytes: float) -> bool:
    try:
        columns = complete(kind, sizes)
    except ValueError:
        return False
    filled = {name: int(value) for name, value in columns.items()}
    if not all(rule.holds(filled) for rule in rules):
        return False
    size = terms(kind, columns, "basic")
    moved = sum(float(value) for name, value in size.items() if name.startswith("bytes_"))
    return moved <= most_bytes
