# SPDX-License-Identifier: Apache-2.0
"""The table: sensors, NVIDIA and AMD boards, the process and its machine, bad input."""

from . import rows_amdsmi, rows_input, rows_nvml, rows_process, rows_sensors

ROWS = [*rows_sensors.ROWS, *rows_nvml.ROWS, *rows_amdsmi.ROWS, *rows_process.ROWS, *rows_input.ROWS]
