"""One pruned network, run in the ways that do and do not use its zeros. All give the same answers."""

import warnings

import numpy as np
import scipy.sparse
import torch
from networks import dense_network, weights
from pruning import saliencies
from torch import nn

KERNELS = ("zeros in dense matrices", "scipy.sparse CSR", "torch.sparse CSR")


def layers(network: nn.Module) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Weight and bias of each linear layer."""
    return [(m.weight.detach(), m.bias.detach()) for m in network.modules() if isinstance(m, nn.Linear)]


def run_dense(network: nn.Module, images: torch.Tensor):
    """A function that makes one inference with dense matrices, whatever their zeros."""
    parts = [(w.contiguous(), b) for w, b in layers(network)]
    flat = images.flatten(1)

    @torch.inference_mode()
    def once() -> torch.Tensor:
        x = flat
        for i, (weight, bias) in enumerate(parts):
            x = torch.addmm(bias, x, weight.T)
            if i < len(parts) - 1:
                x = x.relu_()
        return x

    return once


def run_scipy(network: nn.Module, images: torch.Tensor):
    """The same by scipy's compressed rows: products of the weights that are not zero."""
    parts = [(scipy.sparse.csr_array(w.numpy()), b.numpy()[:, None]) for w, b in layers(network)]
    flat = np.ascontiguousarray(images.flatten(1).numpy().T)

    def once() -> np.ndarray:
        x = flat
        for i, (weight, bias) in enumerate(parts):
            x = weight @ x + bias
            if i < len(parts) - 1:
                x = np.maximum(x, 0, out=x)
        return x.T

    return once


def run_torch(network: nn.Module, images: torch.Tensor):
    """The same by PyTorch's compressed rows."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        parts = [(w.to_sparse_csr(), b[:, None]) for w, b in layers(network)]
    flat = images.flatten(1).T.contiguous()

    @torch.inference_mode()
    def once() -> torch.Tensor:
        x = flat
        for i, (weight, bias) in enumerate(parts):
            x = weight @ x + bias
            if i < len(parts) - 1:
                x = x.relu_()
        return x.T

    return once


RUN = dict(zip(KERNELS, (run_dense, run_scipy, run_torch), strict=True))


def narrow_width(inputs: int, outputs: int, keep: int) -> int:
    """Width of two equal hidden layers with at most `keep` weights: the largest h with h h + (inputs + outputs) h."""
    around = inputs + outputs
    width = int((-around + (around * around + 4 * keep) ** 0.5) / 2)
    if width < 1:
        raise ValueError(f"keep must leave a neuron of each layer, not {keep} weights")
    return width


def without_neurons(network: nn.Module, images: torch.Tensor, labels: torch.Tensor, keep: int) -> nn.Module:
    """Structured pruning before the training: the neurons with the largest sums of SNIP's saliencies stay.

    The result has dense, smaller matrices with at most `keep` weights.
    """
    first, second, last = saliencies(network, images, labels)
    width = narrow_width(first.shape[1], last.shape[0], keep)
    rows = (first.sum(1) + second.sum(0)).argsort(descending=True)[:width]
    columns = (second.sum(1) + last.sum(0)).argsort(descending=True)[:width]
    small = dense_network(first.shape[1], width, width, last.shape[0])
    with torch.no_grad():
        old, new = layers(network), layers(small)
        for (w, b), (v, c), outs, ins in zip(
            old, new, (rows, columns, slice(None)), (slice(None), rows, columns), strict=True
        ):
            v.copy_(w[outs][:, ins])
            c.copy_(b[outs])
    assert sum(w.numel() for w in weights(small)) <= keep
    return small
