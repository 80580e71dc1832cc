"""Multiply-accumulates of other people's networks, and of graphs drawn at random, compared with a second counter.

``make bench PACKAGES="torch torchvision transformers onnxscript"`` installs what it needs.
"""

from __future__ import annotations

import pytest

from tests.oracles import corpus

MINUTES = 60
COUNTED, PUBLISHED = "<= 0.1 %", "<= 0.35 %"


@pytest.mark.timeout(60 * MINUTES)
def test_networks_of_torchvision_have_the_macs_of_pytorch_and_of_their_publication(bar):
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    names = corpus.vision_names()
    found = {name: corpus.vision_differences(name) for name in names}
    counted = {name: both[0] for name, both in found.items()}
    published = {name: both[1] for name, both in found.items() if name not in corpus.PUBLISHED_OTHERWISE}
    print(f"\n{len(names)} networks; furthest: {_worst(counted)}, {_worst(published)}")
    bar("all networks of torchvision but detection, from PyTorch's counter", COUNTED, 100 * max(counted.values()))
    bar("the same, from the published counts", PUBLISHED, 100 * max(published.values()))


@pytest.mark.timeout(60 * MINUTES)
def test_exported_networks_have_the_macs_that_ran(bar, tmp_path):
    pytest.importorskip("transformers", reason="transformers is not installed")
    found = {
        f"{name}, {'dynamo' if new else 'TorchScript'}": corpus.language_difference(name, new, tmp_path)
        for name in corpus.LANGUAGE_NAMES
        for new in (False, True)
    }
    bar("six transformers by both exporters, from the shapes that ran", COUNTED, 100 * max(found.values()))
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    found = {
        f"{name}, {new}": corpus.exported_vision_difference(name, new, tmp_path)
        for name in corpus.EXPORTED_VISION
        for new in (False, True)
    }
    bar("six networks of torchvision by both exporters, from the shapes that ran", COUNTED, 100 * max(found.values()))


@pytest.mark.timeout(60 * MINUTES)
def test_drawn_graphs_have_the_macs_that_they_were_drawn_with(bar, tmp_path):
    corpus.check_drawn(600, tmp_path)
    bar("600 graphs drawn at random, from their own macs", "<= 0 %", 0.0)


def _worst(differences: dict[str, float]) -> str:
    name = max(differences, key=lambda one: differences[one])
    return f"{name} {differences[name]:.3%}"
