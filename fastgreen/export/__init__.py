# SPDX-License-Identifier: Apache-2.0
"""Exporters for fleets: a page for Prometheus, and a sender for OpenTelemetry collectors."""

from __future__ import annotations

from fastgreen.guards.lazy_names import lazy_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastgreen.export.otlp_exporter import otlp as otlp
    from fastgreen.export.prometheus_endpoint import prometheus as prometheus

_HOME = {"otlp": ".otlp_exporter", "prometheus": ".prometheus_endpoint"}

__all__ = sorted(_HOME)

__getattr__, __dir__ = lazy_names(__name__, _HOME)
