# SPDX-License-Identifier: Apache-2.0
"""The options for money and carbon, which `run`, `report`, `compile` and `merge` share.

A command is decorated by ``@cost_options()`` and gets a `CostOptions` as ``costing``. ``costing.of(result)`` is a
`Footprint` or None, ``costing.shown(footprint)`` the things for `say`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from fastgreen.costs.settings import Costs
    from fastgreen.results.footprint import Footprint
    from fastgreen.results.result import Result

__all__ = ["CostOptions", "cost_options"]

_RATES = "a number, or a CSV file with a row per hour"


class CostOptions:
    """Options for money and carbon, with the settings of files and of the environment."""

    def __init__(self, given: dict[str, Any], accuracy: float | None, alpha: float, beta: float) -> None:
        from fastgreen.costs.settings import costs_from

        self.costs: Costs = costs_from(given)
        self.accuracy, self.alpha, self.beta = accuracy, alpha, beta
        self._asked = bool(self.costs.chosen) or accuracy is not None

    @property
    def wanted(self) -> bool:
        return bool(self.costs) or self.accuracy is not None

    def check_now(self) -> None:
        """TraceError if a file of rates that the user named has no value for this moment."""
        import time

        for name, rate in (("price", self.costs.price), ("carbon", self.costs.carbon)):
            if rate is not None and name in self.costs.chosen:
                rate.at(time.time())

    def of(self, result: Result, strict: bool = True) -> Footprint | None:
        """Money and carbon of a run; None if nobody asked.

        With `strict`, a file that does not cover the run is an error if the user named it on the command line. Else
        the footprint has no rows, and a note has the reason.
        """
        if not self.wanted:
            return None
        from fastgreen.errors import TraceError
        from fastgreen.results.footprint import Footprint, footprint

        try:
            return footprint(result, self.costs, accuracy=self.accuracy, alpha=self.alpha, beta=self.beta)
        except TraceError as error:
            if strict and self._asked:
                raise
            return Footprint([], self.costs, notes=[f"cost and carbon are unknown: {error}"])

    @staticmethod
    def shown(found: Footprint | None) -> list[Any]:
        """The lines and the table for people."""
        if found is None:
            return []
        table = found.to_table()
        return [*found.lines(), *([table] if table is not None else [])]

    @staticmethod
    def merged(answer: dict[str, Any], found: Footprint | None) -> dict[str, Any]:
        """A JSON object with the footprint in it."""
        return answer if found is None else {**answer, "footprint": found.to_dict()}


def cost_options(scores: bool = True, embodied: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """``--price``, ``--carbon``, ``--pue`` and others; the command gets a `CostOptions` as ``costing``.

    `scores`: also ``--accuracy``, ``--alpha`` and ``--beta``. `embodied`: also ``--embodied`` and its two companions.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        options = [
            click.option("--price", help=f"Price per kWh: {_RATES}, such as 0.30, '0.30 EUR' or prices.csv."),
            click.option("--carbon", help=f"Carbon intensity in g CO2e per kWh: {_RATES}."),
            click.option("--pue", help="Energy of the building over that of its machines, 1 or more."),
        ]
        of_machine = [
            click.option("--embodied", metavar="GRAMS", help="Emissions from making the machine, in g CO2e."),
            click.option("--lifespan", metavar="YEARS", help="With --embodied: life of the machine, 4 by default."),
            click.option("--machine-share", metavar="PART",
                         help="With --embodied: part of the machine in use, such as 0.125 or 1/8."),
        ]  # fmt: skip
        options += of_machine if embodied else []
        if scores:
            options += [
                click.option("--accuracy", type=float, help="Accuracy of the model, 0..1: adds APC and APEC."),
                click.option("--alpha", type=float, default=0.1, show_default=True, help="Alpha of APC and APEC."),
                click.option("--beta", type=float, default=1.0, show_default=True, help="Beta of APC and APEC."),
            ]

        @functools.wraps(command)
        def with_costs(*args: Any, **kwargs: Any) -> Any:
            names = ("price", "carbon", "pue", "embodied", "lifespan", "machine_share")
            given = {name: kwargs.pop(name, None) for name in names}
            accuracy, alpha, beta = kwargs.pop("accuracy", None), kwargs.pop("alpha", 0.1), kwargs.pop("beta", 1.0)
            return command(*args, costing=CostOptions(given, accuracy, alpha, beta), **kwargs)

        wrapped: Any = with_costs
        for option in reversed(options):
            wrapped = option(wrapped)
        return wrapped

    return decorate
