"""Contractions of two tensors, written as matrix products."""

from __future__ import annotations

from math import prod

from fastgreen.estimate.layers import Layer

__all__ = ["attention_products", "contraction"]


def contraction(equation: str, shapes: list[tuple[int, ...]]) -> dict[str, int] | None:
    """Sizes of the matrix product that an equation of Einstein's notation describes.

    Parameters
    ----------
    equation : str
        As ``numpy.einsum`` takes it, with an arrow.
    shapes : list of tuple of int
        Shapes of the operands.

    Returns
    -------
    dict of str to int, or None
        ``input_size``, ``output_size`` and ``rows``; None if the equation is not a product of two tensors.

    Examples
    --------
    >>> contraction("bhid,bhjd->bhij", [(1, 4, 10, 16), (1, 4, 12, 16)])
    {'input_size': 16, 'output_size': 12, 'rows': 40}
    """
    terms, arrow, result = equation.replace(" ", "").partition("->")
    names = terms.split(",")
    if len(names) != 2 or len(shapes) != 2 or not arrow or "." in equation:
        return None
    if any(len(name) != len(shape) for name, shape in zip(names, shapes, strict=True)):
        return None
    size = {
        index: length
        for name, shape in zip(names, shapes, strict=True)
        for index, length in zip(name, shape, strict=True)
    }
    right = set(names[1]) & set(result) - set(names[0])
    inner = set(size) - set(result)
    rows = set(result) - right
    return {
        name: prod(size[i] for i in of)
        for name, of in zip(("input_size", "output_size", "rows"), (inner, right, rows), strict=True)
    }


def attention_products(name: str, rows: int, width: int, keys: int) -> list[Layer]:
    """Layers of attention between its projections: scores, softmax, weighted values.

    `rows` are the queries of all heads together, `width` is the size of a head, `keys` the keys of a head.
    """
    return [
        Layer("MatMul", {"input_size": width, "output_size": keys, "rows": rows}, f"{name}.scores"),
        Layer("Softmax", {"input_size": rows * keys}, f"{name}.softmax"),
        Layer("MatMul", {"input_size": keys, "output_size": width, "rows": rows}, f"{name}.values"),
    ]
