"""Which layers to measure: configurations drawn at random or on a grid from ranges, under validity rules.

The plan is a TOML file::

    [collect]
    seconds = 2.0            # of forward passes per repeat
    repeats = 3
    channels = ["rapl:*"]    # as Monitor takes them; all readable ones without it
    seed = 1
    threads = 2              # of PyTorch; its own choice without it
    device = "cpu"           # or "cuda"
    max_bytes = 1e9          # leaves out layers whose input, output and weights are larger

    [layer.Conv2d]
    count = 200
    sample = "random"        # or "grid": every combination
    batch_size = [1, 256]    # whole numbers of a range, both ends included
    kernel_size = {values = [1, 3, 5, 7]}
    image_size = {low = 4, high = 224, log = true}
    rules = ["kernel_size <= image_size", "stride <= kernel_size"]

A rule compares whole-number expressions of the layer's sizes; layers that cannot exist (a kernel larger than the padded
image) are left out in any case.
"""

from __future__ import annotations

import ast
import operator
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from fastgreen.errors import TraceError
from fastgreen.estimate.layers import KINDS, complete
from fastgreen.estimate.work import TERMS, terms

__all__ = ["Plan", "allowed", "configurations", "read_plan"]

MOST_TRIES = 1000
MOST_GRID = 100_000

