"""Fast replacements of `dataclasses.dataclass`, `field` and `replace`, with the features that a monitor uses.

The standard module loads inspect, ast, dis and tokenize, which take longer to import than everything else that a
monitor needs. ``dataclasses.fields``, ``asdict`` and ``replace`` accept the classes made here; only their callers load
the standard module.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dataclasses import dataclass, field, replace
    from typing import Any

__all__ = ["dataclass", "field", "replace"]


class _Field:
    """Default of a member, or a factory of it; a hidden member is left out of repr and comparison."""

    def __init__(self, default: Any = None, default_factory: Any = None, hidden: bool = False) -> None:
        self.default, self.factory, self.hidden = default, default_factory, hidden

    def options(self) -> dict[str, Any]:
        """Arguments of ``dataclasses.field``."""
        given = {"default": self.default} if self.factory is None else {"default_factory": self.factory}
        return given | {"repr": not self.hidden, "compare": not self.hidden}


class _Fields:
    """``__dataclass_fields__``, made when the standard module reads it."""

    def __init__(self, members: dict[str, _Field | None]) -> None:
        self.members = members

    def __get__(self, instance: object, owner: Any) -> dict[str, Any]:
        import dataclasses

        listed = [
            (name, owner.__annotations__[name], dataclasses.field(**(member.options() if member else {})))
            for name, member in self.members.items()
        ]
        owner.__dataclass_fields__ = vars(dataclasses.make_dataclass(owner.__name__, listed))["__dataclass_fields__"]
        return owner.__dataclass_fields__


def _frozen(self: object, name: str, *value: object) -> None:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"cannot {'assign to' if value else 'delete'} field {name!r}")


def _members(cls: Any) -> dict[str, _Field | None]:
    """Fields by member, None for a required member; removes the class attribute of a member with a factory."""
    members: dict[str, _Field | None] = {}
    for name in cls.__annotations__:
        given = vars(cls).get(name, members)
        members[name] = given if isinstance(given, _Field) else None if given is members else _Field(given)
        if isinstance(given, _Field):
            delattr(cls, name)
    return members


def _init(members: dict[str, _Field | None]) -> Any:
    """Make ``__init__`` with the members as its arguments, so that a wrong call raises the usual TypeError."""
    scope: dict[str, Any] = {f"_{n}": m.factory or m.default for n, m in members.items() if m}
    arguments = ", ".join(f"{n}=_{n}" if m else n for n, m in members.items())
    values = ", ".join(
        f"{n}=_{n}() if {n} is _{n} else {n}" if m and m.factory else f"{n}={n}" for n, m in members.items()
    )
    exec(f"def __init__(self, {arguments}):\n self.__dict__.update({values})", scope)
    return scope["__init__"]


def _made(cls: Any, frozen: bool) -> Any:
    members = _members(cls)
    shown = [n for n, m in members.items() if not (m and m.hidden)]

    def compared(self: object) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in shown)

    def __eq__(self: object, other: object) -> bool:
        return compared(self) == compared(other) if type(other) is type(self) else NotImplemented

    def __repr__(self: object) -> str:
        return f"{type(self).__qualname__}({', '.join(f'{n}={getattr(self, n)!r}' for n in shown)})"

    cls.__init__ = _init(members)
    cls.__eq__, cls.__repr__ = __eq__, __repr__
    type.__setattr__(cls, "__match_args__", tuple(members))
    cls.__hash__ = (lambda self: hash(compared(self))) if frozen else None
    cls.__dataclass_fields__ = _Fields(members)
    if frozen:
        cls.__setattr__ = cls.__delattr__ = _frozen
    return cls


if not TYPE_CHECKING:

    def dataclass(cls=None, /, *, frozen=False):
        """As ``dataclasses.dataclass`` for a class without a dataclass base and without ``__post_init__``."""
        return (lambda cls: _made(cls, frozen)) if cls is None else _made(cls, frozen)

    def field(*, default_factory, repr=True, compare=True):
        """As ``dataclasses.field`` for a default from a factory; `repr` and `compare` must be equal."""
        if repr is not compare:
            raise ValueError("repr and compare must be equal")
        return _Field(default_factory=default_factory, hidden=not repr)

    def replace(given, /, **changes):
        """A new object with these members changed."""
        return type(given)(**{name: getattr(given, name) for name in given.__match_args__} | changes)
