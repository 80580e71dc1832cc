"""Rules of a plan: comparisons of integer expressions of a layer's sizes, such as ``kernel_size <= image_size``."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["Rule", "allowed"]

MOST_RULE = 500  # characters; a rule is evaluated for every configuration

_OPERATIONS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Eq: operator.eq, ast.NotEq: operator.ne,
}  # fmt: skip
_STRUCTURE = (ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.Compare, ast.BinOp, ast.Name, ast.Load)


class Rule:
    """A comparison of integer expressions, or several joined by ``and`` and ``or``.

    Parameters
    ----------
    text : str
    where : str
        Name of the plan in errors.

    Raises
    ------
    ValueError
        If the text is not a comparison of sums and products of names and whole numbers.
    """

    def __init__(self, text: str, where: str) -> None:
        if len(text) > MOST_RULE:
            raise ValueError(f"{where}: rule must have at most {MOST_RULE} characters, not {len(text)}")
        try:
            tree = ast.parse(text, mode="eval")
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ValueError(f"{where}: rule {text[:80]!r} is not an expression") from error
        if not all(_is_plain(node) for node in ast.walk(tree)):
            raise ValueError(f"{where}: rule {text!r} may only compare sums and products of sizes and whole numbers")
        if not isinstance(tree.body, ast.Compare | ast.BoolOp):
            raise ValueError(f"{where}: rule {text!r} must be a comparison")
        self._body = tree.body

    def holds(self, sizes: Mapping[str, int]) -> bool:
        """Whether the sizes satisfy the rule. ValueError if it has an unknown name, or divides by 0."""
        return bool(_evaluate(self._body, sizes))


def allowed(rule: str, sizes: Mapping[str, int]) -> bool:
    """Whether sizes satisfy a rule.

    Parameters
    ----------
    rule : str
        A comparison of integer expressions.
    sizes : mapping of str to int
        Values of the names in the rule.

    Raises
    ------
    ValueError
        If the rule is not a comparison, has an unknown name, or divides by 0.

    Examples
    --------
    >>> allowed("kernel_size <= image_size + 2 * padding", {"kernel_size": 5, "image_size": 4, "padding": 1})
    True
    """
    return Rule(rule, "rule").holds(sizes)


def _is_plain(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, int)
    return isinstance(node, (*_STRUCTURE, *_OPERATIONS))


def _evaluate(node: ast.AST, sizes: Mapping[str, int]) -> Any:
    match node:
        case ast.Constant():
            return node.value
        case ast.Name():
            return _size(node.id, sizes)
        case ast.BinOp():
            return _calculate(node, sizes)
        case ast.BoolOp():
            values = [bool(_evaluate(value, sizes)) for value in node.values]
            return all(values) if isinstance(node.op, ast.And) else any(values)
        case ast.Compare():
            return _compare(node, sizes)
    raise ValueError(f"rules: {type(node).__name__} has no value")


def _size(name: str, sizes: Mapping[str, int]) -> int:
    if name not in sizes:
        raise ValueError(f"rules must use the sizes of this layer ({', '.join(sizes)}), not {name!r}")
    return sizes[name]


def _calculate(node: ast.BinOp, sizes: Mapping[str, int]) -> Any:
    left, right = _evaluate(node.left, sizes), _evaluate(node.right, sizes)
    if right == 0 and isinstance(node.op, ast.FloorDiv | ast.Mod):
        raise ValueError(f"rules must not divide by 0, as {ast.unparse(node)} does")
    return _OPERATIONS[type(node.op)](left, right)


def _compare(node: ast.Compare, sizes: Mapping[str, int]) -> bool:
    """A chain such as ``1 <= a < b``."""
    left = _evaluate(node.left, sizes)
    for operation, right_node in zip(node.ops, node.comparators, strict=True):
        right = _evaluate(right_node, sizes)
        if not _OPERATIONS[type(operation)](left, right):
            return False
        left = right
    return True
