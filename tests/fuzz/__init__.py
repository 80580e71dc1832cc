# SPDX-License-Identifier: Apache-2.0
"""Fuzzing what reads bytes of others: `make fuzz`; fuzz_text.c for the parsers in C, targets.py for those in Python."""