_OPERATIONS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Eq: operator.eq, ast.NotEq: operator.ne,
}  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What to collect; see the module's description for the file it comes from.

    Attributes
    ----------
    layers : list of (kind, sizes)
        The configurations, in the order they are measured.
    seconds : float
        Of forward passes in each repeat.
    repeats : int
        Measurements of each configuration.
    channels : list of str or None
        Ids or patterns, as :class:`fastgreen.Monitor` takes them.
    threads : int or None
        Of PyTorch.
    device : str
        Where PyTorch runs them.
    """

    layers: list[tuple[str, dict[str, int]]]
    seconds: float = 2.0
    repeats: int = 3
    channels: list[str] | None = None
    threads: int | None = None
    device: str = "cpu"

    @property
    def duration_s(self) -> float:
        """The time the passes take, without warming up."""
        return len(self.layers) * self.repeats * self.seconds


def read_plan(path: str | Path) -> Plan:
    """Read a plan.

    Raises
    ------
    TraceError
        If the file is not TOML.
    ValueError
        For a key that is not known, a range that is empty, a rule that is no comparison, a kind that is not known.
    """
    try:
        document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TraceError(f"{path}: not a TOML file ({error})") from error
    return plan_from(document, str(path))


def plan_from(document: Mapping[str, Any], where: str = "plan") -> Plan:
    """A plan from the mapping that its file holds."""
    settings = dict(document.get("collect", {}))
    known = {"seconds", "repeats", "channels", "seed", "threads", "max_bytes", "device"}
    if unknown := sorted(set(settings) - known):
        raise ValueError(f"{where}: [collect] has no key {unknown[0]!r}; it has {', '.join(sorted(known))}")
    seconds, repeats = float(settings.get("seconds", 2.0)), settings.get("repeats", 3)
    if not seconds > 0:
        raise ValueError(f"{where}: seconds must be more than 0, not {seconds:g}")
    if not isinstance(repeats, int) or repeats < 1:
        raise ValueError(f"{where}: repeats must be a whole number of at least 1, not {repeats!r}")
    sections = document.get("layer", {})
    if not sections:
        raise ValueError(f"{where}: no [layer.KIND] section, nothing to collect")
    generator = np.random.default_rng(int(settings.get("seed", 0)))
    most_bytes = float(settings.get("max_bytes", np.inf))
    layers = [
        (kind, sizes)
        for kind, section in sections.items()
        for sizes in configurations(kind, section, generator, most_bytes, where)
    ]
    threads, device = settings.get("threads"), str(settings.get("device", "cpu"))
    return Plan(layers, seconds, repeats, settings.get("channels"), threads, device)


def configurations(
    kind: str,
    section: Mapping[str, Any],
    generator: np.random.Generator,
    most_bytes: float = np.inf,
    where: str = "plan",
) -> list[dict[str, int]]:
    """The configurations of one ``[layer.KIND]`` section: distinct, possible, within its rules."""
    if kind not in TERMS["basic"]:
        raise ValueError(f"{where}: layers of kind {kind!r} cannot be collected; {', '.join(TERMS['basic'])} can")
    section = dict(section)
    count, sample = section.pop("count", None), section.pop("sample", "random")
    rules = [_rule(text, where) for text in section.pop("rules", [])]
    sizes = ("batch_size", *KINDS[kind].needs, *KINDS[kind].defaults)
    if unknown := sorted(set(section) - set(sizes)):
        raise ValueError(f"{where}: {kind} has no size {unknown[0]!r}; it has {', '.join(sizes)}")
    if missing := [name for name in ("batch_size", *KINDS[kind].needs) if name not in section]:
        raise ValueError(f"{where}: [layer.{kind}] needs {', '.join(missing)}")
    axes = {name: _axis(f"{where}: {kind}.{name}", value) for name, value in section.items()}
    if sample not in ("random", "grid"):
        raise ValueError(f"{where}: sample must be random or grid, not {sample!r}")
    if sample == "grid":
        found = [one for one in _grid(axes, where) if _fits(kind, one, rules, most_bytes)]
        return found[: count if count is not None else len(found)]
    if not isinstance(count, int) or count < 1:
        raise ValueError(f"{where}: [layer.{kind}] needs a count of at least 1 to draw, not {count!r}")
    return _draw(kind, axes, count, rules, most_bytes, generator, where)


def allowed(rule: str, sizes: Mapping[str, int]) -> bool:
    """Whether sizes satisfy a rule.

    Examples
    --------
    >>> allowed("kernel_size <= image_size + 2 * padding", {"kernel_size": 5, "image_size": 4, "padding": 1})
    True
    """
    return bool(_evaluate(_rule(rule, "rule").body, dict(sizes)))


def _draw(
    kind: str,
    axes: dict[str, Any],
    count: int,
    rules: list,
    most_bytes: float,
    generator: np.random.Generator,
    where: str,
) -> list[dict[str, int]]:
    found: dict[tuple, dict[str, int]] = {}
    for _ in range(count * MOST_TRIES):
        one = {name: _choose(axis, generator) for name, axis in axes.items()}
        if _fits(kind, one, rules, most_bytes):
            found.setdefault(tuple(one.values()), one)
        if len(found) == count:
            return list(found.values())
    raise ValueError(
        f"{where}: only {len(found)} of {count} {kind} configurations found in {count * MOST_TRIES} draws; "
        "widen the ranges or loosen the rules"
    )


def _axis(where: str, value: Any) -> Any:
    """A range (low, high, log) or an array of values."""
    if isinstance(value, int) and not isinstance(value, bool):
        return np.array([value])
    if isinstance(value, list) and len(value) == 2:
        value = {"low": value[0], "high": value[1]}
    if isinstance(value, dict) and "values" in value:
        values = np.asarray(value["values"])
        if values.size == 0 or values.dtype.kind not in "iu":
            raise ValueError(f"{where} needs whole numbers as values, not {value['values']}")
        return values
    if not isinstance(value, dict) or not {"low", "high"} <= set(value) <= {"low", "high", "log"}:
        raise ValueError(
            f"{where} must be a number, [low, high], {{values = [...]}} or {{low, high, log}}, not {value!r}"
        )
    low, high = value["low"], value["high"]
    if not (isinstance(low, int) and isinstance(high, int)) or low > high or low < 0:
        raise ValueError(f"{where} must go from a whole number to one not smaller, not from {low} to {high}")
    if value.get("log") and low < 1:
        raise ValueError(f"{where} must begin at 1 or more to be drawn by its logarithm, not at {low}")
    return (low, high, bool(value.get("log", False)))


def _choose(axis: Any, generator: np.random.Generator) -> int:
    if isinstance(axis, np.ndarray):
        return int(generator.choice(axis))
    low, high, log = axis
    if not log:
        return int(generator.integers(low, high + 1))
    return int(np.clip(np.floor(np.exp(generator.uniform(np.log(low), np.log(high + 1)))), low, high))


def _grid(axes: dict[str, Any], where: str) -> Iterator[dict[str, int]]:
    values = [axis if isinstance(axis, np.ndarray) else np.arange(axis[0], axis[1] + 1) for axis in axes.values()]
    total = int(np.prod([len(one) for one in values], dtype=np.float64))
    if total > MOST_GRID:
        raise ValueError(f"{where}: the grid has {total} points, more than {MOST_GRID}; give values instead of ranges")
    return (dict(zip(axes, map(int, point), strict=True)) for point in product(*values))


def _fits(kind: str, sizes: dict[str, int], rules: list, most_bytes: float) -> bool:
    try:
        columns = complete(kind, sizes)
    except ValueError:
        return False
    filled = {name: int(value) for name, value in columns.items()}
    if not all(_evaluate(rule.body, filled) for rule in rules):
        return False
    size = terms(kind, columns, "basic")
    moved = sum(float(size[name]) for name in ("bytes_in", "bytes_out", "bytes_weights") if name in size)
    return moved <= most_bytes


def _rule(text: str, where: str) -> ast.Expression:
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError as error:
        raise ValueError(f"{where}: rule {text!r} is not an expression") from error
    allowed_nodes = (
        ast.Expression,
        ast.BoolOp,
        ast.And,
        ast.Or,
        ast.Compare,
        ast.BinOp,
        ast.Name,
        ast.Load,
        ast.Constant,
    )
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, int):
            continue
        if isinstance(node, ast.Constant) or not isinstance(node, (*allowed_nodes, *_OPERATIONS)):
            raise ValueError(f"{where}: rule {text!r} may only compare sums and products of sizes and whole numbers")
    if not isinstance(tree.body, ast.Compare | ast.BoolOp):
        raise ValueError(f"{where}: rule {text!r} compares nothing")
    return tree


def _evaluate(node: ast.AST, sizes: dict[str, int]) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        if node.id not in sizes:
            raise ValueError(f"rules: {node.id!r} is not a size of this layer; there are {', '.join(sizes)}")
        return sizes[node.id]
    if isinstance(node, ast.BinOp):
        return _OPERATIONS[type(node.op)](_evaluate(node.left, sizes), _evaluate(node.right, sizes))
    if isinstance(node, ast.BoolOp):
        values = [bool(_evaluate(value, sizes)) for value in node.values]
        return all(values) if isinstance(node.op, ast.And) else any(values)
    if not isinstance(node, ast.Compare):
        raise ValueError(f"rules: {type(node).__name__} has no value")
    left = _evaluate(node.left, sizes)
    for operation, right_node in zip(node.ops, node.comparators, strict=True):
        right = _evaluate(right_node, sizes)
        if not _OPERATIONS[type(operation)](left, right):
            return False
        left = right
    return True
