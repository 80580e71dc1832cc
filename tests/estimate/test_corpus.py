"""A tenth of the corpus in benchmarks/bench_corpus.py: other people's networks against a second counter."""

from __future__ import annotations

import pytest

from tests.oracles import corpus

TENTH = ("alexnet", "mnasnet0_5", "mobilenet_v3_small", "resnet18", "shufflenet_v2_x0_5", "squeezenet1_1")


@pytest.mark.parametrize("name", TENTH)
def test_a_network_of_torchvision_has_the_macs_of_pytorch_and_of_its_publication(name):
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    counted, published = corpus.vision_differences(name)
    assert counted <= 1e-3
    assert published <= 3.5e-3


@pytest.mark.parametrize(("name", "new"), [("llama", True), ("gpt2", False)])
def test_an_exported_transformer_has_the_macs_that_ran(name, new, tmp_path):
    assert corpus.language_difference(name, new, tmp_path) <= 1e-3
