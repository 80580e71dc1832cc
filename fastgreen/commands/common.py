"""Shared by the commands: errors as sentences with exit codes, JSON, tables, and the options of several commands.

The exit codes of every command:

2
    Asked wrongly. The command line is at fault: an unknown command, option or value, a missing one, two that exclude
    each other, or a name that the file beside it does not have.
1
    Could not be done. The command line is clear, but a file, a channel, a package or a place is missing or unfit.

``run`` returns the code of the command that it measures, or 126 or 127 as a shell does where that cannot start.
"""

from __future__ import annotations

import errno
import functools
import importlib
import importlib.util
import json
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fastgreen.errors import FastgreenError, FastgreenWarning
from fastgreen.guards.printable import printable

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "AskedWrongly",
    "InputPath",
    "JsonAnswer",
    "OutputPath",
    "channel_option",
    "did_you_mean",
    "errors_as_sentences",
    "json_options",
    "load_object",
    "names_object",
    "of_file",
    "parse_percent",
    "say",
    "sentence",
    "spoken",
    "table",
    "warned",
]

# What pyarrow puts into the place of the operating system's words.
_ARROW = re.compile(r"(?:Failed to \w+ (?:local file|file|directory) '(.*?)')?.*Detail: \[errno (\d+)\]", re.DOTALL)
_PERCENT = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*%\s*")
_OBJECT = re.compile(r"(?P<file>.+\.py|[A-Za-z_][\w.]*):(?P<name>[A-Za-z_]\w*)")

# ---- errors ----


class AskedWrongly(click.ClickException):
    """A mistake in the command line; exit code 2."""

    exit_code = 2


def sentence(error: BaseException) -> str:
    """The error's own words; of a failed system call, the file and the system's words, without the number."""
    if not isinstance(error, OSError) or error.errno is None or not error.strerror:
        return str(error) or type(error).__name__
    arrow = _ARROW.match(error.strerror)
    if arrow is not None:
        said = os.strerror(int(arrow[2]))
        return f"{arrow[1]}: {said}" if arrow[1] else said
    where = error.filename
    return f"{os.fsdecode(where)}: {error.strerror}" if isinstance(where, (str, bytes)) else error.strerror


@contextmanager
def errors_as_sentences() -> Iterator[None]:
    """The boundary around every command: an error is a sentence and an exit code, a warning a line on stderr.

    A bug (TypeError, KeyError, ...) keeps its traceback.
    """
    try:
        with warnings.catch_warnings():
            warnings.showwarning = functools.partial(_show_warning, warnings.showwarning)
            yield
    except click.ClickException as error:
        vars(error)["message"] = printable(error.message, lines=True)  # it may hold names of a stranger's file
        raise
    except OSError as error:
        if error.errno == errno.EPIPE:  # the reader of our output has gone: click ends quietly
            raise
        raise click.ClickException(printable(sentence(error), lines=True)) from error
    except (FastgreenError, ImportError, MemoryError, UnicodeError, json.JSONDecodeError) as error:
        raise click.ClickException(printable(sentence(error), lines=True)) from error
    except (ValueError, OverflowError) as error:
        raise AskedWrongly(printable(sentence(error), lines=True)) from error


def _show_warning(otherwise: Callable[..., Any], message: Warning | str, category: type[Warning], *where: Any) -> None:
    if issubclass(category, FastgreenWarning):
        click.echo(printable(f"note: {message}"), err=True)
    else:
        otherwise(message, category, *where)


@contextmanager
def of_file() -> Iterator[None]:
    """Around the reading of a file that the user named: a bad value in it is no mistake of the command line."""
    try:
        yield
    except ValueError as error:
        raise click.ClickException(sentence(error)) from error


