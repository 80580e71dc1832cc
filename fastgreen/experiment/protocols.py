"""Protocols of studies: the sizes, the number of inferences, and a function that builds the inference of a size.

The published series are those of the AIPowerMeter benchmark, with its sizes and counts. ``scale`` reduces the counts,
so that a study takes minutes instead of days.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

__all__ = [
    "AUTO",
    "SERIES",
    "CommandFailed",
    "Protocol",
    "alexnet_series",
    "bert_series",
    "convnet_series",
    "for_callable",
    "for_command",
    "for_onnx",
    "for_torch",
    "resnet50_series",
    "summary_series",
]

Inference = Callable[[], Any]
AUTO = "auto"  # of a warm-up or a rest: found from time and power


@dataclass(frozen=True)
class Protocol:
    """A series of sizes, and how to run each of them.

    Attributes
    ----------
    name : str
        Name of the study.
    sizes : sequence of float or str
        Different sizes that can name a folder.
    build : callable
        Takes a size; returns a callable without arguments that runs one inference.
    iterations : callable
        Takes a size; returns the number of timed inferences.
    warmup : int or "auto"
        Inferences before the timed ones; they are not measured. ``"auto"``: until time and power have settled.
    batch : int or dict of str to int
        Samples in one inference; a dict has those of each size, by its text.
    size_unit : str
        Unit of a size: px, tokens, layers.
    what : str
        The command line or file that is run. A folder with another one is refused.
    inside : bool
        Whether the inference runs in this process, so that its memory is that of the model.

    Raises
    ------
    ValueError
        If there is no size, two sizes are equal or one cannot name a folder, or `warmup` is neither 0 or above nor
        ``"auto"``.
    """

    name: str
    sizes: Sequence[Any]
    build: Callable[[Any], Inference] = field(repr=False)
    iterations: Callable[[Any], int] = field(repr=False)
    warmup: int | str = 2
    batch: int | dict[str, int] = 1
    size_unit: str = ""
    what: str = ""
    inside: bool = True

    def __post_init__(self) -> None:
        if not len(self.sizes):
            raise ValueError("sizes must be at least one, not empty")
        if len(set(map(str, self.sizes))) != len(self.sizes):
            twice = next(s for i, s in enumerate(self.sizes) if str(s) in map(str, self.sizes[:i]))
            raise ValueError(f"sizes must be different, not {twice!r} twice")
        bad = next((s for s in map(str, self.sizes) if "/" in s or s in (".", "..")), None)
        if bad is not None:
            raise ValueError(f"sizes must be names of folders, not {bad!r}")
        if self.warmup != AUTO and not (isinstance(self.warmup, int) and self.warmup >= 0):
            raise ValueError(f"warmup must be 0 or above, or {AUTO!r}, not {self.warmup!r}")


def _count(iterations: int | Callable[[Any], int], scale: float = 1.0) -> Callable[[Any], int]:
    if not 0 < scale <= 1:
        raise ValueError(f"scale must be above 0 and at most 1, not {scale}")
    if not callable(iterations):
        if iterations < 1:
            raise ValueError(f"iterations must be at least 1, not {iterations}")
        fixed = iterations
        return lambda size: max(1, int(fixed * scale))
    return lambda size: max(1, int(iterations(size) * scale))


def for_callable(
    function: Callable[[Any], Any],
    sizes: Sequence[Any],
    *,
    iterations: int | Callable[[Any], int] = 100,
    factory: bool = False,
    name: str | None = None,
    **options: Any,
) -> Protocol:
    """Make the protocol of a study of any Python callable.

    Parameters
    ----------
    function : callable
        Called with the size for each inference. With `factory` it is called once per size and returns the inference, a
        callable without arguments.
    sizes : sequence of float or str
        See :class:`Protocol`.
    iterations : int or callable
        Timed inferences of every size, or a function of the size.
    factory : bool
        Whether `function` returns the inference instead of running it.
    name : str, optional
        By default the name of the function.
    **options
        ``warmup``, ``batch`` and ``size_unit`` of :class:`Protocol`.

    Returns
    -------
    Protocol

    Examples
    --------
    >>> p = for_callable(lambda n: sum(range(n)), [1000, 2000], iterations=5)
    >>> p.build(1000)()
    499500
    """
    build = function if factory else (lambda size: partial(function, size))
    return Protocol(name or str(getattr(function, "__name__", "callable")), sizes, build, _count(iterations), **options)


class CommandFailed(RuntimeError):
    """A command of a study ended with an exit code other than 0; `returncode` is the code."""

    def __init__(self, command: list[str], returncode: int, stderr: str) -> None:
        super().__init__(f"{shlex.join(command)} ended with {returncode}: {stderr.strip()[-500:] or 'no message'}")
        self.returncode = returncode


def for_command(
    command: str | Sequence[str], sizes: Sequence[Any], *, iterations: int | Callable[[Any], int] = 1, **options: Any
) -> Protocol:
    """Make the protocol of a study of a program; one call of the program is one inference.

    Parameters
    ----------
    command : str or sequence of str
        The command line; ``{size}`` in its arguments becomes the size.
    sizes, iterations, **options
        As in :func:`for_callable`.

    Returns
    -------
    Protocol

    Raises
    ------
    ValueError
        If the command is empty.
    """
    words = shlex.split(command) if isinstance(command, str) else list(command)
    if not words:
        raise ValueError("command must be at least one word, not empty")

    def build(size: Any) -> Inference:
        arguments = [word.replace("{size}", str(size)) for word in words]

        def once() -> None:
            done = subprocess.run(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
            if done.returncode != 0:
                raise CommandFailed(arguments, done.returncode, done.stderr.decode(errors="replace"))

        return once

    options = {"warmup": 0, "what": shlex.join(words), "inside": False, **options}
    return Protocol(Path(words[0]).name, sizes, build, _count(iterations), **options)


def for_torch(
    model: str | Path | Callable[[Any], Any],
    sizes: Sequence[Any],
    *,
    inputs: Callable[[Any], Any] | None = None,
    iterations: int | Callable[[Any], int] = 100,
    device: str | None = None,
    name: str | None = None,
    trust: bool = False,
    **options: Any,
) -> Protocol:
    """Make the protocol of a study of a PyTorch model.

    Parameters
    ----------
    model : path or callable
        A file of ``torch.export.save`` or ``torch.jit.save``, or a callable that takes a size and returns a module.
    sizes, iterations, name, **options
        As in :func:`for_callable`.
    inputs : callable, optional
        Takes a size; returns a tensor or tuple of tensors. By default random images of that many pixels.
    device : str, optional
        By default the GPU if there is one.
    trust : bool
        Whether a file may run code of its author. PyTorch's loaders may unpickle, and a pickle can do anything that
        this user can, so do not load files of strangers.

    Returns
    -------
    Protocol

    Raises
    ------
    ImportError
        If PyTorch is not installed.
    ValueError
        If `model` is a file and `trust` is off.
    """
    from fastgreen.experiment import models_torch as nets

    if isinstance(model, (str, Path)) and not trust:
        raise ValueError(
            f"trust must be on to load {Path(model).name}: PyTorch may unpickle it, and a pickle can run any code. "
            "If you trust its author, give --trust, or trust=True in Python; an .onnx file runs no code"
        )
    make_inputs = inputs or nets.images
    make_model = _torch_file(Path(model)) if isinstance(model, (str, Path)) else model

    def build(size: Any) -> Inference:
        return nets.inference(make_model(size), make_inputs(size), device)

    file = Path(model).name if isinstance(model, (str, Path)) else ""
    label = name or (Path(file).stem if file else str(getattr(model, "__name__", "model")))
    what = f"{file} on {device}".strip() if device else file
    return Protocol(label, sizes, build, _count(iterations), **{"what": what, **options})


def _torch_file(path: Path) -> Callable[[Any], Any]:
    def load(size: Any) -> Any:
        from fastgreen.experiment.models_torch import torch_module

        torch = torch_module()
        try:
            return _Exported(torch.export.load(path).module()) if path.suffix == ".pt2" else torch.jit.load(path)
        # The type of the exception depends on the part of PyTorch that fails.
        except Exception as error:
            raise ValueError(
                f"{path.name} must be a program that runs without its Python classes ({_first_line(error)}); "
                "save the model with torch.export.save, or give a file.py:function that builds it"
            ) from error

    return load


def _first_line(error: Exception) -> str:
    return next(iter(str(error).split(". ")[0].splitlines()), type(error).__name__)


class _Exported:
    """Wrapper of an exported program, with an ``eval`` that does nothing: it has no training mode."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def to(self, device: str) -> _Exported:
        self.module.to(device)
        return self

    def eval(self) -> Any:
        return self.module


