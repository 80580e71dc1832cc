"""Powers of the states of a load, from the sums of a regression for each block of a run.

A run may have periods with powers of their own, and several models of what the states are: then the powers are a mean
over the models, with the weights of their likelihoods.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastgreen._light_dataclass import dataclass
from fastgreen.results.nonnegative import fit_powers, fit_powers_of_each

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = [
    "GAIN",
    "BlockSums",
    "choose_periods",
    "explained",
    "gain",
    "grouped",
    "mean_powers",
    "periods_of",
    "ridge_of",
]

GAIN = 8.0  # least gain by one part more, in variances of a growth's error: chance alone rarely gives more
_CHANCE = 1.5  # least gain in its standard errors
_PRIOR = 10.0  # powers are expected within so many mean powers of the mean: decides only where the samples do not
_LEVEL = 0.05  # standard deviation of levels below which a run has one level
_ROUNDS = 3
_PERIODS = (2, 3, 5, 6, 10, 15)


@dataclass
class BlockSums:
    """Sums of the regression for each block of a run.

    Attributes
    ----------
    matrix, vector : (blocks, states, states) and (blocks, states) float64
        Squares of the expected times, and their products with the growths, over the variances.
    time_ns : (blocks, states) float64
    grown : (blocks,) float64
    known : (states,) float64, optional
        Powers to expect where these sums tell nothing of a state; the mean power by default.
    """

    matrix: NDArray[np.float64]
    vector: NDArray[np.float64]
    time_ns: NDArray[np.float64]
    grown: NDArray[np.float64]
    known: NDArray[np.float64] | None = None

    @classmethod
    def empty(cls, blocks: int, states: int) -> BlockSums:
        return cls(
            np.zeros((blocks, states, states)), np.zeros((blocks, states)), np.zeros((blocks, states)), np.zeros(blocks)
        )

    @property
    def mean(self) -> float:
        """Mean power."""
        return float(self.grown.sum() / max(self.time_ns.sum(), 1.0))

    @property
    def expected(self) -> NDArray[np.float64] | float:
        return self.mean if self.known is None else self.known

    @property
    def ridge(self) -> NDArray[np.float64]:
        """See `ridge_of`."""
        return ridge_of(self.time_ns.sum(axis=0), self.mean)

    @property
    def covariance(self) -> NDArray[np.float64]:
        """Of the powers, as far as the samples tell them."""
        return np.linalg.pinv(self.matrix.sum(axis=0) + np.diag(self.ridge), hermitian=True)

    def levels(self) -> NDArray[np.float64]:
        """(blocks,): how much more or less is drawn in each block than the powers tell, whatever the state."""
        level = np.ones(len(self.grown))
        for _ in range(_ROUNDS):
            expected = self.time_ns @ self.at_level(level).powers()
            level = np.where((expected > 0) & (self.grown > 0), self.grown / np.where(expected > 0, expected, 1.0), 1.0)
            level /= float(np.average(level, weights=np.maximum(expected, 1e-300)))
        return level if level.std() > _LEVEL else np.ones(len(level))

    def at_level(self, level: NDArray[np.float64]) -> BlockSums:
        """The sums if each block drew what it draws at level 1; `grown` stays what the counter grew."""
        return BlockSums(self.matrix, self.vector / level[:, None], self.time_ns, self.grown, self.known)

    def merged(self, into: NDArray[np.int64]) -> BlockSums:
        """The sums if state s becomes state into[s]."""
        if len(into) == into.max() + 1 and np.array_equal(into, np.arange(len(into))):
            return self
        matrix = grouped(grouped(self.matrix, into, 1), into, 2)
        return BlockSums(matrix, grouped(self.vector, into, 1), grouped(self.time_ns, into, 1), self.grown)

    def some(self, blocks: NDArray[np.bool_], known: NDArray[np.float64] | None = None) -> BlockSums:
        return BlockSums(self.matrix[blocks], self.vector[blocks], self.time_ns[blocks], self.grown[blocks], known)

    def powers(self) -> NDArray[np.float64]:
        """(states,): the powers that are fitted to all blocks."""
        return fit_powers(self.matrix.sum(axis=0), self.vector.sum(axis=0), self.ridge, self.expected)

    def without_each(self) -> NDArray[np.float64]:
        """(blocks, states): the powers that are fitted to all blocks but one."""
        matrix, vector = self.matrix.sum(axis=0) - self.matrix, self.vector.sum(axis=0) - self.vector
        return fit_powers_of_each(matrix, vector, self.ridge, self.expected)

    def losses(self) -> NDArray[np.float64]:
        """For each block, squares of what is left of its growths by powers that were fitted to the other blocks.

        Less the squares of the growths, and in variances of their errors. The powers are scaled to the block, so that a
        load that draws more in one block than in another is no misfit.
        """
        power = self.without_each()
        fitted = np.einsum("bi,bij,bj->b", power, self.matrix, power)
        return -(np.einsum("bi,bi->b", self.vector, power) ** 2) / np.where(fitted > 0, fitted, np.inf)


def grouped(values: NDArray[np.float64], into: NDArray[np.int64], axis: int) -> NDArray[np.float64]:
    """Sums along an axis of what becomes one: `into` has a number for each place, and each number up to the largest."""
    order = np.argsort(into, kind="stable")
    first = np.searchsorted(into[order], np.arange(int(into.max()) + 1))
    return np.add.reduceat(np.take(values, order, axis), first, axis)


def gain(before: NDArray[np.float64], after: NDArray[np.float64]) -> float:
    """By how much the losses of blocks get smaller; 0 if that can be chance."""
    better = before - after
    total = float(better.sum())
    chance = float(better.std()) * len(better) ** 0.5
    return total if total > max(GAIN, _CHANCE * chance) else 0.0


def ridge_of(time_ns: NDArray[np.float64], mean: float) -> NDArray[np.float64]:
    """Weight of the expected power for each state; the last axis of `time_ns` is that of the states."""
    share = np.maximum(time_ns / np.maximum(time_ns.max(axis=-1, keepdims=True), 1.0), 1e-6)
    return share / (_PRIOR * mean) ** 2 if mean > 0 else share


def explained(
    matrices: NDArray[np.float64], vectors: NDArray[np.float64], ridge: NDArray[np.float64], mean: float
) -> NDArray[np.float64]:
    """What powers explain of the growths that they are fitted to, of several fits: no powers explain more.

    Parameters
    ----------
    matrices, vectors : (fits, states, states) and (fits, states) float64
    ridge : (fits, states) or (states,) float64
    mean : float
    """
    scale = np.sqrt(np.einsum("fss->fs", matrices) + ridge)
    scale = np.where(scale > 0, scale, 1.0)
    right = (vectors + ridge * mean) / scale
    whole = matrices / (scale[:, :, None] * scale[:, None, :])
    np.einsum("fss->fs", whole)[:] += ridge / scale**2 + 1e-12  # so that a state without time is no obstacle
    return np.einsum("fs,fs->f", right, np.linalg.solve(whole, right[..., None])[..., 0])


def periods_of(blocks: int, count: int) -> NDArray[np.int64]:
    """The period of each block, if a run has so many."""
    return np.arange(blocks) * count // blocks


def choose_periods(sums: BlockSums) -> int:
    """The number of periods that the samples ask for: of the largest gain."""
    blocks, states = sums.vector.shape
    ridge, mean = sums.ridge, sums.mean
    before, power, most, best = None, None, 0.0, 1

    def explained_by(count: int) -> float:
        matrices = sums.matrix.reshape(count, blocks // count, states, states).sum(axis=1)
        vectors = sums.vector.reshape(count, blocks // count, states).sum(axis=1)
        return float(explained(matrices, vectors, ridge, mean).sum())

    one, own = explained_by(1) + GAIN, np.count_nonzero(sums.time_ns.any(axis=0))
    for count in _PERIODS:
        if explained_by(count) < one + own * (count - 1):  # by chance alone, each power more explains 1
            continue
        period = periods_of(blocks, count)
        power = sums.powers() if power is None else power
        parts = [sums.some(period == p, power) for p in range(count)]
        if not all(part.time_ns.any() for part in parts):
            continue
        before = sums.losses() if before is None else before
        gained = gain(before, np.concatenate([part.losses() for part in parts]))
        if gained > most:
            most, best = gained, count
    return best


def mean_powers(
    sums: BlockSums, models: Sequence[NDArray[np.int64]], periods: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Powers, mean over the models: (periods, states), and (blocks, periods, states) without each of the blocks.

    Parameters
    ----------
    sums : BlockSums
    models : sequence of (states,) int
        For each model, the number of each state; states of one number have one power.
    periods : int
    """
    blocks, states = len(sums.grown), len(models[0])
    period = periods_of(blocks, periods)
    power, without = np.zeros((periods, states)), np.zeros((blocks, periods, states))
    merged = [sums.merged(into) for into in models]
    known = [None if periods == 1 else s.powers() for s in merged]
    for p in range(periods):
        of = period == p
        found = _mean_power([s.some(of, k) for s, k in zip(merged, known, strict=True)], models)
        power[p] = without[:, p] = found[0]
        without[of, p] = found[1:]
    return power, without


def _mean_power(merged: Sequence[BlockSums], models: Sequence[NDArray[np.int64]]) -> NDArray[np.float64]:
    """(1 + blocks, states): the same for one period, with all blocks and without each."""
    powers, misfits = [], []
    for s, into in zip(merged, models, strict=True):
        matrix, vector = s.matrix.sum(axis=0), s.vector.sum(axis=0)
        all_of = np.vstack([s.powers(), s.without_each()])
        matrices, vectors = np.concatenate([matrix[None], matrix - s.matrix]), np.vstack([vector, vector - s.vector])
        misfits.append(np.einsum("bi,bij,bj->b", all_of, matrices, all_of) - 2 * np.einsum("bi,bi->b", vectors, all_of))
        powers.append(all_of[:, into])
    weight = np.exp(-0.5 * (np.array(misfits) - np.min(misfits, axis=0)))
    return np.einsum("mb,mbs->bs", weight / weight.sum(axis=0), np.array(powers))
