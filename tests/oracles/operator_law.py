"""A machine of a known law: each operator of PyTorch costs a call, its bytes and its multiply-accumulates.

It looks at the operators that run, below all modules, so it shares no count with the package.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

__all__ = ["OperatorLaw", "OperatorMeter"]

_VIEWS = (
    "view", "unsqueeze", "transpose", "expand", "slice", "alias", "detach", "aten.t.", "split", "select", "permute",
    "squeeze", "chunk", "as_strided", "unbind",
)  # fmt: skip


class OperatorLaw(TorchDispatchMode):
    """Joules of every operator that runs inside: ``call_j + byte_j bytes + mac_j macs``; a view costs nothing."""

    def __init__(self, call_j: float = 2e-6, byte_j: float = 1e-10, mac_j: float = 2e-11) -> None:
        super().__init__()
        self.call_j, self.byte_j, self.mac_j, self.joules = call_j, byte_j, mac_j, 0.0

    def __torch_dispatch__(self, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        name = str(function)
        if not any(word in name for word in _VIEWS):
            # A table of tokens is not read whole.
            read = result if "embedding" in name else (args, kwargs)
            moved = _bytes(read) + _bytes(result)
            self.joules += self.call_j + self.byte_j * moved + self.mac_j * _macs(function, name, args, kwargs, result)
        return result


def _bytes(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return sum(_bytes(one) for one in parts)


def _macs(function: Any, name: str, args: Any, kwargs: Any, result: Any) -> float:
    if "flash_attention_for_cpu" in name:
        (batch, heads, rows, width), keys = args[0].shape, args[1].shape[2]
        causal = args[4] if len(args) > 4 else kwargs.get("is_causal", False)
        return 2 * batch * heads * rows * width * ((keys + 1) / 2 if causal else keys)
    counter = flop_registry.get(function._overloadpacket)
    return counter(*args, **kwargs, out_val=result) / 2 if counter else 0.0


class OperatorMeter:
    """A meter for a collection that reads the joules of a law."""

    def __init__(self, law: OperatorLaw) -> None:
        self.law, self.spans, self.estimated = law, [], False

    def __enter__(self) -> OperatorMeter:
        return self

    def __exit__(self, *_: object) -> None:
        self.result = self

    def window(self, name: str) -> Any:
        spans, law = self.spans, self.law

        class Window:
            def __enter__(self) -> None:
                spans.append([law.joules, 0.0])

            def __exit__(self, *_: object) -> None:
                spans[-1][1] = law.joules

        return Window()

    def windows(self, name: str, per_channel: bool = False) -> pa.Table:
        rows = []
        for index, (begin, end) in enumerate(self.spans):
            energy = end - begin
            rows.append({"index": index, "duration_s": 1.0, "energy_j": energy, "energy_low_j": energy,
                         "energy_high_j": energy, "channel": "law"})  # fmt: skip
        return pa.Table.from_pylist(rows)
