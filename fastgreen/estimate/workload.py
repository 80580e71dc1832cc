"""Forward passes of single layers in PyTorch, for a collection to measure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastgreen.estimate.sequence_workload import POOLED, Pool, pooled, sequence_module, small_model

__all__ = ["torch_workload"]


def torch_workload(
    threads: int | None = None, device: str = "cpu", rotate_bytes: float = 0.0
) -> Callable[[str, dict[str, int]], Callable[[], object]]:
    """Make a builder of forward passes: PyTorch layers on random tensors, without gradients.

    Parameters
    ----------
    threads : int, optional
        Threads of PyTorch; by default PyTorch's own choice.
    device : str
        PyTorch's name of the device. On a GPU each pass waits for the end of its work.
    rotate_bytes : float
        Bytes of weights or caches of equal layers that run in turn, so that each reads them from memory; 0 runs one
        layer again and again.

    Returns
    -------
    callable
        Takes a kind and sizes; returns a forward pass without arguments.

    Raises
    ------
    ImportError
        If PyTorch is not installed.
    ValueError
        If PyTorch cannot use the device.
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError("collecting layers needs torch: pip install 'fastgreen[torch]'") from error
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        # PyTorch without CUDA raises an AssertionError.
        raise ValueError(f"device must be usable, not {device!r} ({str(error).splitlines()[0]})") from error

    pool = Pool(torch, rotate_bytes, device)

    def build(kind: str, sizes: dict[str, int]) -> Callable[[], object]:
        own_module = kind in _MODULES and not (rotate_bytes and kind in POOLED)
        if not own_module and _type(torch, sizes) is not torch.float32:
            raise ValueError(f"bits of {kind} must be 32 to be measured so, not {sizes['bits']}")
        if kind in POOLED and not own_module:
            return _quiet(torch, pooled(kind, sizes, pool), device)
        if own_module:
            return _of_module(kind, sizes)
        if kind in ("Generation", "RotaryGeneration"):
            return _quiet(torch, small_model(kind, sizes, device), device)
        return _quiet(torch, sequence_module(torch, kind, sizes, device), device)

    def _of_module(kind: str, sizes: dict[str, int]) -> Callable[[], object]:
        module, shape = _module(torch, kind, sizes)
        kept = _type(torch, sizes)
        module.eval().to(device=device, dtype=kept)
        sample = torch.rand(shape, device=device, dtype=kept)
        return _quiet(torch, lambda: module(sample), device)

    return build


def _quiet(torch: Any, run: Callable[[], object], device: str) -> Callable[[], object]:
    """The pass without gradients, up to the end of its work."""

    def forward() -> object:
        with torch.no_grad():
            result = run()
        if device != "cpu":
            torch.cuda.synchronize(device)
        return result

    return forward


_MODULES = frozenset({"Linear", "Conv2d", "MaxPool2d", "ReLU", "Sigmoid", "Tanh", "Softmax"})


def _type(torch: Any, s: dict[str, int]) -> Any:
    bits = s.get("bits", 32)
    known = {16: torch.bfloat16, 32: torch.float32, 64: torch.float64}
    if bits not in known or s.get("weight_bits", bits) != bits:
        raise ValueError(
            f"bits and weight_bits must be 16, 32 or 64 and the same to be measured, not {bits} and "
            f"{s.get('weight_bits', bits)}"
        )
    return known[bits]


def _module(torch: Any, kind: str, s: dict[str, int]) -> tuple[Any, tuple[int, ...]]:
    batch = s["batch_size"]
    if kind == "Linear":
        rows = (s["rows"],) if s.get("rows", 1) > 1 else ()
        module = torch.nn.Linear(s["input_size"], s["output_size"], bias=bool(s.get("bias", 1)))
        return module, (batch, *rows, s["input_size"])
    if kind not in ("Conv2d", "MaxPool2d"):
        options: dict[str, dict[str, Any]] = {"ReLU": {"inplace": bool(s.get("inplace", 0))}, "Softmax": {"dim": 1}}
        return getattr(torch.nn, kind)(**options.get(kind, {})), (batch, s["input_size"])
    high, wide = s["image_size"], s.get("image_width", s["image_size"])
    stride = s.get("stride", s["kernel_size"] if kind == "MaxPool2d" else 1)
    window = {
        "kernel_size": (s["kernel_size"], s.get("kernel_width", s["kernel_size"])),
        "stride": (stride, s.get("stride_width", stride)),
        "padding": (s.get("padding", 0), s.get("padding_width", s.get("padding", 0))),
        "dilation": (s.get("dilation", 1), s.get("dilation_width", s.get("dilation", 1))),
    }
    if kind == "MaxPool2d":
        module = torch.nn.MaxPool2d(**window, ceil_mode=bool(s.get("ceil_mode", 0)))
    else:
        module = torch.nn.Conv2d(
            s["in_channels"], s["out_channels"], groups=s.get("groups", 1), bias=bool(s.get("bias", 1)), **window
        )
    return module, (batch, s["in_channels"], high, wide)
