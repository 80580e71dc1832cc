"""Layers of a PyTorch module: the functions of PyTorch that one forward pass calls.

The module runs once on a sample of zeros, without gradients and in evaluation mode; afterwards it is in its old mode. A
``TorchFunctionMode`` sees every call with its arguments, from modules, functions, operators and branches of the code.
So a layer that is used twice is listed twice, and a branch that this pass does not take is not listed.
"""

from __future__ import annotations

import warnings
from typing import Any

from fastgreen.errors import FastgreenWarning
from fastgreen.estimate.inputs import InputShape, Shapes, as_shapes
from fastgreen.estimate.layers import Layer
from fastgreen.estimate.number_widths import PRICED, bits_of_name, with_widths
from fastgreen.estimate.torch_functions import layers_of

__all__ = ["from_torch"]


def from_torch(module: Any, input_shape: Shapes, dtype: Any = None) -> list[Layer]:
    """Layers of a PyTorch module, in the order they run.

    Parameters
    ----------
    module : torch.nn.Module
        A module with tensors as its inputs, the batch as their first dimension.
    input_shape : tuple of int, InputShape, or a list of these
        Shape of one sample of each input, without the batch; a shape with a name becomes a keyword argument.
    dtype : torch.dtype, optional
        Type of the inputs if their shapes do not give it, for example ``torch.int64`` for tokens; float32 by default.

    Returns
    -------
    list of Layer

    Raises
    ------
    ImportError
        If PyTorch is not installed.
    ValueError
        If the module cannot run on this input, or hides its calls (TorchScript).

    Examples
    --------
    >>> import torch
    >>> [layer.kind for layer in from_torch(torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.ReLU()), (8,))]
    ['Linear', 'ReLU']
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError("reading a PyTorch module needs torch: pip install 'fastgreen[torch]'") from error
    shapes = as_shapes(input_shape)
    if not shapes:
        raise ValueError("input_shape must be the shape of one sample, not empty")
    if not isinstance(module, torch.nn.Module):
        raise ValueError(f"module must be a PyTorch module, not {type(module).__name__}")
    module = getattr(module, "_orig_mod", module)  # the argument of torch.compile
    if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        raise ValueError("module must not be TorchScript, which hides its calls; give its source or an ONNX file")
    others = {str(part.dtype) for part in module.parameters() if part.is_floating_point()} - {"torch.float32"}
    if others:
        name = min(others).removeprefix("torch.")
        warnings.warn(f"its numbers are {name}; {PRICED}", FastgreenWarning, stacklevel=2)
    samples = [_sample(torch, shape, dtype) for shape in shapes]
    unnamed = [sample for shape, sample in zip(shapes, samples, strict=True) if not shape.name]
    named = {shape.name: sample for shape, sample in zip(shapes, samples, strict=True) if shape.name}
    training = {name: part.training for name, part in module.named_modules()}
    module.eval()
    try:
        with torch.no_grad():
            return _record(torch, module, unnamed, named)
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError, NotImplementedError) as error:
        sizes = ", ".join(str(shape.sizes) for shape in shapes)
        raise ValueError(f"module must run on a sample of shape {sizes}: {error}") from error
    finally:
        for name, part in module.named_modules():
            part.training = training[name]


def _sample(torch: Any, shape: InputShape, dtype: Any) -> Any:
    kind = getattr(torch, shape.dtype, None) if dtype is None else dtype
    if not isinstance(kind, torch.dtype):
        raise ValueError(f"input_shape must have a dtype of PyTorch, not {shape.dtype!r}")
    return torch.zeros((1, *shape.sizes), dtype=kind)


def _record(torch: Any, module: Any, unnamed: list[Any], named: dict[str, Any]) -> list[Layer]:
    """Run the module and list the layers of every function called."""
    from torch.overrides import TorchFunctionMode

    layers: list[Layer] = []
    names = _Names(module, torch.nn.MultiheadAttention)
    weights = {part.untyped_storage().data_ptr() for part in (*module.parameters(), *module.buffers())}

    class Recorder(TorchFunctionMode):
        def __torch_function__(self, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
            # The mode is off in here: inner calls of the function are part of it.
            result = function(*args, **(kwargs or {}))
            called = getattr(function, "__name__", "")
            if called not in ("__get__", "__set__"):
                found = layers_of(torch, called, args, kwargs or {}, result, weights, names.of)
                layers.extend(with_widths(found, *_widths(torch, (args, kwargs or {}), result, weights)))
            return result

    with names, Recorder():
        module(*unnamed, **named)
    return layers


def _widths(torch: Any, given: Any, result: Any, weights: set[int]) -> tuple[int, int]:
    """Bits of the numbers that flow through a call, and of its weights; 0 if there are no such numbers.

    The widest floating-point tensor counts, or the widest tensor if there is no floating-point one.
    """
    flow: dict[bool, list[int]] = {True: [], False: []}
    stored: dict[bool, list[int]] = {True: [], False: []}
    for one in (*_tensors(torch, given), *_tensors(torch, result)):
        own = one.untyped_storage().data_ptr() in weights
        (stored if own else flow)[one.is_floating_point()].append(bits_of_name(str(one.dtype)))
    bits, weight_bits = (max(one[True] or one[False] or [0]) for one in (flow, stored))
    return bits, weight_bits


def _tensors(torch: Any, value: Any) -> list[Any]:
    if isinstance(value, torch.Tensor):
        return [value] if value.layout == torch.strided else []
    if isinstance(value, dict):
        value = list(value.values())
    return [one for part in value for one in _tensors(torch, part)] if isinstance(value, tuple | list) else []


class _Names:
    """Names of calls: the path of the innermost running module, and the name of the function."""

    def __init__(self, module: Any, atomic: type) -> None:
        self.module, self.atomic = module, atomic  # modules of type `atomic` count as one, though they have parts
        self.running: list[tuple[str, bool]] = []
        self.used: dict[str, int] = {}
        self.handles: list[Any] = []

    def __enter__(self) -> None:
        for name, part in self.module.named_modules():
            leaf = isinstance(part, self.atomic) or not any(True for _ in part.children())

            def enter(_part: Any, _args: Any, here: tuple[str, bool] = (name, leaf)) -> None:
                self.running.append(here)

            def leave(_part: Any, _args: Any, _result: Any) -> None:
                self.running.pop()

            self.handles += [part.register_forward_pre_hook(enter), part.register_forward_hook(leave)]

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()

    def of(self, called: str) -> str:
        """Name of a call; the second call with the same name is ``name_1``."""
        path, leaf = self.running[-1] if self.running else ("", False)
        name = path if leaf and path else f"{path}.{called}" if path else called
        count = self.used.get(name, 0)
        self.used[name] = count + 1
        return f"{name}_{count}" if count else name