def for_onnx(
    model: str | Path | Callable[[Any], str | Path],
    sizes: Sequence[Any],
    *,
    inputs: Callable[[Any], dict[str, Any]] | None = None,
    iterations: int | Callable[[Any], int] = 100,
    providers: Sequence[str] | None = None,
    name: str | None = None,
    **options: Any,
) -> Protocol:
    """Make the protocol of a study of an ONNX model with ONNX Runtime.

    Parameters
    ----------
    model : path or callable
        A file, or a callable that takes a size and returns a file.
    sizes, iterations, name, **options
        As in :func:`for_callable`.
    inputs : callable, optional
        Takes a size; returns a dict of arrays by input name. By default random numbers; the first free dimension is 1,
        every other free dimension is the size.
    providers : sequence of str, optional
        Providers of ONNX Runtime; by default all that it was built with.

    Returns
    -------
    Protocol

    Raises
    ------
    ImportError
        If ONNX Runtime is not installed.
    """

    def build(size: Any) -> Inference:
        try:
            import onnxruntime
        except ImportError:
            raise ImportError("this protocol needs ONNX Runtime: pip install 'fastgreen[onnx]'") from None
        path = model(size) if callable(model) else model
        chosen = list(providers or onnxruntime.get_available_providers())
        session = onnxruntime.InferenceSession(str(path), providers=chosen)
        feed = inputs(size) if inputs else _onnx_inputs(session, size)
        return lambda: session.run(None, feed)

    label = name or (str(getattr(model, "__name__", "model")) if callable(model) else Path(model).stem)
    if not callable(model):
        options = {"what": Path(model).name, **options}
    return Protocol(label, sizes, build, _count(iterations), **options)


