# SPDX-License-Identifier: Apache-2.0
"""Import the package with counters of coverage where atheris is installed; imported before anything of the package."""

from __future__ import annotations

import contextlib
import importlib
from pathlib import Path

try:
    import atheris
except ImportError:
    atheris = None

PACKAGE = Path(__file__).resolve().parents[2] / "fastgreen"
# They import torch, which takes seconds and reads no file here.
_LEFT_OUT = ("models_torch", "torch_functions", "torch_reader", "collector", "__main__")


def _import_all() -> None:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        if parts[-1] not in _LEFT_OUT:
            importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))


if atheris is not None:
    with atheris.instrument_imports(include=["fastgreen"]):
        _import_all()
else:
    with contextlib.suppress(ImportError):
        importlib.import_module("fastgreen")
