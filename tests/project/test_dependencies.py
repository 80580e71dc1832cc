# SPDX-License-Identifier: Apache-2.0
"""What an installation brings: listed with the reason, without upper limits, and not loaded by a measurement."""

from __future__ import annotations

import re
import tomllib

from tests.oracles.places import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_page_lists_every_package_that_an_installation_brings():
    page = (
        (ROOT / "docs" / "stability.md").read_text(encoding="utf-8").partition("## Packages")[2].partition("\n## ")[0]
    )
    listed = re.findall(r"^\| ([\w-]+) \|", page, re.MULTILINE)[1:]
    assert sorted(listed) == sorted(re.match(r"[\w-]+", needed)[0] for needed in PROJECT["dependencies"])


def test_no_needed_package_has_an_upper_limit():
    assert [needed for needed in PROJECT["dependencies"] if re.search(r"<|==|~=|!=", needed)] == []


def test_a_measurement_loads_no_package_of_others(python):
    done = python(
        """
        import sys
        import fastgreen as fg
        with fg.Monitor() as monitor, monitor.window("work"):
            monitor.energy_j()
        print(sorted({name.partition(".")[0] for name in sys.modules} - {*sys.stdlib_module_names}))
        """
    )
    assert done.returncode == 0, done.stderr
    found = set(re.findall(r"'(\w+)'", done.stdout))
    needed = {"numpy", "pyarrow", "pynvml", "click", "rich", "pygments", "psutil"}
    assert "fastgreen" in found
    assert found & needed == set(), found
