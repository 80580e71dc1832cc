"""What ``%load_ext fastgreen`` adds to IPython: curves beside tables, tables of Arrow as HTML, and ``%%energy``."""

from __future__ import annotations

import ast
import shlex
from html import escape
from typing import TYPE_CHECKING, Any

from fastgreen.metrics.sweep import Sweep
from fastgreen.results.result import Result
from fastgreen.units import counted

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["energy", "load"]

_ROWS = 50
_BEST = 5


def load(shell: Any) -> None:
    """Register the formatters and the magics with an IPython shell.

    Parameters
    ----------
    shell : IPython.core.interactiveshell.InteractiveShell
    """
    from IPython.core.error import UsageError

    from fastgreen.measuring.measure import Measurement

    html = shell.display_formatter.formatters["text/html"]
    html.for_type(Result, result_html)
    html.for_type(Measurement, lambda m: None if m.result is None else result_html(m.result))
    html.for_type(Sweep, sweep_html)
    html.for_type_by_name("fastgreen.metrics.stored_sweep", "StoredSweep", sweep_html)
    html.for_type_by_name("fastgreen.reports.compare", "Comparison", _comparison)
    html.for_type_by_name("pyarrow.lib", "Table", arrow_html)

    def magic(line: str, cell: str | None = None) -> None:
        try:
            energy(shell, line, cell)
        except ValueError as error:
            raise UsageError(str(error)) from None

    magic.__doc__ = energy.__doc__
    shell.register_magic_function(magic, "line_cell", "energy")


def energy(shell: Any, line: str, cell: str | None = None) -> None:
    """Measure the code of a cell, or of a line, and show its energy below what it shows itself.

    ``%%energy [-c CHANNEL]... [--hz N] [-o NAME] [WINDOW]``: `WINDOW` names the window around the code, ``-o`` a
    variable for the `Result`.
    """
    options, rest = _options(line, in_cell=cell is not None)
    from IPython.display import display

    from fastgreen.measuring.monitor import Monitor

    code = cell if cell is not None else rest
    window = rest or "cell" if cell is not None else "line"
    first, last = _compiled(shell, code)
    monitor = Monitor(options.get("channels"), hz=options.get("hz"))
    value = None
    with monitor, monitor.window(window):
        exec(first, shell.user_ns)
        if last is not None:
            value = eval(last, shell.user_ns)
    if value is not None:
        display(value)
    if "variable" in options:
        shell.user_ns[options["variable"]] = monitor.result
    display(monitor.result)


def _options(line: str, in_cell: bool) -> tuple[dict[str, Any], str]:
    """The options at the begin of a line, and the rest of it. ValueError for a wrong one."""
    options: dict[str, Any] = {}
    rest = line.strip()
    while rest.startswith("-"):
        name, _, rest = rest.partition(" ")
        value, _, rest = rest.strip().partition(" ")
        rest = rest.strip()
        if name not in ("-c", "--channel", "--hz", "-o") or not value:
            raise ValueError(f"%energy: option must be -c CHANNEL, --hz NUMBER or -o NAME, not {name!r} {value!r}")
        if name == "--hz":
            options["hz"] = float(value)
        elif name == "-o":
            if not value.isidentifier():
                raise ValueError(f"%energy: -o must be a name of a variable, not {value!r}")
            options["variable"] = value
        else:
            options.setdefault("channels", []).extend(value.split(","))
    if in_cell and rest[:1] in "'\"":
        rest = " ".join(shlex.split(rest))
    return options, rest


def _compiled(shell: Any, text: str) -> tuple[Any, Any]:
    """The statements of a cell, and its last expression or None."""
    code = shell.transform_cell(text)
    name = shell.compile.cache(code)
    tree = ast.parse(code, name)
    last = None
    shown = not code.rstrip().endswith(";")
    if shown and tree.body and isinstance(tree.body[-1], ast.Expr):
        last = compile(ast.Expression(tree.body.pop().value), name, "eval")  # type: ignore[attr-defined]
    return compile(tree, name, "exec"), last


# ---- HTML ----


def result_html(result: Result) -> str:
    """The tables of a result, with its power over time as a small curve."""
    from fastgreen.reports.small_curve import small_curve
    from fastgreen.results.html_tables import notebook_html

    return small_curve(result) + notebook_html(result)


def arrow_html(table: pa.Table) -> str:
    """The first rows of an Arrow table, with the units of its fields."""
    from fastgreen.results.html_tables import html_table

    left = table.num_rows - _ROWS
    return html_table(table.slice(0, _ROWS), "") + (f"<p>{counted(left, 'more row')}</p>" if left > 0 else "")


def sweep_html(sweep: Any) -> str:
    """The axes of a sweep and its best points."""
    import pyarrow as pa

    axes = [(name, values) for name, values in sweep.axes.items() if values.dtype.kind == "f" and len(values)]
    rows = [{"axis": n, "values": len(v), "first": float(v[0]), "last": float(v[-1])} for n, v in axes]
    shown = pa.Table.from_pylist(rows)
    best = f"<p>The best {_BEST} points:</p>{arrow_html(sweep.best(_BEST))}" if isinstance(sweep, Sweep) else ""
    return f"<div><p>{escape(repr(sweep))}</p>{arrow_html(shown)}{best}</div>"


def _comparison(comparison: Any) -> str:
    from fastgreen.reports.runs_page import comparison_html

    return comparison_html(comparison)