def _onnx_inputs(session: Any, size: Any) -> dict[str, Any]:
    import numpy as np

    random = np.random.default_rng(0)
    feed = {}
    for wanted in session.get_inputs():
        shape = [d if isinstance(d, int) else (1 if i == 0 else int(size)) for i, d in enumerate(wanted.shape)]
        kind = wanted.type.removeprefix("tensor(").removesuffix(")")
        if kind.startswith("int"):
            feed[wanted.name] = random.integers(1, 100, shape).astype(kind)
        else:
            dtype = {"float": np.float32, "double": np.float64, "float16": np.float16}[kind]
            feed[wanted.name] = random.random(shape).astype(dtype)
    return feed


def _series(
    name: str, sizes: Sequence[int], count: Callable[[int], int], unit: str, scale: float, device: str | None
) -> Protocol:
    """Protocol of a published series: the network of that name, random images, `count` inferences at scale 1."""
    from fastgreen.experiment import models_torch as nets

    make = {
        "alexnet": lambda size: nets.alexnet(),
        "resnet50": lambda size: nets.resnet50(),
        "bert": lambda size: nets.bert(),
        "convnets": nets.convnet,
    }[name]
    inputs = {"bert": nets.tokens, "convnets": lambda size: nets.images(224)}.get(name, nets.images)
    counted = _count(count, scale)
    return for_torch(make, sizes, inputs=inputs, iterations=counted, device=device, name=name, size_unit=unit)


def alexnet_series(scale: float = 1.0, device: str | None = None) -> Protocol:
    """AlexNet on images of 112, 224, ... 2240 pixels, int(40000/(u+1)) inferences at the u-th size, batch 1."""
    sizes = [112 * (k + 1) for k in range(20)]
    return _series("alexnet", sizes, lambda size: int(40000 / (size // 112)), "px", scale, device)


def resnet50_series(scale: float = 1.0, device: str | None = None) -> Protocol:
    """ResNet-50 on images of 8 to 4096 pixels, each twice the previous, 5000 inferences (1000 at 4096)."""
    sizes = [8 << k for k in range(10)]
    return _series("resnet50", sizes, lambda size: 1000 if size == 4096 else 5000, "px", scale, device)


def bert_series(scale: float = 1.0, device: str | None = None) -> Protocol:
    """A BERT-like encoder on 50, 100, ... 500 tokens, 10000 - 10 n inferences of n tokens."""
    return _series("bert", range(50, 501, 50), lambda size: 10000 - 10 * size, "tokens", scale, device)


def convnet_series(scale: float = 1.0, device: str | None = None) -> Protocol:
    """Plain convolutional networks of 2, 4, ... 40 layers on images of 224 pixels, int(40000/layers) inferences."""
    return _series("convnets", range(2, 41, 2), lambda size: int(40000 / size), "layers", scale, device)


# Of the published table: network, batch, and what makes its inputs.
_SUMMARY: dict[str, tuple[int, str, int]] = {
    "ssdlite320": (32, "images", 320),
    "resnet50": (128, "images", 224),
    "vit_b16": (64, "images", 224),
    "bert": (128, "tokens", 50),
}
_SUMMARY_COUNT = 100  # inferences of a batch at scale 1


def summary_series(scale: float = 1.0, device: str | None = None) -> Protocol:
    """The networks of the published first table: a detector, ResNet-50, ViT-B/16 and BERT with 50 tokens.

    The batches are 32, 128, 64 and 128, and each run has 100 inferences. `scale` reduces both, to at least 1.
    """
    from fastgreen.experiment import detector_torch
    from fastgreen.experiment import models_torch as nets

    counted = _count(_SUMMARY_COUNT, scale)
    batches = {name: max(1, round(batch * scale)) for name, (batch, _, _) in _SUMMARY.items()}

    def make(name: str) -> Any:
        return detector_torch.ssdlite320() if name == "ssdlite320" else getattr(nets, name)()

    def inputs(name: str) -> Any:
        _, kind, size = _SUMMARY[name]
        return getattr(nets, kind)(size, batches[name])

    return for_torch(
        make, list(_SUMMARY), inputs=inputs, iterations=counted, device=device, name="summary", batch=batches
    )


SERIES: dict[str, Callable[..., Protocol]] = {
    "alexnet": alexnet_series,
    "resnet50": resnet50_series,
    "bert": bert_series,
    "convnets": convnet_series,
    "summary": summary_series,
}
