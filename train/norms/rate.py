"""Normalisation on the rate path: the time mean of the normalised current, with the derivatives of batch statistics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from lavatube.train.norms.all_reduce import mean_over_processes, processes
from lavatube.train.norms.estimators import Moments, Pooled
from lavatube.train.norms.time_stat import TimeStatNorm


def normalize_with_rate(
    norm: TimeStatNorm, steps: torch.Tensor, rate: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, Callable[[], torch.Tensor]]:
    """Normalize the spiking pass, and its time mean with the exact Jacobian in a shift of the mean current.

    steps: [T or 1, B, C, ...], without gradient; rate: [B, C, ...], their mean, with gradient. Statistics over all
    timesteps, and those that are constants to the gradient, need one saved tensor (estimators pooled, running). Others
    need one per timestep, so there the graph grows with T.
    returns: (steps, rate, function that gives the bias [C] that folding these statistics would add).
    source: values as in arXiv 2410.11488's code; the Jacobian is that of the time mean of the norm.
    """
    share = norm.estimator.own_share(0, torch.zeros(norm.num_steps, dtype=torch.bool))
    over_all = isinstance(norm.estimator, Pooled) or share == 0  # of all timesteps, or constants
    if norm.training and not over_all and (len(steps) > 1 or norm.estimator.by_time):
        normal = norm.observe_and_normalize(steps + (rate - rate.detach()))
        return normal.steps.detach(), normal.steps.mean(0), normal.bias
    with torch.no_grad():
        normal = norm.observe_and_normalize(steps)
    mean, var = normal.statistics
    return normal.steps, *rate_of_normalized(norm, rate, (mean[0], var[0]), share)


def rate_of_normalized(
    norm: TimeStatNorm, rate: torch.Tensor, statistics: Moments, own_share: float
) -> tuple[torch.Tensor, Callable[[], torch.Tensor]]:
    """(normalised mean current [B, C, ...], its folded bias) by statistics [C] of the whole sequence.

    own_share: of the statistics, how much follows this batch (see `Estimator.own_share`); the rest are constants.
    """
    if not norm.training or own_share == 0:
        return norm.normalize(rate, statistics), lambda: norm.folded_bias(statistics)
    axes = [axis for axis in range(rate.ndim) if axis != 1]
    mean, var = statistics

    def bias() -> torch.Tensor:
        own = mean_over_processes(rate.mean(axes))
        return norm.folded_bias((mean + own_share * (own - own.detach()), var))

    normal: torch.Tensor = RateNorm.apply(rate, mean, var, norm.weight, norm.bias, norm.eps, own_share)
    return normal, bias


class RateNorm(torch.autograd.Function):
    """(current - mean) / sqrt(var + eps) * weight + bias; var holds the variance within time that the mean has lost.

    backward: dc = i (g' - q mean(g') - q n mean(g' n)), i = 1 / sqrt(var + eps), n = (c - mean) i, g' = weight g, with
    q the share of the statistics that follows this batch (1: batch norm's derivative; 0: constants').
    """

    @staticmethod
    def forward(
        ctx: Any,
        current: torch.Tensor,
        mean: torch.Tensor,
        var: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        eps: float,
        own_share: float,
    ) -> torch.Tensor:
        shape = (-1, *(1,) * (current.ndim - 2))
        inverse = torch.rsqrt(var + eps)
        ctx.save_for_backward(current, mean, inverse, weight)
        ctx.own_share, ctx.eps = own_share, eps
        gain = weight * inverse
        return torch.addcmul((bias - mean * gain).reshape(shape), current, gain.reshape(shape))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (g,) = gradients
        current, mean, inverse, weight = ctx.saved_tensors
        if g.stride() != current.stride():  # whatever else adds to the gradient: one order of summation
            g = torch.empty_like(current).copy_(g)
        if ctx.own_share == 1 and processes() == 1:  # torch's own batch norm, whose backward takes any statistics
            dx, by_weight, by_bias = torch.ops.aten.native_batch_norm_backward(
                g, current, weight, None, None, mean, inverse, True, ctx.eps, [True, True, True]
            )
            return dx, None, None, by_weight, by_bias, None, None
        axes, shape = [axis for axis in range(g.ndim) if axis != 1], (-1, *(1,) * (g.ndim - 2))
        normal = (current - mean.reshape(shape)) * inverse.reshape(shape)
        by_bias, by_weight = g.sum(axes), (g * normal).sum(axes)
        count = g.numel() // len(by_bias)
        means = mean_over_processes(torch.stack([by_bias, by_weight])) * (ctx.own_share / count)
        gain = (weight * inverse).reshape(shape)
        dx = gain * (g - means[0].reshape(shape) - normal * means[1].reshape(shape))
        return dx, None, None, by_weight, by_bias, None, None
