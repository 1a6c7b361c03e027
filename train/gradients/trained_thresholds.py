"""Thresholds that train, one per layer: each population fires at, subtracts and emits `scale` times its threshold.

A population with threshold a theta and events of a is one with threshold theta and events of 1, if what drives it is
divided by a and what it drives is multiplied by a. So the network itself never changes: its weights do, by a
parametrization whose values are those that stay after training. `a` is a constant there; it gets its gradient from
`ClampedRate` alone, as papers that train thresholds define it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from lavatube.errors import UnsupportedError
from lavatube.train.networks.chain import ChainNetwork
from lavatube.train.networks.network import SpikingNetwork
from lavatube.train.sparsity.masks import live_of

NAME = "threshold_scale"  # of the parameter, in a population


class Scaled(nn.Module):
    """A tensor times (power 1) or divided by (power -1) a threshold's scale, which gets no gradient from here."""

    def __init__(self, scale: nn.Parameter, least: float, power: int) -> None:
        super().__init__()
        self.held = (scale,)  # in a tuple, so that the parameter is the population's alone
        self.least, self.power = least, power

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        scale = self.held[0].detach().clamp(min=self.least)
        return value * scale if self.power > 0 else value / scale


def train_thresholds(network: SpikingNetwork, least: float, *, rule: str) -> None:
    """Give each population of a chain a threshold that trains. least: of its scale, which is 1 at first.

    raises: UnsupportedError for networks in which the events of a population do not go into one layer's weights.
    """
    if not isinstance(network, ChainNetwork):
        raise UnsupportedError(
            "thresholds that train need a layer's weights behind every population", where=f"gradient {rule}",
            expected="a network of kind chain or vgg", got=type(network).__name__, remedy="set thresholds: fixed",
        )  # fmt: skip
    layers = [layer for _, layer in network.chain()]
    for layer, following in pairwise(layers):
        assert layer.neurons is not None
        scale = nn.Parameter(torch.ones(()))
        setattr(layer.neurons, NAME, scale)
        driver = layer.synapse if layer.norm is None else layer.norm
        for name in ("weight", "bias"):
            parametrize.register_parametrization(driver, name, Scaled(scale, least, -1))
        parametrize.register_parametrization(following.synapse, "weight", Scaled(scale, least, 1))


@torch.no_grad()
def hold_thresholds(network: SpikingNetwork, least: float) -> None:
    """Before a forward pass: a step that took a scale below `least` left it there, and no further."""
    for population in network.populations():
        if (scale := getattr(population, NAME, None)) is not None:
            scale.clamp_(min=least)


def keep_thresholds(network: SpikingNetwork) -> None:
    """Leave the weights as they are used, and drop the scales.

    A masked tensor is left to who masked it, and who still has to see what of it lives: the mask is folded with all
    that is before it.
    """
    for module in network.modules():
        parametrized: Mapping[str, Iterable[nn.Module]] = getattr(module, "parametrizations", {})
        for name in list(parametrized):
            if live_of(module, name) is None and any(isinstance(each, Scaled) for each in parametrized[name]):
                parametrize.remove_parametrizations(module, name, leave_parametrized=True)
    for population in network.populations():
        if hasattr(population, NAME):
            delattr(population, NAME)


class ClampedRate(torch.autograd.Function):
    """The rate of a population, whose derivative is that of clamp(mean current / threshold, 0, 1).

    forward:  (mean current [B, ...], rate [B, ...], scale a or None, threshold, error) -> rate.
    backward: d/d(current) = 1[0 <= x <= 1] / threshold with x = current / threshold. Of the amplitude a rate:
              d(a rate)/da = 1[x > 1], and with `error` also (rate - x) inside, which is what rounding leaves.
    """

    @staticmethod
    def forward(
        ctx: Any, current: torch.Tensor, rate: torch.Tensor, scale: torch.Tensor | None, threshold: float, error: bool
    ) -> torch.Tensor:
        x = current / threshold
        inside, above = (x >= 0) & (x <= 1), x > 1
        ctx.threshold, ctx.scale = threshold, None if scale is None else float(scale)
        of_scale = None
        if scale is not None:
            of_scale = above.to(x.dtype) + inside * (rate - x) if error else above
        ctx.save_for_backward(inside, of_scale)
        return rate.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        inside, of_scale = ctx.saved_tensors
        gradient = gradients[0]  # by the rate; by the amplitude a rate it is 1 / a of that
        by_scale = None if of_scale is None else (gradient * of_scale).sum() / ctx.scale
        return gradient * inside / ctx.threshold, None, by_scale, None, None
