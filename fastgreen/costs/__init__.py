# SPDX-License-Identifier: Apache-2.0
"""Prices and carbon intensities of electricity."""
