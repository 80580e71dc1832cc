"""Pruning before the training: SNIP in one shot, FORCE in many. Both return masks of ones and zeros.

SNIP: Lee, Ajanthan, Torr, "SNIP: Single-shot network pruning based on connection sensitivity" (2019).
FORCE: de Jorge, Sanyal, Behl, Torr, Rogez, Dokania, "Progressive skeletonization: trimming more fat from a network at
initialization" (2021).
"""

import math

import torch
from networks import weights
from torch import nn


def kept_weights(network: nn.Module, pruned: float) -> int:
    """Weights that stay: (1 - pruned) of all, rounded."""
    if not 0 <= pruned < 1:
        raise ValueError(f"pruned must be 0 or above and below 1, not {pruned}")
    return round(sum(w.numel() for w in weights(network)) * (1 - pruned))


def masks_of_largest(saliencies: list[torch.Tensor], keep: int) -> list[torch.Tensor]:
    """Masks that keep the `keep` largest saliencies over all layers, exactly."""
    flat = torch.cat([s.flatten() for s in saliencies])
    mask = torch.zeros_like(flat)
    mask[flat.topk(keep, sorted=False).indices] = 1
    parts = mask.split([s.numel() for s in saliencies])
    return [part.view_as(s) for part, s in zip(parts, saliencies, strict=True)]


def saliencies(network: nn.Module, images: torch.Tensor, labels: torch.Tensor, masks: list[torch.Tensor] | None = None):
    """Connection sensitivity |g * w| of each weight: how much the loss changes with a factor in front of the weight.

    With masks, g is the gradient of the pruned network, and w the weight before it was pruned. So a weight that an
    earlier step took away can come back, as in FORCE.
    """
    params = weights(network)
    whole = [p.detach().clone() for p in params]
    if masks is not None:
        with torch.no_grad():
            for p, mask in zip(params, masks, strict=True):
                p.mul_(mask)
    loss = nn.functional.cross_entropy(network(images), labels)
    gradients = torch.autograd.grad(loss, params)
    with torch.no_grad():
        for p, w in zip(params, whole, strict=True):
            p.copy_(w)
    return [(g * w).abs() for g, w in zip(gradients, whole, strict=True)]


def snip(network: nn.Module, images: torch.Tensor, labels: torch.Tensor, pruned: float) -> list[torch.Tensor]:
    """SNIP: the saliencies of one batch decide once."""
    return masks_of_largest(saliencies(network, images, labels), kept_weights(network, pruned))


def force_schedule(total: int, keep: int, steps: int) -> list[int]:
    """Weights that FORCE keeps after each step: exp(a log keep + (1 - a) log total), with a = step / steps."""
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}")
    shares = [step / steps for step in range(1, steps + 1)]
    return [round(math.exp(a * math.log(keep) + (1 - a) * math.log(total))) for a in shares[:-1]] + [keep]


def force(
    network: nn.Module, images: torch.Tensor, labels: torch.Tensor, pruned: float, steps: int = 60
) -> list[torch.Tensor]:
    """FORCE: fewer weights in each step, by the saliencies of the network that the step before left."""
    keep = kept_weights(network, pruned)
    total = sum(w.numel() for w in weights(network))
    masks = None
    for count in force_schedule(total, keep, steps):
        masks = masks_of_largest(saliencies(network, images, labels, masks), count)
    assert masks is not None
    return masks


METHODS = {"snip": snip, "force": force}


def apply(network: nn.Module, masks: list[torch.Tensor]) -> None:
    """Set the pruned weights to zero, and keep them there: their gradients become zero as well."""
    for weight, mask in zip(weights(network), masks, strict=True):
        with torch.no_grad():
            weight.mul_(mask)
        weight.register_hook(lambda gradient, mask=mask: gradient * mask)


def count_nonzero(network: nn.Module) -> int:
    """Weights that are not zero."""
    return sum(int(torch.count_nonzero(w)) for w in weights(network))
