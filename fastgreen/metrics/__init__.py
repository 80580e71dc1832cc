"""The metrics: APC, APEC, TTCAPC, TTCAPEC, and other published metrics of efficiency.

The map, an arrow never pointing up or sideways::

    domains, parallel  <-  scores  <-  training_runs  <-  closest  <-  neighbours
    score_grid, search_grid  <-  sweep_blocks, sweep_writer, stored_sweep  <-  sweep

Names load on first use (PEP 562): ``fastgreen.metrics.edp`` loads what it needs and nothing more.
"""

from __future__ import annotations

from fastgreen.guards.lazy_names import lazy_names

_HOME = {
    "Closest": ".closest",
    "accuracy_per_joule": ".neighbours",
    "apc": ".scores",
    "apec": ".scores",
    "carbon": ".neighbours",
    "closest_apc": ".closest",
    "closest_apec": ".closest",
    "ed2p": ".neighbours",
    "edp": ".neighbours",
    "embodied_carbon": ".neighbours",
    "energy_to_accuracy": ".neighbours",
    "netscore": ".neighbours",
    "sci": ".neighbours",
    "time_to_accuracy": ".neighbours",
    "time_to_closest_apc": ".closest",
    "time_to_closest_apec": ".closest",
    "ttcapc": ".closest",
    "ttcapec": ".closest",
    "weighted_consumption": ".scores",
    "zeus_cost": ".neighbours",
}

__all__ = sorted(_HOME)

__getattr__, __dir__ = lazy_names(__name__, _HOME)
