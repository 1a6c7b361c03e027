"""The leaky integrate-and-fire neuron: u = decay v + I; spike = u > threshold; v = 0 after a spike, else u."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lavatube.train.surrogate import SigmoidSpike


@dataclass(frozen=True)
class Lif:
    """decay: fraction of the voltage that stays each timestep; threshold: in units of the current;
    slope: of the sigmoid surrogate, in 1 / threshold unit."""

    decay: float
    threshold: float = 1.0
    slope: float = 4.0


def run_lif(current: torch.Tensor, lif: Lif) -> torch.Tensor:
    """Spikes of neurons at rest before the first step, differentiable through all timesteps (BPTT).

    The reset passes no gradient ("detached"). current: [T, B, ...]; returns: [T, B, ...], 0 or 1 in its dtype.
    """
    spikes: list[torch.Tensor] = []
    v = torch.zeros_like(current[0])
    for step_current in current:
        u = lif.decay * v + step_current
        spike: torch.Tensor = SigmoidSpike.apply(u - lif.threshold, lif.slope)
        v = u * (1 - spike.detach())
        spikes.append(spike)
    return torch.stack(spikes)
