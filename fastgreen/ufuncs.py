"""NumPy ufuncs of the metrics: all inputs positional, without checks, NaN outside the domain.

``apc(consumption, accuracy, alpha, beta)``, ``apec(cost, accuracy, alpha, beta)``, ``weighted_consumption(consumption,
accuracy, alpha)``, ``closest_apc(consumption, accuracy, consumption_delta, accuracy_delta, alpha, beta)``.
"""

from fastgreen import _kernels

__all__ = ["apc", "apec", "closest_apc", "weighted_consumption"]

apc, apec = _kernels.apc, _kernels.apec
closest_apc, weighted_consumption = _kernels.closest_apc, _kernels.weighted_consumption
