"""Rate-based backpropagation: the spiking pass runs without autograd, the gradient runs once, on firing rates.

source: Yu, Liu, Wang, Li, Wang, "Advancing Training Efficiency of Deep Spiking Neural Networks through Rate-based
Backpropagation", NeurIPS 2024, arXiv 2410.11488; here for the reset to zero, with its exact eligibility.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from lavatube.train.neuron import Lif
from lavatube.train.surrogate import sigmoid_derivative


@dataclass(frozen=True)
class Seq:
    """What flows between layers: values per timestep without gradients, and their mean with gradients.

    steps: [T, B, ...], or [1, B, ...] for values that are the same at every timestep; rate: [B, ...].
    """

    steps: torch.Tensor
    rate: torch.Tensor

    @property
    def is_static(self) -> bool:
        return len(self.steps) == 1


def eligibility_step(
    tangent: torch.Tensor, spikes: torch.Tensor, sigma_prime: torch.Tensor, decay: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """One timestep of "what if the input current moved by the same amount at every step", reset to zero, detached.

    tangent:     dv/dc after the last step, zero at first; spikes: 0 or 1; sigma_prime: surrogate derivative at u.
    decay:       fraction of the voltage that stays.
    returns:     (ds/dc of this step, tangent after it); the eligibility is the mean of the first over the steps.
    """
    du = 1 + decay * tangent
    return sigma_prime * du, du * (1 - spikes)


@torch.no_grad()
def trace(current: torch.Tensor, lif: Lif, num_steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The spiking pass of a population at rest. current: [T, B, ...] or [1, B, ...].

    returns: (spikes [T, B, ...] in the dtype of the current, eligibility [B, ...] = d(rate) / d(mean current)).
    """
    current = current.expand(num_steps, *current.shape[1:])
    spikes = torch.empty(current.shape, dtype=current.dtype, device=current.device)
    v, tangent, total = (torch.zeros_like(current[0]) for _ in range(3))
    for t in range(num_steps):
        u = lif.decay * v + current[t]
        distance = u - lif.threshold
        spikes[t] = distance > 0
        q, tangent = eligibility_step(tangent, spikes[t], sigmoid_derivative(distance, lif.slope), lif.decay)
        total += q
        v = u * (1 - spikes[t])
    return spikes, total / num_steps


class RateStraightThrough(torch.autograd.Function):
    """(mean current, rate, eligibility) -> rate; backward multiplies by the eligibility, the only tensor saved."""

    @staticmethod
    def forward(ctx: Any, current_mean: torch.Tensor, rate: torch.Tensor, eligibility: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(eligibility)
        return rate.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (eligibility,) = ctx.saved_tensors
        return gradients[0] * eligibility, None, None


def rate_lif(current: Seq, lif: Lif, num_steps: int) -> Seq:
    """A population in rate mode: true spikes and their true mean, with the eligibility as its derivative."""
    spikes, eligibility = trace(current.steps, lif, num_steps)
    return Seq(spikes, RateStraightThrough.apply(current.rate, spikes.mean(0), eligibility))
