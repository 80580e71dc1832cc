# SPDX-License-Identifier: Apache-2.0
"""Doors of servers onto ledgers: ASGI applications, vLLM, `generate` of transformers."""
