"""Where the published layer energies lie; tests that need them skip, saying so, where they do not."""

import functools

import pytest

from fastgreen.estimate.tables import read_tables
from tests.oracles.places import SHARED

ROOT = SHARED / "layer-energy"

needs_data = pytest.mark.skipif(
    not ROOT.is_dir(), reason=f"the published layer energies are not at {ROOT} (set FASTGREEN_SHARED_DATA)"
)

LAYERWISE = [ROOT / "00_architectures-layerwise-raw.csv", ROOT / "01_architectures-layerwise-raw.csv"]
ALL_NETWORKS = [*LAYERWISE, ROOT / "02_architectures-raw.csv"]


@functools.cache
def tables():
    return read_tables(ROOT)
