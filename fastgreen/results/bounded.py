"""Energies with bounds, and the stretches of time that they belong to."""

from __future__ import annotations

from fastgreen._light_dataclass import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    import numpy as np

    Array: TypeAlias = np.ndarray
    Amounts: TypeAlias = dict[str, tuple[Array, Array]]

__all__ = ["Bounded", "Pause", "Windows"]


@dataclass
class Bounded:
    """Energies in J with their bounds; scalars or arrays of one shape. They add."""

    energy_j: Any
    low_j: Any
    high_j: Any

    def __add__(self, other: Bounded) -> Bounded:
        return Bounded(self.energy_j + other.energy_j, self.low_j + other.low_j, self.high_j + other.high_j)

    def __getitem__(self, index: Any) -> Bounded:
        return Bounded(self.energy_j[index], self.low_j[index], self.high_j[index])

    @classmethod
    def zeros(cls, count: int) -> Bounded:
        import numpy as np

        return cls(np.zeros(count), np.zeros(count), np.zeros(count))


@dataclass
class Windows:
    """The stretches of one handle, in order and without overlap.

    `amounts` are what was done in them, by name: the places of the stretches that have some, in order, and how much.
    """

    name: str
    handle: int
    begin_ns: Array
    end_ns: Array
    amounts: Amounts = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.begin_ns)


@dataclass(frozen=True)
class Pause:
    """A stretch between two samples so long that the counter can have wrapped more often than shows."""

    begin_ns: int
    end_ns: int
    hidden_j: float
