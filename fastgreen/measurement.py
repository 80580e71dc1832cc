"""`measure`: one block or one function, measured by a monitor of its own."""

from __future__ import annotations

import functools

from fastgreen.monitor import Monitor
from fastgreen.result import Result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Measurement", "measure"]


class Measurement:
    """What `measure` returns: a monitor round one block, whose numbers are there after it.

    Attributes of `Result` (``energy_j``, ``energy_low_j``, ``duration_s``, ...) can be asked of it directly.
    """

    def __init__(self, **options: Any) -> None:
        self._options = options
        self.result: Result | None = None

    def __enter__(self) -> Measurement:
        self._monitor = Monitor(**self._options).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.result = self._monitor.stop()
        del self._monitor  # what was measured does not need it

    def __call__(self, function: Callable) -> Callable:
        return _measured(function, self._options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if self.result is None:
            raise RuntimeError(f"{name} is there after the block")
        return getattr(self.result, name)


def _measured(function: Callable, options: dict[str, Any]) -> Callable:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        monitor = Monitor(**options).start()
        try:
            return function(*args, **kwargs)
        finally:
            wrapper.result = monitor.stop()  # type: ignore[attr-defined]

    wrapper.result = None  # type: ignore[attr-defined]
    return wrapper


def measure(function: Callable | None = None, /, **options: Any) -> Any:
    """Measure one block, or every call of a function.

    ``with fg.measure() as m: ...`` has ``m.energy_j`` after it; ``@fg.measure`` keeps the last call's `Result` in
    ``fn.result``. Options are those of `Monitor`: ``@fg.measure(hz=1000)``.

    Examples
    --------
    >>> import fastgreen as fg
    >>> with fg.measure() as m:
    ...     _ = sum(range(100000))
    >>> m.energy_low_j <= m.energy_j <= m.energy_high_j
    True
    """
    if function is None:
        return Measurement(**options)
    if not callable(function):
        raise TypeError(f"measure takes a function, or options by name as Monitor does, not {function!r}")
    return _measured(function, options)
