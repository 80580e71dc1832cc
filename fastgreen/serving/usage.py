# SPDX-License-Identifier: Apache-2.0
"""Tokens of a response as the object ``usage`` reports them, in JSON or in the events of a stream."""

from __future__ import annotations

import json

__all__ = ["UsageReader"]

_KEPT = 65536  # bytes of the end of a response
_NAMES = {
    "completion_tokens": "tokens",
    "output_tokens": "tokens",
    "prompt_tokens": "prompt_tokens",
    "input_tokens": "prompt_tokens",
}
_KEY = b'"usage"'


class UsageReader:
    """Sees a response pass, keeps its end, and finds the last object ``usage`` in it."""

    def __init__(self) -> None:
        self._end = bytearray()

    def take(self, data: bytes) -> None:
        self._end += data[-_KEPT:]
        del self._end[:-_KEPT]

    def amounts(self) -> dict[str, float]:
        """Amounts by name: ``tokens`` and ``prompt_tokens``, those that are reported."""
        end = len(self._end)
        while (at := self._end.rfind(_KEY, 0, end)) >= 0:
            found = self._object(at + len(_KEY))
            if found:
                return found
            end = at
        return {}

    def _object(self, at: int) -> dict[str, float]:
        text = self._end[at:].decode("utf-8", "replace").lstrip()
        if not text.startswith(":"):
            return {}
        try:
            found, _ = json.JSONDecoder().raw_decode(text[1:].lstrip())
        except (ValueError, RecursionError):
            return {}
        out: dict[str, float] = {}
        for key, name in _NAMES.items():
            value = found.get(key) if isinstance(found, dict) else None
            if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53:
                out.setdefault(name, value)
        return out
