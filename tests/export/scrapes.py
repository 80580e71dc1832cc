# SPDX-License-Identifier: Apache-2.0
"""Reads a page for Prometheus, by prometheus_client's own parser."""

from __future__ import annotations

import urllib.request

from prometheus_client.parser import text_string_to_metric_families


def page(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        return answer.read().decode()


def samples(address: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Name of a sample -> its labels and values."""
    out: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(page(address)):
        for sample in family.samples:
            out.setdefault(sample.name, []).append((sample.labels, sample.value))
    return out


def by_id(address: str, name: str) -> dict[str, float]:
    return {labels["hw_id"]: value for labels, value in samples(address).get(name, [])}
