# SPDX-License-Identifier: Apache-2.0
"""Exporters for fleets: a page for Prometheus, and a sender for OpenTelemetry collectors."""

from __future__ import annotations

import importlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fastgreen.export.otlp_exporter import otlp as otlp
    from fastgreen.export.prometheus_endpoint import prometheus as prometheus

_HOME: dict[str, str | None] = {"otlp": ".otlp_exporter", "prometheus": ".prometheus_endpoint"}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(home, __name__), name)
    return value


def __dir__() -> list[str]:
    return __all__