def parse_percent(_: click.Context, option: click.Parameter, text: str | None) -> float | None:
    """A percentage as a fraction: "2%" is 0.02."""
    if text is None:
        return None
    match = _PERCENT.fullmatch(text)
    if match is None or not 0 < float(match[1]) < 100:
        raise click.BadParameter(f"must be a percentage above 0% and below 100%, such as 2%, not {text!r}")
    return float(match[1]) / 100


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`` Did you mean 'report'?`` where a known name is near, else nothing."""
    import difflib

    near = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


# ---- JSON ----


class JsonAnswer:
    """Writes a command's answer as JSON, where ``--json`` or ``--json-file`` ask for it.

    Parameters
    ----------
    printed : bool
        Whether to print it.
    file : str or None
        A file to write it to. OSError if that cannot be, before any work is done.
    """

    def __init__(self, printed: bool, file: str | None) -> None:
        self.printed, self.file = printed, Path(file) if file is not None else None
        if self.file is not None and not self.file.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, "no such folder", str(self.file.parent))

    @property
    def wanted(self) -> bool:
        return self.printed or self.file is not None

    def give(self, make: Callable[[], Any], err: bool = False) -> bool:
        """Write the value of `make`, if JSON is wanted. True if it was printed: then nothing follows for people."""
        if self.wanted:
            text = json.dumps(_plain(make()), indent=2)
            if self.file is not None:
                from fastgreen.atomic_file import new_file

                with new_file(self.file, overwrite=True) as name:
                    Path(name).write_text(text + "\n", encoding="utf-8")
            if self.printed:
                click.echo(text, err=err)
        return self.printed

    @contextmanager
    def lines(self) -> Iterator[Callable[[Any], None]]:
        """A function that writes one object a line, at once."""
        with self.file.open("w", encoding="utf-8") if self.file is not None else nullcontext() as out:

            def write(value: Any) -> None:
                text = json.dumps(_plain(value))
                if self.printed:
                    click.echo(text)
                if out is not None:
                    out.write(text + "\n")
                    out.flush()

            yield write


def _plain(value: Any) -> Any:
    """NaN and infinities, which JSON has not, become null."""
    if isinstance(value, float) and not (value == value and abs(value) != float("inf")):
        return None
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def json_options(flag: str = "Print JSON instead of tables.") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """``--json`` and ``--json-file FILE``; the command gets a `JsonAnswer` as `answer`."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @click.option("--json", "as_json", is_flag=True, help=flag)
        @click.option("--json-file", type=OutputPath(dir_okay=False), help="Also write the JSON to this file.")
        @functools.wraps(command)
        def with_answer(*args: Any, as_json: bool, json_file: str | None, **kwargs: Any) -> Any:
            return command(*args, answer=JsonAnswer(as_json, json_file), **kwargs)

        return with_answer

    return decorate


# ---- for people ----


def table(title: str, rows: Iterable[Mapping[str, Any]], ruled: bool = True) -> Table:
    """A table of rows with the same keys; columns of words are on the left, numbers on the right.

    Parameters
    ----------
    title : str
        May be empty.
    rows : iterable of mappings
        Column name -> cell. Words and `Text` are shown as they are, a float with six digits, None as "-".
    ruled : bool
        A line below the header, as in a report; False: bare columns, which other programs can cut.
    """
    from rich import box
    from rich.text import Text

    from fastgreen.results.console import MOST_ROWS, PlainTable

    rows = list(rows)
    look: dict[str, Any] = {"box": None, "pad_edge": False}
    if ruled:
        look = {"box": box.SIMPLE_HEAD, "padding": (0, 1, 0, 0)}
    shown = PlainTable(title=Text(title, "bold") if title else None, title_justify="left", **look)
    if ruled:
        shown.most_rows = MOST_ROWS
    for place, name in enumerate(rows[0] if rows else []):
        words = place == 0 or any(isinstance(row[name], str) and row[name][:1].isalpha() for row in rows)
        shown.add_column(name, justify="left" if words else "right", overflow="fold")
    for row in rows:
        shown.add_row(*(value if isinstance(value, Text) else _cell(value) for value in row.values()))
    return shown


