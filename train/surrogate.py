"""Surrogates: derivatives that stand in for that of the step function. sigma(x) = 1 / (1 + exp(-slope x))."""

from __future__ import annotations

from typing import Any

import torch


def sigmoid_derivative(distance: torch.Tensor, slope: float) -> torch.Tensor:
    """slope * S(slope x) * (1 - S(slope x)), at most slope / 4. distance: voltage minus threshold, any shape."""
    s = torch.sigmoid(slope * distance)
    return slope * s * (1 - s)


class SigmoidSpike(torch.autograd.Function):
    """1 where distance > 0 (strictly), else 0; backward multiplies by `sigmoid_derivative`."""

    @staticmethod
    def forward(ctx: Any, distance: torch.Tensor, slope: float) -> torch.Tensor:
        ctx.save_for_backward(distance)
        ctx.slope = slope
        return (distance > 0).to(distance.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        (distance,) = ctx.saved_tensors
        return gradients[0] * sigmoid_derivative(distance, ctx.slope), None
