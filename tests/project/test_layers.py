"""The floors of the house: imports point down, in every form, and go in no circle."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.oracles.places import ROOT
from tests.project.layers import C_LAYERS, LAYERS, c_row, faults

PACKAGE, CSRC = ROOT / "fastgreen", ROOT / "csrc"


def test_every_import_points_down_and_none_goes_in_a_circle():
    assert faults(PACKAGE, LAYERS) == []


MADE_UP = [{"low"}, {"left", "right"}, {"top"}]


def made_up(root: Path, files: dict[str, str]) -> Path:
    """A small package of four rooms, with some files replaced."""
    base = {
        "__init__.py": '_HOME: dict[str, str | None] = {"Thing": "top.thing", "left": None}',
        "low.py": "",
        "left/__init__.py": '_HOME = {"Part": ".part"}',
        "left/part.py": "from house import low",
        "left/other.py": "from house.left.part import Part",
        "right/__init__.py": "",
        "right/part.py": "import house.low",
        "top/__init__.py": "",
        "top/thing.py": "from house.left import Part\nfrom house.right.part import x",
    }
    for name, text in (base | files).items():
        (root / "house" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "house" / name).write_text(text)
    return root / "house"


def test_a_sound_package_has_no_fault(tmp_path):
    assert faults(made_up(tmp_path, {}), MADE_UP) == []


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        ({"low.py": "import house\nhouse.Thing()"}, "low imports top.thing, which is above it"),
        ({"low.py": "import house as h\n\ndef f():\n    return h.Thing"}, "low imports top.thing, which is above it"),
        ({"low.py": "from house import Thing"}, "low imports top.thing, which is above it"),
        ({"low.py": "def f():\n    from house.top.thing import x"}, "low imports top.thing, which is above it"),
        ({"low.py": "def f():\n    import house.top.thing as t"}, "low imports top.thing, which is above it"),
        ({"low.py": "from .top import thing"}, "low imports top.thing, which is above it"),
        ({"low.py": "if TYPE_CHECKING:\n    from house.left import Part"}, "low imports left.part, which is above it"),
        ({"low.py": "import house\nhouse.left.Part"}, "low imports left.part, which is above it"),
        ({"low.py": "import importlib\nimportlib.import_module('house.top')"}, "low imports top, which is above it"),
        ({"low.pyx": "from house.top.thing cimport x"}, "low imports top.thing, which is above it"),
        ({"left/part.py": "from house.right import part"}, "left.part imports right.part, which is beside it"),
        ({"left/part.py": "from .other import y"}, "circle: left.other -> left.part -> left.other"),
        (
            {"left/part.py": "if TYPE_CHECKING:\n    from house.left.other import y"},
            "circle: left.other -> left.part -> left.other",
        ),
        ({"cellar.py": ""}, "cellar has no row in the table"),
    ],
)
def test_each_kind_of_wrong_arrow_is_reported(tmp_path, files, fault):
    assert fault in faults(made_up(tmp_path, files), MADE_UP)


def test_a_room_of_the_table_that_does_not_exist_is_reported(tmp_path):
    assert faults(made_up(tmp_path, {}), [*MADE_UP, {"attic"}]) == ["attic is in the table and not in the package"]


def test_few_modules_stand_outside_of_folders():
    """A reader sees the house at one look; a new module goes into a folder."""
    doors = {path.stem for path in PACKAGE.glob("*.pyx")}
    outside = {path.stem for path in PACKAGE.glob("*.py")} - doors
    assert len(outside) <= 14, sorted(outside)


def test_the_version_is_no_arrow(tmp_path):
    assert faults(made_up(tmp_path, {"low.py": "import house\nhouse.__version__"}), MADE_UP) == []


def test_no_command_imports_another():
    for path in (PACKAGE / "commands").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        others = set(re.findall(r"fastgreen\.commands\.(\w+)", text)) | set(
            re.findall(r"from fastgreen\.commands import (\w+)", text)
        )
        assert others <= {"common", "ranges", "child", "cost_options", "generations", "histories"}, (
            f"{path.name} imports {others}"
        )


def test_c_includes_never_point_up_or_sideways_and_know_no_python():
    files = sorted(CSRC.glob("*.[ch]"))
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert "Python.h" not in text, path
        assert "SPDX-License-Identifier: Apache-2.0" in text, path
        mine = c_row(path.stem)
        assert mine is not None, f"say in C_LAYERS where {path.name} belongs"
        for included in re.findall(r'#include "(\w+)\.h"', text):
            theirs = c_row(included)
            if included == path.stem or theirs is None:
                continue
            family = max(name for name in C_LAYERS[theirs] if included.startswith(name))
            inside = theirs == mine and path.stem.startswith(family)
            assert theirs < mine or inside, f"{path.name} includes {included}.h"
    unused = [name for row in C_LAYERS for name in row if not any(p.stem.startswith(name) for p in files)]
    assert unused == []


def test_only_the_doors_know_c():
    for path in PACKAGE.rglob("*.py"):
        assert not re.search(r"^\s*(import|from) (ctypes|cffi)\b", path.read_text(encoding="utf-8"), re.MULTILINE), path
    assert {p.stem for p in PACKAGE.rglob("*.pyx")} == {
        "_core",
        "_follow",
        "_kernels",
        "_ledger",
        "_resolver",
        "_shares",
        "_steps",
        "_window",
    }
