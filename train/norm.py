"""Batch normalisation over time and batch, for both gradient rules; exact to fold after training."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lavatube.train.rate import Seq

Statistics = tuple[torch.Tensor, torch.Tensor]


class TimeBatchNorm(nn.Module):
    """One mean and variance per channel over timesteps, samples and places; running ones in evaluation.

    In rate mode the values use the statistics of the spiking pass, the gradient those of the mean current.
    source: arXiv 2410.11488 and its code, multi-step form.
    """

    weight: nn.Parameter
    bias: nn.Parameter
    running_mean: torch.Tensor
    running_var: torch.Tensor

    def __init__(self, channels: int, *, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, current: torch.Tensor, num_steps: int) -> tuple[torch.Tensor, torch.Tensor]:
        """current: [T, B, C, ...], or [1, B, C, ...] if it is static over num_steps. Differentiable by autograd.

        returns: (normalised current, bias [C] that folding these statistics would add).
        """
        mean, var = self._statistics(current, num_steps)
        return self._affine(current, (mean, var), channel_axis=2), self._folded_bias(mean, var)

    def rate(self, current: Seq, num_steps: int) -> tuple[Seq, torch.Tensor]:
        """The same, on a sequence in rate mode."""
        with torch.no_grad():
            mean, var = self._statistics(current.steps, num_steps)
            steps = self._affine(current.steps, (mean, var), channel_axis=2)
        if not self.training:
            return Seq(steps, self._affine(current.rate, (mean, var), channel_axis=1)), self._folded_bias(mean, var)
        rate = RateNorm.apply(current.rate, mean, var, self.weight, self.bias, self.eps)
        own_mean = current.rate.mean([axis for axis in range(current.rate.ndim) if axis != 1])
        return Seq(steps, rate), self._folded_bias(own_mean, var)

    def _folded_bias(self, mean: torch.Tensor, var: torch.Tensor) -> torch.Tensor:
        return self.bias - self.weight * mean * torch.rsqrt(var.detach() + self.eps)

    def _statistics(self, current: torch.Tensor, num_steps: int) -> Statistics:
        if not self.training:
            return self.running_mean, self.running_var
        axes = [axis for axis in range(current.ndim) if axis != 2]
        var, mean = torch.var_mean(current, axes, correction=0)
        count = current.numel() // len(mean) * num_steps // len(current)
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * (count / max(count - 1, 1)), self.momentum)
        return mean, var

    def _affine(self, x: torch.Tensor, statistics: Statistics, *, channel_axis: int) -> torch.Tensor:
        shape = (-1, *(1,) * (x.ndim - channel_axis - 1))
        mean, var = (value.reshape(shape) for value in statistics)
        return (x - mean) * torch.rsqrt(var + self.eps) * self.weight.reshape(shape) + self.bias.reshape(shape)


class RateNorm(torch.autograd.Function):
    """Normalise the mean current [B, C, ...] by given statistics [C]; the backward is that of batch statistics."""

    @staticmethod
    def forward(
        ctx: Any,
        current: torch.Tensor,
        mean: torch.Tensor,
        var: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        eps: float,
    ) -> torch.Tensor:
        shape = (-1, *(1,) * (current.ndim - 2))
        inverse = torch.rsqrt(var + eps).reshape(shape)
        mean = mean.reshape(shape)
        ctx.save_for_backward(current, mean, inverse, weight)
        return (current - mean) * inverse * weight.reshape(shape) + bias.reshape(shape)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (g,) = gradients
        current, mean, inverse, weight = ctx.saved_tensors
        axes = [axis for axis in range(g.ndim) if axis != 1]
        normal = (current - mean) * inverse
        by_normal = g * normal
        scaled = weight.reshape(inverse.shape)
        dx = g - g.mean(axes, keepdim=True) - normal * by_normal.mean(axes, keepdim=True)
        return inverse * scaled * dx, None, None, by_normal.sum(axes), g.sum(axes), None
