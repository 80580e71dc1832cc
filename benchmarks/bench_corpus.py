"""Multiply-accumulates of a corpus: networks of torchvision and transformers, graphs drawn at random, a second counter.

`make bench PACKAGES="torch==2.13.0 torchvision transformers onnxscript"` runs all of it, in about half an hour. The tests
in tests/estimate/test_corpus.py run a tenth.
"""

from __future__ import annotations

import pytest

from tests.oracles import corpus

COUNTED = 1e-3
PUBLISHED = 3.5e-3


def _vision() -> list[str]:
    try:
        return corpus.vision_names()
    except ImportError:
        return ["torchvision"]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", _vision())
def test_a_network_of_torchvision_has_the_macs_of_pytorch_and_of_its_publication(name):
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    corpus.check_vision(name, COUNTED, PUBLISHED)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("new", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize("name", corpus.LANGUAGE_NAMES)
def test_an_exported_transformer_has_the_macs_that_ran(name, new, tmp_path):
    corpus.check_language(name, new, tmp_path, COUNTED)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("new", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize("name", corpus.EXPORTED_VISION)
def test_an_exported_network_of_torchvision_has_the_macs_that_ran(name, new, tmp_path):
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    corpus.check_exported_vision(name, new, tmp_path, COUNTED)


@pytest.mark.timeout(900)
def test_six_hundred_drawn_graphs_have_the_macs_that_they_were_drawn_with(tmp_path):
    corpus.check_drawn(600, tmp_path)
