"""Binary weights: a sign per weight, a magnitude per channel or layer."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import nn

from lavatube.train.networks.spiking_layer import SpikingLayer
from lavatube.train.weights.rule import WeightRule


class SignStraightThrough(torch.autograd.Function):
    """Sign of latent weights, that of 0 is +1; the gradient passes where |w| <= 1."""

    @staticmethod
    def forward(ctx: Any, latent: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(latent)
        return torch.where(latent < 0, -1.0, 1.0).to(latent.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        (latent,) = ctx.saved_tensors
        passed: torch.Tensor = gradients[0] * (latent.abs() <= 1)
        return passed


class Magnitude(nn.Module):
    """alpha of latent weights [O, ...], broadcast to them: mean |w| of what is not 0, or a parameter from there on."""

    def __init__(
        self, weight: torch.Tensor, per: Literal["channel", "layer"], scale: Literal["mean", "learnt"]
    ) -> None:
        super().__init__()
        self.per = per
        self.learnt = nn.Parameter(self._mean(weight.detach())) if scale == "learnt" else None

    def _mean(self, latent: torch.Tensor) -> torch.Tensor:
        rows = latent.abs().reshape(1 if self.per == "layer" else len(latent), -1)
        total, count = rows.sum(1), (rows > 0).sum(1)  # what a sparsity schedule pruned is exactly 0
        # and so is what it has just grown: a row of nothing else would have no gradient, and stay so
        mean = torch.where(count > 0, total / count.clamp(min=1), total.sum() / count.sum().clamp(min=1))
        return mean[0] if self.per == "layer" else mean

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        alpha = self._mean(latent.detach()) if self.learnt is None else self.learnt.abs()
        return alpha if alpha.ndim == 0 else alpha.reshape(-1, *(1,) * (latent.ndim - 1))


class BinaryLatent(nn.Module):
    """alpha sign(w)."""

    def __init__(self, magnitude: Magnitude) -> None:
        super().__init__()
        self.magnitude = magnitude

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        weight: torch.Tensor = self.magnitude(latent) * SignStraightThrough.apply(latent)
        return weight


class Binary(WeightRule):
    """w_b = alpha sign(w), sign(0) = +1; d sign(w) / dw = 1[|w| <= 1]; w: latent weights, alpha: a magnitude.

    per:   "channel" (XNOR-Net) or "layer": without normalization, the exported integers are then 1 and -1 (2 bits).
    scale: "mean": alpha = mean |w|, without a gradient (XNOR-Net's term w / n passes one; behind a normalisation that
           only pulls all latent weights to zero: digits, 8 epochs, 31 % of test samples right with it, 82 % without).
           "learnt": a parameter |alpha| that starts there (ours: its sign is left to the weights).
    Weights that are exactly 0, as pruned ones are, do not count in the mean; where a channel has no others, alpha is
    the layer's mean (ours). Latent weights are not clipped: where |w| > 1 the gradient of the sign stops. After folding
    the normalisation a channel still has two values, so quantization keeps one magnitude per channel, and its
    fine-tuning the signs.
    """

    kind: Literal["binary"] = "binary"
    source: ClassVar[str] = "Rastegari et al. 2016 (XNOR-Net), sec. 3.1; straight-through: Courbariaux et al. 2016"
    values_per_channel: ClassVar[int] = 2
    per: Literal["channel", "layer"] = "channel"
    scale: Literal["mean", "learnt"] = "mean"

    def parametrization(self, layer: SpikingLayer) -> nn.Module:
        return BinaryLatent(Magnitude(layer.synapse.weight, self.per, self.scale))
