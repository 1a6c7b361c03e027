"""Batch normalisation for training-only heads, alike on one process and on several."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from lavatube.train.norms.all_reduce import mean_and_variance, processes, refuse_single


class HeadNorm(nn.Module):
    """Batch statistics over all axes but 1 and over all processes, always: a head is never evaluated."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        refuse_single(x, "normalisation of a training-only head", "raise optimizer.batch_size")
        if processes() == 1:
            return F.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.eps)
        mean, var = mean_and_variance(x, [axis for axis in range(x.ndim) if axis != 1])
        gain = self.weight * torch.rsqrt(var + self.eps)
        shape = (-1, *(1,) * (x.ndim - 2))
        return x * gain.reshape(shape) + (self.bias - mean * gain).reshape(shape)
