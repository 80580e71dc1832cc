"""A progress bar for long jobs: on a terminal, and in a notebook."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from html import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

__all__ = ["progress_bar"]

_NOTEBOOK_S = 0.5  # between two updates of a notebook: each is a message, and drawing uses energy too


@contextmanager
def progress_bar(title: str, total: float | None, shown: bool = True) -> Iterator[Callable[..., None]]:
    """A bar on stderr, or below the cell of a notebook. Elsewhere, and where it is not shown, nothing is printed.

    Parameters
    ----------
    title : str
    total : float or None
        Of the work; None where it is not known: then the bar only moves.
    shown : bool

    Yields
    ------
    callable
        ``advance(amount, doing="")`` adds to the work that is done; `doing` is shown behind the title.
    """
    shell = _notebook() if shown else None
    if shell is not None:
        bar = _NotebookBar(title, total)
        try:
            yield bar.advance
        finally:
            bar.close()
        return
    if not shown:
        yield lambda amount=0, doing="": None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns: list[Any] = [TextColumn("{task.description}", markup=False), BarColumn()]
    if total is not None:
        columns.append(TextColumn("{task.percentage:.0f} %"))
    console = Console(stderr=True)
    left = [] if total is None else [TextColumn("left"), TimeRemainingColumn()]
    options: dict[str, Any] = {"disable": not console.is_terminal, "transient": total is None, "refresh_per_second": 1}
    with Progress(*columns, TimeElapsedColumn(), *left, console=console, **options) as rich_bar:
        task = rich_bar.add_task(title, total=total)

        def advance(amount: float = 0, doing: str = "") -> None:
            rich_bar.update(task, advance=amount, description=f"{title}: {doing}" if doing else None)

        yield advance


def _notebook() -> Any:
    """The shell of a notebook; None elsewhere. It imports nothing."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell if shell is not None and getattr(shell, "kernel", None) is not None else None


class _NotebookBar:
    def __init__(self, title: str, total: float | None) -> None:
        from IPython.display import HTML, display

        self._title, self._total, self._html = title, total, HTML
        self._done, self._begin, self._last = 0.0, time.monotonic(), 0.0
        self._doing = ""
        self._handle = display(HTML(self._text()), display_id=True)

    def advance(self, amount: float = 0, doing: str = "") -> None:
        self._done += amount
        self._doing = doing or self._doing
        if time.monotonic() - self._last >= _NOTEBOOK_S:
            self._last = time.monotonic()
            self._handle.update(self._html(self._text()))

    def close(self) -> None:
        self._handle.update(self._html(self._text()))

    def _text(self) -> str:
        part = f' value="{self._done:g}" max="{self._total:g}"' if self._total else ""
        said = f"{self._title}: {self._doing}" if self._doing else self._title
        seconds = time.monotonic() - self._begin
        percent = f"{100 * self._done / self._total:.0f} %, " if self._total else ""
        return f"<label>{escape(said)} <progress{part}></progress> {percent}{seconds:.0f} s</label>"
