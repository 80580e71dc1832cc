# SPDX-License-Identifier: Apache-2.0
"""Tests that a late scheduler can fail: `make test` runs them alone, and one that fails is repeated once."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.flaky(reruns=1))
