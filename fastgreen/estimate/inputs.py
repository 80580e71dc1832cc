"""Shapes of a network's inputs, from Python or from the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["InputShape", "Shapes", "as_shapes"]

MOST_SIZE = 2**31 - 1


@dataclass(frozen=True)
class InputShape:
    """The shape of one sample of one input.

    Attributes
    ----------
    sizes : tuple of int
        Sizes of one sample, without the batch; empty for an input of one number per sample.
    name : str
        Name of the input; empty for the next input in order.
    dtype : str
        PyTorch's name of the type of its numbers, for example ``int64`` for tokens.

    Examples
    --------
    >>> InputShape.parse("ids=128:int64")
    InputShape(sizes=(128,), name='ids', dtype='int64')
    """

    sizes: tuple[int, ...]
    name: str = ""
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for size in self.sizes:
            if not 1 <= size <= MOST_SIZE:
                raise ValueError(f"input_shape must have sizes from 1 to 2**31 - 1, not {size}")

    @classmethod
    def parse(cls, text: str) -> InputShape:
        """Read the text ``[NAME=]SIZE,SIZE,...[:DTYPE]``; an x may separate the sizes as well.

        Raises
        ------
        ValueError
            If a size is not a whole number from 1 to 2**31 - 1.
        """
        name, _, rest = text.rpartition("=")
        sizes, _, dtype = rest.partition(":")
        try:
            found = tuple(int(size) for size in sizes.lower().replace("x", ",").split(",") if sizes)
        except ValueError as error:
            raise ValueError(f"input_shape must be whole numbers separated by commas, not {text!r}") from error
        return cls(found, name, dtype or "float32")


Shapes = InputShape | Sequence[int] | Sequence[InputShape | Sequence[int]] | None


def as_shapes(given: Any) -> list[InputShape]:
    """List of input shapes from a caller's argument: nothing, one shape, or a shape for each input."""
    if given is None:
        return []
    if isinstance(given, InputShape):
        return [given]
    given = list(given)
    if given and all(isinstance(size, int) for size in given):
        return [InputShape(tuple(given))]
    return [one if isinstance(one, InputShape) else InputShape(tuple(int(size) for size in one)) for one in given]