def spoken(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row in units of speech: ``energy_j`` 2.854e-06 becomes ``energy`` "2.854 uJ"."""
    from fastgreen.results.console import quantity

    out: dict[str, Any] = {}
    for name, value in row.items():
        stem, _, unit = name.rpartition("_")
        known = unit in ("j", "w", "s") and (value is None or isinstance(value, float))
        out[stem if known else name] = quantity(value, unit if unit == "s" else unit.upper()) if known else value
    return out


def _cell(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "-" if value is None else str(value)


def say(*things: Any, err: bool = False, wide: bool = False) -> None:
    """Print tables and sentences; `wide`: where the output is no terminal, never wrap a row."""
    from fastgreen.results.console import people_console

    console = people_console(stderr=err)
    if wide and not console.is_terminal:
        console.width = 10_000
    for thing in things:
        if isinstance(thing, str):
            console.print(thing, markup=False, soft_wrap=True)
        else:
            console.print(thing, soft_wrap=not hasattr(thing, "columns"))  # a table wraps inside its columns


def warned(text: str) -> Any:
    """A warning as a line to print."""
    from rich.text import Text

    return Text.assemble(("warning:", "yellow"), f" {text}")


# ---- options and arguments ----


def channel_option(text: str = "Channel: an id, a pattern, or gpu, cpu or dram; repeat it or use commas.") -> Any:
    """``-c/--channel``, repeated or with commas; the command gets the list of names, or None, as `channels`."""
    return click.option("-c", "--channel", "channels", multiple=True, callback=split_channels, help=text)


def split_channels(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> list[str] | None:
    # A replay is named by a path, which may hold a comma.
    names = [name for one in given for name in ([one] if one.startswith("replay:") else one.split(","))]
    if any(not name.strip() for name in names):
        raise click.BadParameter("a channel's name must not be empty")
    return [name.strip() for name in names] or None


class OutputPath(click.Path):
    """A path to write; one that is a folder where a file is needed, or the reverse, is exit code 1."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            raise click.ClickException(error.message) from None


class InputPath(OutputPath):
    """A path to read; a missing one is exit code 1."""

    def __init__(self, **options: Any) -> None:
        super().__init__(exists=True, **options)


def names_object(text: str) -> bool:
    """Whether the text has the form module:function or file.py:function."""
    return _OBJECT.fullmatch(text) is not None


def load_object(text: str) -> Any:
    """The object that module:name or file.py:name means. A module is also looked for in the current folder."""
    match = _OBJECT.fullmatch(text)
    if match is None:
        raise AskedWrongly(f"{text!r} must be module:function or file.py:function")
    where, name = match["file"], match["name"]
    module = _from_file(Path(where)) if where.endswith(".py") else _from_module(where)
    if not hasattr(module, name):
        public = [known for known in vars(module) if not known.startswith("_")]
        raise AskedWrongly(f"{where} has no {name!r}.{did_you_mean(name, public)}")
    return getattr(module, name)


def _from_module(name: str) -> Any:
    sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    # The module is the user's, and so are its errors.
    except (Exception, SystemExit) as error:
        raise click.ClickException(f"{name} cannot be imported: {type(error).__name__}: {error}") from None
    finally:
        sys.path.pop(0)


def _from_file(file: Path) -> Any:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None or not file.exists():
        raise click.ClickException(f"{file}: this Python file does not exist")
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    try:
        spec.loader.exec_module(module)
    # The file is the user's, and so are its errors.
    except (Exception, SystemExit) as error:
        raise click.ClickException(f"{file}: {type(error).__name__}: {error}{_line_in(file, error)}") from None
    return module


def _line_in(file: Path, error: BaseException) -> str:
    """`` (line N)``: the last line of the file that was being run."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(file.absolute())]
    return f" (line {lines[-1]})" if lines else ""
