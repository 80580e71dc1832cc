"""Deep rewiring: connections come and go in the training, and their number stays below a limit.

Bellec, Kappel, Maass, Legenstein, "Deep rewiring: training very sparse deep networks" (2018). Each connection has a
parameter theta and a fixed sign. Its weight is sign * theta where theta is 0 or above (active), else 0 (dormant). An
active connection follows the gradient, an L1 term and a random walk. One that falls below 0 becomes dormant.

Deep R makes as many random dormant connections active, so that each layer keeps its number. The global constraint keeps
the number over all layers together. Soft Deep R has no such rule: dormant connections walk at random down to a lowest
theta, and become active above 0, so their number varies.
"""

import torch
from networks import weights
from torch import nn

VARIANTS = ("deep r", "global", "soft")


class Rewiring:
    """An optimiser of the weights; biases follow the gradient alone.

    Parameters
    ----------
    network : nn.Module
    variant : str
        One of VARIANTS.
    connectivity : float
        Limit of the share of active connections. Soft Deep R starts with half of it, because its number grows.
    rate, l1, temperature : float
        Step, weight of the L1 term, and temperature of the random walk: its step is sqrt(2 rate temperature).

    Notes
    -----
    Without a gradient, the thetas of soft Deep R settle in a density that is even from the lowest theta to 0 and falls
    as exp(-theta l1 / temperature) above. So the share of active connections settles at the connectivity if the lowest
    theta is -(temperature / l1) (1 - connectivity) / connectivity. Here that is half of the limit, which leaves room
    for the connections that the gradient holds.
    """

    def __init__(
        self,
        network: nn.Module,
        variant: str = "deep r",
        connectivity: float = 0.1,
        *,
        rate: float = 0.05,
        l1: float = 1e-3,
        temperature: float = 1e-7,
        seed: int = 0,
    ) -> None:
        if variant not in VARIANTS:
            raise ValueError(f"variant must be one of {', '.join(VARIANTS)}, not {variant!r}")
        if not 0 < connectivity <= 1:
            raise ValueError(f"connectivity must be above 0 and at most 1, not {connectivity}")
        self.variant, self.rate, self.l1 = variant, rate, l1
        share = connectivity / 2 if variant == "soft" else connectivity
        self.lowest = -(temperature / l1) * (1 - share) / share
        self.noise = (2 * rate * temperature) ** 0.5
        self.weights = weights(network)
        self.others = [p for p in network.parameters() if all(p is not w for w in self.weights)]
        self.random = torch.Generator().manual_seed(seed)
        self.signs = [torch.randint(0, 2, w.shape, generator=self.random) * 2.0 - 1 for w in self.weights]
        self.counts = [round(w.numel() * share) for w in self.weights]
        self.thetas = [self._first(w, count) for w, count in zip(self.weights, self.counts, strict=True)]
        self._write()

    def _first(self, weight: torch.Tensor, count: int) -> torch.Tensor:
        """First thetas of a layer: `count` active ones, as large as its inputs need, the others dormant."""
        inputs = weight[0].numel() * count / weight.numel()
        theta = torch.randn(weight.shape, generator=self.random).abs() * (2 / max(inputs, 1)) ** 0.5
        dormant = torch.randperm(theta.numel(), generator=self.random)[count:]
        theta.view(-1)[dormant] = torch.rand(len(dormant), generator=self.random) * self.lowest - 1e-12
        return theta

    @property
    def active(self) -> int:
        """Active connections."""
        return sum(int((theta >= 0).sum()) for theta in self.thetas)

    @torch.no_grad()
    def step(self) -> None:
        """One step along the gradients that the parameters hold; it clears them."""
        for weight, sign, theta in zip(self.weights, self.signs, self.thetas, strict=True):
            active = theta >= 0
            walk = torch.randn(theta.shape, generator=self.random) * self.noise
            step = walk - self.rate * (weight.grad * sign + self.l1)
            if self.variant == "soft":
                dormant = torch.clamp(theta + walk, min=self.lowest)
                theta.copy_(torch.where(active, theta + step, dormant).clamp_(min=self.lowest))
            else:
                theta.copy_(torch.where(active, theta + step, -1.0))
        for parameter in self.others:
            parameter -= self.rate * parameter.grad
            parameter.grad = None
        if self.variant == "deep r":
            for theta, count in zip(self.thetas, self.counts, strict=True):
                self._rewire([theta], count)
        elif self.variant == "global":
            self._rewire(self.thetas, sum(self.counts))
        self._write()

    def _rewire(self, thetas: list[torch.Tensor], count: int) -> None:
        """Make random dormant connections of these layers active, until `count` are, from theta 0."""
        dormant = torch.cat([theta.flatten() < 0 for theta in thetas]).nonzero().flatten()
        missing = count - (sum(theta.numel() for theta in thetas) - len(dormant))
        if missing <= 0:
            return
        chosen = dormant[torch.randperm(len(dormant), generator=self.random)[:missing]]
        begin = 0
        for theta in thetas:
            mine = chosen[(chosen >= begin) & (chosen < begin + theta.numel())] - begin
            theta.view(-1)[mine] = 0.0
            begin += theta.numel()

    def _write(self) -> None:
        """The weights of the network, from theta and the signs."""
        for weight, sign, theta in zip(self.weights, self.signs, self.thetas, strict=True):
            weight.data.copy_(sign * theta.clamp(min=0))
            weight.grad = None
