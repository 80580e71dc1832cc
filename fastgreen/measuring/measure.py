"""`measure`: one block or one function, measured by a monitor of its own."""

from __future__ import annotations

import functools

from fastgreen.measuring.monitor import Monitor
from fastgreen.results.result import Result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, ParamSpec, Protocol, TypeVar, overload

    Given = ParamSpec("Given")
    Returned = TypeVar("Returned", covariant=True)

    class Measured(Protocol[Given, Returned]):
        """A measured function: the function itself, and the `Result` of its last call."""

        result: Result | None

        def __call__(self, *args: Given.args, **kwargs: Given.kwargs) -> Returned: ...
        def __get__(self, instance: object, owner: type | None = None) -> Callable[..., Returned]: ...


__all__ = ["Measurement", "measure"]


class Measurement:
    """The value of `measure`: a monitor around one block, with the numbers after it.

    Attributes of `Result` (``energy_j``, ``energy_low_j``, ``duration_s``, ...) can be asked of it directly, and
    `print` shows its table.
    """

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._monitor: Monitor | None = None
        self._result: Result | None = None
        self._left = False

    def __enter__(self) -> Measurement:
        self._result, self._left = None, False
        self._monitor = Monitor(**self._options).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._left = True
        self._take_result()

    def _take_result(self) -> None:
        """Stop the monitor, or go on with a stop that an exception interrupted."""
        if self._monitor is not None:
            self._result = self._monitor.stop()
            self._monitor = None  # what was measured does not need it

    @property
    def result(self) -> Result | None:
        """The `Result` after the block, None before."""
        if self._left:
            self._take_result()
        return self._result

    def __call__(self, function: Callable[Given, Returned]) -> Measured[Given, Returned]:
        return _measured(function, self._options)

    def __repr__(self) -> str:
        return "<fastgreen measurement: its block has not ended>" if self.result is None else repr(self.result)

    def __str__(self) -> str:
        return repr(self) if self.result is None else str(self.result)

    def _repr_html_(self) -> str | None:
        return None if self.result is None else self.result._repr_html_()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if self.result is None:
            raise RuntimeError(f"{name} exists only after the block has ended")
        return getattr(self.result, name)


def _measured(function: Callable[..., Any], options: dict[str, Any]) -> Any:
    import inspect

    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(
            f"calling the generator function {function!r} does no work: put `with fastgreen.measure()` "
            "around the loop over it"
        )

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        monitor = Monitor(**options).start()
        try:
            return function(*args, **kwargs)
        finally:
            _keep_result(monitor)

    async def awaited(*args: Any, **kwargs: Any) -> Any:
        monitor = Monitor(**options).start()
        try:
            return await function(*args, **kwargs)
        finally:
            _keep_result(monitor)

    def _keep_result(monitor: Monitor) -> None:
        try:
            monitor.stop()
        finally:  # also when an exception interrupted that: nobody else can ask this monitor
            wrapped.result = monitor.stop()  # type: ignore[attr-defined]

    wrapped = functools.wraps(function)(awaited if inspect.iscoroutinefunction(function) else wrapper)
    wrapped.result = None  # type: ignore[attr-defined]
    return wrapped


if TYPE_CHECKING:

    @overload
    def measure(function: None = None, /, **options: Any) -> Measurement: ...
    @overload
    def measure(function: Callable[Given, Returned], /, **options: Any) -> Measured[Given, Returned]: ...


def measure(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Measure one block, or every call of a function.

    ``with fg.measure() as m: ...`` has ``m.energy_j`` after it; ``@fg.measure`` keeps the last call's `Result` in
    ``fn.result``. Options are those of `Monitor`: ``@fg.measure(hz=1000)``.

    Parameters
    ----------
    function : callable, optional
        What to measure: a function, or a coroutine function, which is measured until it has been awaited.
    **options
        As of `Monitor`.

    Returns
    -------
    Measurement or callable
        Without a function a context manager, which is a decorator too; with one, the function as it is called, with
        the attribute ``result``: None before the first call, then the `Result` of the call that ended last.

    Raises
    ------
    TypeError
        If `function` is not callable, or is a generator function, whose call does no work to measure.
    FastgreenError, ValueError
        As `Monitor`, when the block or the function is entered.

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
        raise TypeError(f"function must be a function, or absent with options by name as for Monitor, not {function!r}")
    return _measured(function, options)
