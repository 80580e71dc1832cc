"""Contractions of two tensors, written as matrix products."""

from __future__ import annotations

from math import prod

from fastgreen.estimate.layers import Layer

__all__ = ["attention_products", "contraction"]


def contraction(equation: str, shapes: list[tuple[int, ...]]) -> list[dict[str, int]] | None:
    """Sizes of the matrix products that an equation of Einstein's notation describes.

    Operands are multiplied from left to right. An index of one operand alone is summed before the product.

    Parameters
    ----------
    equation : str
        As ``numpy.einsum`` takes it, with or without an ellipsis and an arrow.
    shapes : list of tuple of int
        Shapes of the operands.

    Returns
    -------
    list of dict of str to int, or None
        ``input_size``, ``output_size`` and ``rows`` of the product with each operand after the first; empty for a
        single operand; None if the equation does not fit the shapes.

    Examples
    --------
    >>> contraction("bhid,bhjd->bhij", [(1, 4, 10, 16), (1, 4, 12, 16)])
    [{'input_size': 16, 'output_size': 12, 'rows': 40}]
    >>> contraction("...ij,jk,kl->...il", [(5, 2, 3), (3, 4), (4, 6)])
    [{'input_size': 3, 'output_size': 4, 'rows': 10}, {'input_size': 4, 'output_size': 6, 'rows': 10}]
    """
    names, result = _indices(equation.replace(" ", ""), shapes)
    if names is None:
        return None
    size: dict[str, int] = {}
    for name, shape in zip(names, shapes, strict=True):
        for index, length in zip(name, shape, strict=True):
            size[index] = max(length, size.get(index, 1))
    if not set(result) <= set(size):
        return None
    products, left = [], set(names[0])
    for place in range(1, len(names)):
        right = set(names[place])
        keep = set(result).union(*names[place + 1 :])
        inner = (left & right) - keep
        products.append({
            name: prod(size[index] for index in of)
            for name, of in (("input_size", inner), ("output_size", (right - left) & keep), ("rows", left & keep))
        })  # fmt: skip
        left = (left | right) & keep
    return products


def _indices(equation: str, shapes: list[tuple[int, ...]]) -> tuple[list[str] | None, str]:
    """Indices of the operands and of the result; an ellipsis becomes an index for each axis."""
    terms, arrow, result = equation.partition("->")
    names = terms.split(",")
    if len(names) != len(shapes) or not names[0]:
        return None, ""
    dots, longest = [], 0
    for name, shape in zip(names, shapes, strict=True):
        letters = name.replace("...", "")
        count = len(shape) - len(letters) if "..." in name else 0
        if "." in letters or count < 0 or len(letters) + count != len(shape):
            return None, ""
        dots.append(count)
        longest = max(longest, count)
    every = "".join(str(axis) for axis in reversed(range(longest))) if longest < 10 else None
    if every is None:
        return None, ""
    if not arrow:
        once = terms.replace(".", "").replace(",", "")
        result = "..." + "".join(sorted(letter for letter in set(once) if once.count(letter) == 1))
    filled = [name.replace("...", every[longest - n :]) for name, n in zip(names, dots, strict=True)]
    return filled, result.replace("...", every)


def attention_products(name: str, rows: int, width: int, keys: int, value_width: int = 0) -> list[Layer]:
    """Layers of attention between its projections: scores, softmax, weighted values.

    `rows` are the queries of all heads together, `width` is the size of a head, `keys` the keys of a head,
    `value_width` the size of a head's values if it is another one.
    """
    return [
        Layer("MatMul", {"input_size": width, "output_size": keys, "rows": rows}, f"{name}.scores"),
        Layer("Softmax", {"input_size": rows * keys}, f"{name}.softmax"),
        Layer("MatMul", {"input_size": keys, "output_size": value_width or width, "rows": rows}, f"{name}.values"),
    ]
