# SPDX-License-Identifier: Apache-2.0
"""The table: sensors, NVIDIA boards, the process and its machine, bad input."""

from . import rows_input, rows_nvml, rows_process, rows_sensors

ROWS = [*rows_sensors.ROWS, *rows_nvml.ROWS, *rows_process.ROWS, *rows_input.ROWS]
