# SPDX-License-Identifier: Apache-2.0
"""A real notebook, executed by nbconvert: tables, curves, figures, text and bars are where a reader looks."""

from __future__ import annotations

import re

import pytest

from fastgreen.notebook import _options, result_html
from fastgreen.reports.small_curve import small_curve
from tests.fakes.powercap import Zone
from tests.oracles.long_runs import long_run

CELLS = [
    "import fastgreen as fg, numpy as np, time\n%load_ext fastgreen",
    '%%energy -c rapl:* --hz 200 -o kept warm up\ntime.sleep(0.3)\nanswer = 41\n"the value " + str(answer + 1)',
    "assert answer == 41 and kept.names == ['warm up']\nkept",
    "%energy -c rapl:* time.sleep(0.05)",
    "with fg.measure(channels='rapl:*') as m:\n    time.sleep(0.05)\nm",
    "print(kept)\nassert 'J' in str(kept) and '<' not in str(kept)",
    "sweep = fg.Sweep('apc', consumption=np.linspace(0, 1, 300), accuracy=np.linspace(0, 1, 300))\nsweep",
    "sweep.write('grid.arrow', progress=True)",
    "fg.plot.power(kept)",
    "kept.windows()",
    "fg.compare(kept, kept)",
]


@pytest.fixture(scope="module")
def jupyter():
    for name in ("nbconvert", "nbformat", "ipykernel", "matplotlib"):
        pytest.importorskip(name, reason=f"needs {name}: pip install 'fastgreen[test]'")


def executed(cells, folder):
    import nbformat
    from nbconvert.preprocessors import ExecutePreprocessor

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells])
    kernel = ExecutePreprocessor(timeout=120, kernel_name="python3", allow_errors=True)
    kernel.preprocess(notebook, {"metadata": {"path": str(folder)}})
    return notebook


@pytest.mark.usefixtures("jupyter")
def test_a_notebook_shows_tables_curves_figures_and_text(tmp_path, powercap, monkeypatch):
    from nbconvert import HTMLExporter

    powercap(Zone("package-0", 60.0, children=(Zone("dram", 6.0),)), move=True)
    import fastgreen

    monkeypatch.setenv("PYTHONPATH", str(next(iter(fastgreen.__path__))).rpartition("/")[0])
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    notebook = executed([*CELLS, "%%energy -x\n1", "%%energy -c rapl:*\n1 / 0"], tmp_path)
    kinds, texts = [], []
    for cell in notebook.cells:
        kinds.append([k for o in cell.outputs for k in (o.get("data") or {o.output_type: 0})])
        texts.append("".join(str(o.get("text") or o.get("data") or o.get("evalue")) for o in cell.outputs))
    good = notebook.cells[: len(CELLS)]
    assert [o for cell in good for o in cell.outputs if o.output_type == "error"] == []
    assert "the value 42" in texts[1]
    for place in (1, 2, 3, 4):
        assert "<svg" in texts[place], place
        assert "rapl:package-0" in texts[place], place
    assert "warm up" in texts[1]
    assert kinds[5] == ["stream"]
    assert re.search(r"[\d.]+ J \(.* \.\. .*\) in .*s: ", texts[5])
    assert "consumption" in texts[6]
    assert "best 5 points" in texts[6]
    assert "<progress" in texts[7]
    assert "100 %" in texts[7]
    assert kinds[8].count("image/png") == 1
    assert "<table>" in texts[9]
    assert "whole run" in texts[10]
    assert "option must be -c CHANNEL" in texts[-2]
    assert "division by zero" in texts[-1]
    html, _ = HTMLExporter().from_notebook_node(notebook)
    for shown in ("<svg", "<table>", "data:image/png;base64", "the value 42"):
        assert shown in html
    assert (tmp_path / "grid.arrow").exists()


def test_options_of_the_magic():
    assert _options("-c a,b --hz 5 -o x my window", True) == (
        {"channels": ["a", "b"], "hz": 5.0, "variable": "x"},
        "my window",
    )
    assert _options("'quoted name'", True) == ({}, "quoted name")
    assert _options("f('a')", False) == ({}, "f('a')")
    for wrong in ("-x 1", "-c", "--hz soon", "-o 1x"):
        with pytest.raises(ValueError, match=r"must be|could not"):
            _options(wrong, True)


def test_a_small_curve_is_svg_and_a_spike_is_said():
    import xml.dom.minidom

    run = long_run(60, spike_w=500.0)
    xml.dom.minidom.parseString(small_curve(run))
    assert re.search(r"peak \d{3}\.\d W", small_curve(run))
    assert result_html(run).count("<svg") == 1
    assert len(small_curve(long_run(3600))) < 40_000
