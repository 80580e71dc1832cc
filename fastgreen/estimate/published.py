"""The seven predictors of a published study as a preset, with its split of the data.

Getzner, Charpentier and Günnemann ("Accuracy is not the only metric that matters: estimating the energy consumption of
deep learning models", 2023) fitted one regression per layer type on rows shuffled with pandas (``sample(frac=1,
random_state=1234)``), 70 % to fit, 20 % to validate, 10 % to test, and added up the layers of a network.
"""

from __future__ import annotations

import numpy as np

from fastgreen.estimate.linear import FeatureSet, LinearModel
from fastgreen.estimate.tables import Table

__all__ = ["PRESET", "fit_published", "split"]

PRESET = {
    "Conv2d": FeatureSet(("macs",)),
    "MaxPool2d": FeatureSet(("parameters", "log1p", "macs"), degree=2, interaction_only=True),
    "Linear": FeatureSet(("macs",)),
    "ReLU": FeatureSet(("macs",)),
    "Sigmoid": FeatureSet(("parameters",), degree=2, interaction_only=True),
    "Tanh": FeatureSet(("parameters",), degree=2),
    "Softmax": FeatureSet(("parameters",), degree=2, interaction_only=True),
}

SEED = 1234


def split(table: Table) -> tuple[Table, Table, Table]:
    """Split a table as published: rows to fit, to validate and to test.

    The order is that of ``pandas.DataFrame.sample``, which draws from NumPy's legacy generator.
    """
    order = np.random.RandomState(SEED).choice(len(table), size=len(table), replace=False)
    first, second = int(0.7 * len(table)), int(0.9 * len(table))
    return table.take(order[:first]), table.take(order[first:second]), table.take(order[second:])


def fit_published(tables: dict[str, Table]) -> dict[str, LinearModel]:
    """Fit the published predictor of every table on the published training rows (70 %)."""
    return {kind: LinearModel.fit(split(table)[0], PRESET[kind]) for kind, table in tables.items() if kind in PRESET}
