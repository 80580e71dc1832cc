# SPDX-License-Identifier: Apache-2.0
"""What a row of the table of faults is made of.

A row is data: acts that set up fakes and do the harm, and expectations of what must come out. Each carries the words
in which the document says it, so that the document cannot say anything else than what is tested.
"""

from __future__ import annotations

import inspect
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fastgreen as fg


@dataclass
class Scene:
    """Where a row plays: the fixtures' makers, and what has come out so far."""

    folder: Path
    make_powercap: Callable[..., Any]
    make_nvml: Callable[..., Any]
    make_hwmon: Callable[..., Any]
    python: Callable[..., Any]
    setenv: Callable[[str, str], None]
    tree: Any = None
    nvml: Any = None
    hwmon: Any = None
    monitor: fg.Monitor | None = None
    result: fg.Result | None = None
    raised: BaseException | None = None
    program: Any = None
    value: Any = None
    lead: int = 40  # how many calls ahead a rule is written; more where the machine was too busy for that
    warned: list[str] = field(default_factory=list)

    def live(self, channel: str) -> dict[str, Any]:
        """The counts of a channel that is being sampled."""
        for group in self.monitor._groups:
            for i, c in enumerate(group.channels):
                if c.id == channel:
                    return group.sampler.live(i)
        raise KeyError(channel)

    def first(self) -> str:
        return self.monitor.channels[0].id

    def row(self, channel: str | None) -> dict[str, Any]:
        """The result's row of a channel, by default the first."""
        rows = self.result.channels.to_pylist()
        return rows[0] if channel is None else next(r for r in rows if r["id"] == channel)

    def true_j(self, channel: str, begin_ns: int, end_ns: int) -> float | None:
        """What a channel's fake truly drew; None where no fake says so."""
        source, _, name = channel.partition(":")
        if source == "rapl" and self.tree is not None:
            return self.tree.energy_j(name, begin_ns, end_ns)
        if source == "nvml" and self.nvml is not None:
            return self.nvml.energy_j(int(name.partition("/")[0]), begin_ns, end_ns)
        return None


def soon(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until it is true; a quiet machine is not asked for."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come true in time"
        time.sleep(0.002)


class TooLate(Exception):
    """The machine was too busy for an act to come in time: nothing is shown, the row is played again."""


@dataclass(frozen=True)
class Act:
    """Something done to the scene, and how the document says it ("" where it need not)."""

    words: str
    run: Callable[[Scene], None]


@dataclass(frozen=True)
class Expect:
    """What must hold at the end; `check` raises AssertionError where it does not."""

    words: str
    check: Callable[[Scene], None]


@dataclass(frozen=True)
class Proof:
    """A test that stands elsewhere and shows what must come out; `test` is "file::function"."""

    words: str
    test: str


@dataclass(frozen=True)
class Fault:
    """A row. Rows of one `family` are one line of the document, under that name."""

    name: str
    seen: str
    acts: tuple[Act, ...]
    expect: tuple[Expect | Proof, ...]
    family: str | None = None
    slow: bool = False

    @property
    def proofs(self) -> list[Proof]:
        return [e for e in self.expect if isinstance(e, Proof)]

    def play(self, scene: Scene) -> None:
        """Do the acts, catch what is raised, check every expectation."""
        for attempts_left in reversed(range(6)):
            try:
                self._act(scene)
                break
            except TooLate:
                scene.lead *= 2
                if attempts_left == 0:
                    raise
        for expectation in self.expect:
            if isinstance(expectation, Expect):
                expectation.check(scene)

    def _act(self, scene: Scene) -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", fg.errors.FastgreenWarning)
            try:
                for act in self.acts:
                    act.run(scene)
            except TooLate:
                raise
            except Exception as error:  # judged by `raises`; without one it is a failure
                if not any("raises" in e.words for e in self.expect):
                    raise
                scene.raised = error
        scene.warned += [str(w.message) for w in caught if issubclass(w.category, fg.errors.FastgreenWarning)]


def _worded(kind: type, words: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        def make(*arguments: Any, **named: Any) -> Any:
            bound = inspect.signature(function).bind(None, *arguments, **named)
            bound.apply_defaults()
            return kind(words.format_map(bound.arguments), lambda scene: function(scene, *arguments, **named))

        make.__doc__ = function.__doc__
        return make

    return wrap


def act(words: str = "") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Makes of ``def f(scene, a)`` a maker of acts ``f(a)`` that read as `words`, its arguments in braces."""
    return _worded(Act, words)


def expect(words: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The same for expectations."""
    return _worded(Expect, words)
