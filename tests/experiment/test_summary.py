"""`fastgreen bench summary`: the networks, batches and columns of the published first table."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from fastgreen.cli import main
from fastgreen.commands.bench import _show_summary
from fastgreen.experiment.compile import compile_study
from fastgreen.experiment.protocols import for_callable, summary_series
from fastgreen.experiment.runner import Study


def test_the_batches_and_counts_are_the_published_ones_and_scale():
    whole, tenth, least = (summary_series(scale) for scale in (1.0, 0.1, 0.001))
    assert whole.batch == {"ssdlite320": 32, "resnet50": 128, "vit_b16": 64, "bert": 128}
    assert tenth.batch == {"ssdlite320": 3, "resnet50": 13, "vit_b16": 6, "bert": 13}
    assert set(least.batch.values()) == {1}
    assert [p.iterations("bert") for p in (whole, tenth, least)] == [100, 10, 1]
    with pytest.raises(ValueError, match="scale must be above 0 and at most 1, not 2"):
        summary_series(2)


def test_the_detector_scores_every_box():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from fastgreen.experiment.detector_torch import ssdlite320
    from fastgreen.experiment.models_torch import images

    with torch.inference_mode():
        scores, offsets = ssdlite320().eval()(images(320, 2))
    assert scores.shape == (2, 3234, 91)
    assert offsets.shape == (2, 3234, 4)
    assert torch.allclose(scores.sum(-1), torch.ones(2, 3234), atol=1e-5)


def test_the_table_is_that_of_one_sample(tmp_path, capsys):
    made = for_callable(
        lambda size: sum(range(10**5)), ["a", "b"], name="summary", batch={"a": 4, "b": 1}, iterations=5
    )
    Study(tmp_path, made, repeats=1, channels=["procstat:*"], hz=50).run(progress=False)
    _show_summary(tmp_path)
    shown = capsys.readouterr().out
    assert "energy of one sample, ESTIMATED, not measured" in shown
    header, *rows = [line.split() for line in shown.splitlines() if "GiB" in line or "SM use" in line]
    assert " ".join(header) == "model J per inference between batch SM use memory"
    assert [(row[0], row[-4:-2]) for row in rows] == [("a", ["4", "-"]), ("b", ["1", "-"])]
    assert json.loads((tmp_path / "study.json").read_text())["batch"] == {"a": 4, "b": 1}
    for row in compile_study(tmp_path).sizes.to_pylist():
        assert row["energy_per_sample_j"] == pytest.approx(row["energy_j"] / row["batch"])


def test_the_scale_belongs_to_a_series(tmp_path):
    done = CliRunner().invoke(main, ["bench", "summary", "--scale", "0", "-o", str(tmp_path / "s")])
    assert done.exit_code == 2
    assert "scale must be above 0 and at most 1, not 0" in done.output
