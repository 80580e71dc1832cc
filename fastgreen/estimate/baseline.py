"""The simplest predictor, to compare others with: one price per multiply-accumulate for all layers of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fastgreen.estimate.builtin import zoo
from fastgreen.estimate.counts import macs
from fastgreen.estimate.layers import FREE, Layer
from fastgreen.estimate.tables import MeasuredNetwork, Table

__all__ = ["layers_by_mac", "mac_price", "networks_by_mac", "table_by_mac"]


def mac_price(tables: Mapping[str, Table]) -> float:
    """Joules per multiply-accumulate: the median over the measured convolutions, or else over the linear layers.

    NaN if there is no table of either.
    """
    for kind in ("Conv2d", "Linear"):
        if kind in tables:
            return float(np.median(tables[kind].energy_j / tables[kind].macs("standard")))
    return float("nan")


def _products(layer: Layer, batch: int) -> int:
    if layer.kind in FREE:
        return 0
    return int(macs(layer.kind, batch_size=batch, convention="standard", **layer.sizes))


def table_by_mac(table: Table, price_j: float) -> tuple[np.ndarray, np.ndarray] | None:
    """Measured energy of a table and the prediction by multiply-accumulates alone; None for a kind that has none."""
    count = table.macs("standard")
    return (table.energy_j, price_j * count) if count.all() else None


def networks_by_mac(measured: Sequence[MeasuredNetwork], price_j: float) -> dict[str, np.ndarray]:
    """Predict built-in networks by their multiply-accumulates alone.

    Parameters
    ----------
    measured : sequence of MeasuredNetwork
        Measurements of the built-in architectures.
    price_j : float
        Joules per multiply-accumulate.

    Returns
    -------
    dict of str to ndarray
        measured_j, predicted_j; a value per network.
    """
    predicted = [price_j * sum(_products(layer, one.batch_size) for layer in zoo(one.name)) for one in measured]
    return {"measured_j": np.array([one.energy_j for one in measured]), "predicted_j": np.array(predicted)}


def layers_by_mac(measured: Sequence[MeasuredNetwork], price_j: float) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Predict single layers of built-in networks by their multiply-accumulates alone.

    Returns
    -------
    dict of str to (measured_j, predicted_j)
        By kind, without the kinds that have no multiply-accumulates; two float64 arrays of one length.
    """
    pairs: dict[str, list[tuple[float, float]]] = {}
    for one in measured:
        layers = zoo(one.name)
        for index, joules in one.layers_j.items():
            if count := _products(layers[index - 1], one.batch_size):
                pairs.setdefault(layers[index - 1].kind, []).append((joules, price_j * count))
    return {kind: (np.array(values)[:, 0], np.array(values)[:, 1]) for kind, values in pairs.items()}
