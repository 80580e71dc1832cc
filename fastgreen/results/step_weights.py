# SPDX-License-Identifier: Apache-2.0
"""Weights of requests from the steps of an engine: what the energy of a step depends on, and each request's part of it.

The energy of a step is taken as a fixed part and a part for each prompt token, decoding sequence and context token. For
a cost of this form the Shapley value is known: each pays for its own terms, and all that are in the step pay the fixed
part in equal parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fastgreen._light_dataclass import dataclass
from fastgreen.results.nonnegative import least_squares
from fastgreen.results.share_table import table_edges
from fastgreen.units import counted

if TYPE_CHECKING:
    from collections.abc import ItemsView, Iterator

    import pyarrow as pa
    from numpy.typing import NDArray

    from fastgreen.results.result import Result

__all__ = ["TERMS", "StepAmounts", "StepWeights", "fit_weights"]

TERMS = ("prompt_tokens", "decoding", "context_tokens")
_FEWEST = 8
_MOST = 1e12


@dataclass
class StepWeights:
    """What a step costs, as fitted; `weights` gives each request's weight in a step.

    Attributes
    ----------
    step_j : float
        The fixed part of a step, J.
    prompt_token_j, decoding_j, context_token_j : float
        J for each token of a prompt that is computed, each sequence that gets a token, and each token of context that
        such a sequence looks back on.
    steps : int
        The number of steps of the fit.
    unexplained : float
        The standard deviation of what the fit leaves, over the mean energy of a step.
    rule : str
        How the energy of a step is shared, in a sentence.
    notes : list of str
    """

    step_j: float
    prompt_token_j: float
    decoding_j: float
    context_token_j: float
    steps: int
    unexplained: float
    rule: str
    notes: list[str]

    def weights(self, prompt_tokens: Any, decoding: Any, context_tokens: Any, step: Any = None) -> NDArray[np.float64]:
        """The weight of each request in a step: the J that it is charged of a mean step.

        Parameters
        ----------
        prompt_tokens, decoding, context_tokens : (n,) arrays
            Of each request: tokens of its prompt in this step, 1 if it gets a token or 0, tokens of its context.
        step : (n,) array, optional
            The step of each entry, as any number or text; by default all are of one step.

        Returns
        -------
        (n,) float64
            Only the ratios within a step matter. In a step that costs nothing all are 1.

        Raises
        ------
        ValueError
            For amounts that are negative or not finite.
        """
        amounts = [
            _amounts(name, values)
            for name, values in zip(TERMS, (prompt_tokens, decoding, context_tokens), strict=True)
        ]
        columns = np.broadcast_arrays(*(np.atleast_1d(a) for a in amounts))
        own = self.prompt_token_j * columns[0] + self.decoding_j * columns[1] + self.context_token_j * columns[2]
        of = np.zeros(len(own), np.int64) if step is None else np.unique(np.asarray(step), return_inverse=True)[1]
        out = own + self.step_j / np.maximum(np.bincount(of, minlength=1), 1)[of]
        return np.where(np.bincount(of, out, minlength=1)[of] > 0, out, 1.0)

    def step(self, work: Mapping[Any, Mapping[str, float]]) -> StepAmounts:
        """What `ledger.step` takes: ``with ledger.step(fitted.step({id: {"prompt_tokens": 24}, ...})):``.

        Parameters
        ----------
        work : mapping of ids to mappings
            What each request did in the step: ``prompt_tokens``, ``decoding`` (1 if it got a token) and
            ``context_tokens``; 0 where left out. It is read when the step ends, so it may be filled meanwhile.

        Returns
        -------
        StepAmounts
            Its weights are those of `weights`, and the ledger's tables get the rule.

        Raises
        ------
        TypeError, ValueError
            At the end of the step, for work of another form or with another term.
        """
        return StepAmounts(self, work)

    def share(self, result: Result, rows: Any, **options: Any) -> pa.Table:
        """Share the energy of a run among requests by what they did in each step.

        Parameters
        ----------
        result : Result
        rows : pyarrow.Table, or what pyarrow.table takes
            A row per step and request: ``begin_ns`` and ``end_ns`` of the step, ``prompt_tokens``, ``decoding`` and
            ``context_tokens`` of the request in it, and any other columns, such as an id.
        **options
            Of `Result.share`: clock, channels, baseline_w.

        Returns
        -------
        pyarrow.Table
            As of `Result.share`, with a column ``weight``; ``rule`` in the schema's metadata holds the rule.
        """
        import pyarrow as pa

        given = rows if isinstance(rows, pa.Table) else pa.table(rows)
        nothing = np.zeros(len(given))
        amounts = [given[name] if name in given.column_names else nothing for name in TERMS]
        weights = self.weights(amounts[0], amounts[1], amounts[2], given["begin_ns"])
        found = result.share(given.append_column("weight", pa.array(weights)), weight="weight", **options)
        return found.replace_schema_metadata({**found.schema.metadata, b"rule": self.rule.encode()})

    def __str__(self) -> str:
        parts = [f"step {self.step_j:.4g} J", f"prompt token {self.prompt_token_j:.4g} J"]
        parts += [f"decoding sequence {self.decoding_j:.4g} J", f"context token {self.context_token_j:.4g} J"]
        lines = [
            f"{', '.join(parts)}; {counted(self.steps, 'step')}, {100 * self.unexplained:.3g} % of a step unexplained",
            f"rule: {self.rule}",
        ]
        return "\n".join(lines + [f"note: {note}" for note in self.notes])


class StepAmounts(Mapping):  # type: ignore[type-arg]
    """The weights of the requests in one step, by id; made by `StepWeights.step`."""

    def __init__(self, fitted: StepWeights, work: Mapping[Any, Mapping[str, float]]) -> None:
        if not isinstance(work, Mapping):
            raise TypeError(f"work must be a mapping of ids to mappings, not {work!r}")
        self._fitted, self._work = fitted, work
        self.rule = fitted.rule

    def __iter__(self) -> Iterator[Any]:
        return iter(self._weights())

    def __len__(self) -> int:
        return len(self._work)

    def __getitem__(self, identity: Any) -> float:
        return self._weights()[identity]

    def items(self) -> ItemsView[Any, float]:
        return self._weights().items()

    def _weights(self) -> dict[Any, float]:
        work = dict(self._work)
        for identity, done in work.items():
            if not isinstance(done, Mapping) or not set(done) <= set(TERMS):
                raise ValueError(f"work of {identity!r} must be a mapping with {', '.join(TERMS)}, not {done!r}")
        columns = [[done.get(term, 0) for done in work.values()] for term in TERMS]
        return dict(zip(work, self._fitted.weights(*columns).tolist() if work else [], strict=True))


def fit_weights(
    result: Result, steps: Any, *, channels: Any = None, clock: Literal["monotonic", "realtime"] = "monotonic"
) -> StepWeights:
    """Fit the cost of an engine's steps: a fixed part, and J per prompt token, decoding sequence and context token.

    Parameters
    ----------
    result : Result
        The run in which the steps were made.
    steps : pyarrow.Table, or what pyarrow.table takes
        A row per step: ``begin_ns``, ``end_ns`` (integers in ns, numbers in s, or timestamps), ``prompt_tokens``,
        ``decoding`` (sequences that get a token) and ``context_tokens`` (of those sequences). A column of zeros may be
        left out. Steps do not overlap.
    channels : str or iterable of str, optional
        Ids or patterns of the channels; those of the total by default.
    clock : "monotonic" or "realtime"
        The clock of the instants.

    Returns
    -------
    StepWeights
        Print it for the figures and the rule.

    Raises
    ------
    ValueError
        For fewer than 8 steps in the run, steps that overlap, or amounts that are negative or not finite.

    Notes
    -----
    Least squares with coefficients that are not negative (Lawson and Hanson 1974), each step weighted by its length, as
    a long step is less certain. The energies are those of `Result.share`; where a counter is slower than
    the steps, many steps are needed.
    """
    import pyarrow as pa

    given = steps if isinstance(steps, pa.Table) else pa.table(steps)
    shared = result.share(given, clock=clock, channels=channels)
    energy_j = np.asarray(shared["energy_j"].fill_null(np.nan), np.float64)
    columns = [_amounts(name, given[name]) if name in given.column_names else np.zeros(len(given)) for name in TERMS]
    begin_ns, _, end_ns, _, _ = table_edges(result, given, "begin_ns", "end_ns", clock)
    known = np.isfinite(energy_j) & (end_ns > begin_ns)
    _check_apart(begin_ns[known], end_ns[known])
    if int(known.sum()) < _FEWEST:
        raise ValueError(f"steps must hold at least {_FEWEST} steps within the run, not {int(known.sum())}")
    matrix = np.column_stack([np.ones(len(given)), *columns])[known]
    y, certainty = energy_j[known], 1.0 / np.sqrt((end_ns - begin_ns)[known] / 1e9)
    weighted = matrix * certainty[:, None]
    found = least_squares(weighted.T @ weighted, weighted.T @ (y * certainty))
    left = y - matrix @ found
    mean = float(np.mean(y))
    terms = ", ".join(
        f"{v:.4g} J per {n}"
        for n, v in zip(("prompt token", "decoding sequence", "context token"), found[1:], strict=True)
    )
    rule = (
        f"a request pays its own terms of a step ({terms}) and an equal part of the fixed {found[0]:.4g} J with all "
        "requests in the step (the Shapley value of this cost)"
    )
    notes = _notes(len(given) - int(known.sum()), matrix)
    unexplained = float(np.std(left)) / mean if mean > 0 else float("nan")
    step_j, prompt_token_j, decoding_j, context_token_j = found.tolist()
    return StepWeights(step_j, prompt_token_j, decoding_j, context_token_j, int(known.sum()), unexplained, rule, notes)


def _amounts(name: str, values: Any) -> NDArray[np.float64]:
    out = np.asarray(values, np.float64)
    wrong = np.flatnonzero(~((out >= 0) & (out <= _MOST)))
    if len(wrong):
        raise ValueError(f"{name} must be numbers from 0 on, not {float(out.flat[wrong[0]])} (row {int(wrong[0])})")
    return out


def _check_apart(begin_ns: NDArray[np.int64], end_ns: NDArray[np.int64]) -> None:
    order = np.argsort(begin_ns, kind="stable")
    wrong = np.flatnonzero(begin_ns[order][1:] < end_ns[order][:-1])
    if len(wrong):
        raise ValueError(f"steps must not overlap, and those of rows {order[wrong[0]]} and {order[wrong[0] + 1]} do")


def _notes(left_out: int, matrix: NDArray[np.float64]) -> list[str]:
    out = [f"{counted(left_out, 'step')} without an instant, a length or an energy: left out"] if left_out else []
    scaled = matrix / np.maximum(np.linalg.norm(matrix, axis=0), 1e-300)
    used = scaled[:, np.any(matrix > 0, axis=0)]
    if np.linalg.matrix_rank(used, tol=1e-6) < used.shape[1]:
        out.append("some terms change together in all steps, so the division among them is not determined")
    return out
