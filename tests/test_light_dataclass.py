"""The small dataclass does what the standard one does, and is one to the standard module."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import types
from typing import Any

import pytest

from fastgreen import _light_dataclass as small
from fastgreen.sensors.channel import Channel


def made(module: types.ModuleType, frozen: bool) -> Any:
    @module.dataclass(frozen=frozen)
    class Point:
        """A point."""

        x: int
        y: int = 2
        marks: dict[str, int] = module.field(default_factory=dict, repr=False, compare=False)

        def shifted(self) -> Any:
            return module.replace(self, x=self.x + 1)

    return Point


def outcome(call: Any) -> Any:
    try:
        return call()
    except (TypeError, AttributeError) as error:
        return type(error), str(error).rpartition("__init__")[2]


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize(
    "ask",
    [
        lambda kind: repr(kind(1)).rpartition(".")[2],
        lambda kind: repr(kind(x=1, y=5, marks={"a": 1}).shifted()).rpartition(".")[2],
        lambda kind: kind(1) == kind(1, 2, {"hidden": 3}),
        lambda kind: kind(1) == kind(2),
        lambda kind: kind(1) == (1, 2),
        lambda kind: kind(1) == object(),
        lambda kind: kind(1).marks is kind(1).marks,
        lambda kind: kind(1, marks=None).marks,
        lambda kind: hash(kind(1)) == hash(kind(1, 2, {"hidden": 3})),
        lambda kind: setattr(kind(1), "x", 2),
        lambda kind: delattr(kind(1), "y"),
        lambda kind: kind(),
        lambda kind: kind(1, z=2),
        lambda kind: kind(1, 2, {}, 4),
        lambda kind: (kind.__doc__, kind.__match_args__, kind.y, hasattr(kind, "marks")),
        lambda kind: [*inspect.signature(kind).parameters],
        lambda kind: dataclasses.asdict(kind(1, marks={"a": 1})),
        lambda kind: repr(dataclasses.replace(kind(1), y=7)).rpartition(".")[2],
        lambda kind: [(f.name, f.type, f.repr, f.compare, f.default) for f in dataclasses.fields(kind)][:2],
        lambda kind: [f.default_factory for f in dataclasses.fields(kind(1))][2],
        lambda kind: dataclasses.is_dataclass(kind),
    ],
)
def test_the_small_one_does_what_the_standard_one_does(frozen, ask):
    assert outcome(lambda: ask(made(small, frozen))) == outcome(lambda: ask(made(dataclasses, frozen)))


def test_a_channel_is_copied_pickled_and_changed_as_any_dataclass():
    channel = Channel("rapl:package-0", "rapl", "energy", "package-0", "uJ", sensor={"path": "x"})
    for twin in (copy.deepcopy(channel), pickle.loads(pickle.dumps(channel)), dataclasses.replace(channel)):
        assert twin == channel
        assert twin.sensor == {"path": "x"}
    assert dataclasses.asdict(channel)["id"] == "rapl:package-0"
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'id'"):
        channel.id = "other"  # type: ignore[misc]
