# SPDX-License-Identifier: Apache-2.0
"""What Griffe does not find in the source alone: names that load on first use, and docstrings of compiled functions."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import sys
from pathlib import Path
from typing import Any

import griffe
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from reference import MADE, listed, public_object


def home(path: str) -> str | None:
    """The place of the source of a public name; None if Griffe finds it where it is listed."""
    _, *parents, name = path.split(".")
    if name in MADE and not parents:
        return f"fastgreen.{MADE[name]}"
    module = importlib.import_module(".".join(["fastgreen", *parents]))
    value = getattr(module, name)
    source = getattr(value, "__module__", None)
    if not isinstance(source, str):  # a constant
        source = importlib.util.resolve_name(vars(module)["_HOME"][name], module.__name__)
    return None if source == module.__name__ else f"{source}.{getattr(value, '__qualname__', name)}"


class PublicNames(griffe.Extension):
    """Puts every public name where its user finds it."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """Add what is missing."""
        for path in listed():
            _, *parents, name = path.split(".")
            parent = pkg[".".join(parents)] if parents else pkg
            value = public_object(path)
            if isinstance(value, np.ufunc):
                parent.set_member(name, _ufunc(value, parent))
            elif (target := home(path)) is not None:
                parent.set_member(name, griffe.Alias(name, target, parent=parent))

    def on_function(self, *, func: griffe.Function, **kwargs: Any) -> None:
        """Move the signature that Cython writes into the first line to its place."""
        if func.docstring is None:
            return
        first, _, rest = func.docstring.value.partition("\n")
        found = re.fullmatch(rf"(?:\w+\.)?{re.escape(func.name)}\((.*)\)(?: -> .*)?", first.strip())
        if found and "[" not in found[1]:
            func.parameters = parameters(found[1])
            func.docstring.value = inspect.cleandoc(rest)


def _ufunc(ufunc: np.ufunc, module: griffe.Module) -> griffe.Function:
    """A ufunc, whose arguments only its module names: `apc(consumption, accuracy, alpha, beta)`."""
    assert module.docstring is not None
    (arguments,) = re.findall(rf"``{ufunc.__name__}\(([^)]*)\)", module.docstring.value)
    text = ufunc.__doc__.partition("\n\n")[2]
    found = griffe.Function(ufunc.__name__, parameters=parameters(f"{arguments}, /, out=None, where=True"))
    found.docstring = griffe.Docstring(inspect.cleandoc(text), parent=found)
    return found


def parameters(text: str) -> griffe.Parameters:
    """Parameters of ``self, bool wait=False, double timeout=1.0``, without the types of C."""
    bare = re.sub(r"\b[A-Za-z_]\w* (?=[A-Za-z_]\w*\s*(?:[,=]|$))", "", text)
    function = ast.parse(f"def function({bare}): ...").body[0]
    assert isinstance(function, ast.FunctionDef)
    known = function.args
    places = [*known.posonlyargs, *known.args]
    defaults = [None] * (len(places) - len(known.defaults)) + known.defaults
    found = [
        griffe.Parameter(
            place.arg,
            kind=griffe.ParameterKind.positional_only
            if place in known.posonlyargs
            else griffe.ParameterKind.positional_or_keyword,
            default=default and ast.unparse(default),
        )
        for place, default in zip(places, defaults, strict=True)
    ]
    if known.vararg:
        found.append(griffe.Parameter(known.vararg.arg, kind=griffe.ParameterKind.var_positional))
    for place, default in zip(known.kwonlyargs, known.kw_defaults, strict=True):
        kind = griffe.ParameterKind.keyword_only
        found.append(griffe.Parameter(place.arg, kind=kind, default=default and ast.unparse(default)))
    if known.kwarg:
        found.append(griffe.Parameter(known.kwarg.arg, kind=griffe.ParameterKind.var_keyword))
    return griffe.Parameters(*found)
