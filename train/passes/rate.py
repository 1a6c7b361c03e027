"""Rate-based backpropagation, multi-step: the spiking pass and the rate pass side by side, layer by layer.

source: Yu, Liu, Wang, Li, Wang, "Advancing Training Efficiency of Deep Spiking Neural Networks through Rate-based
Backpropagation", NeurIPS 2024, arXiv 2410.11488.
"""

from __future__ import annotations

from typing import Any

import torch

from lavatube.train.networks.spiking_layer import SpikingLayer
from lavatube.train.neuron_run import mean_over_time, trace
from lavatube.train.norms.rate import normalize_with_rate
from lavatube.train.norms.time_stat import TimeStatNorm
from lavatube.train.passes.base import Linear, Neurons, Pass, fold_time
from lavatube.train.seq import Seq


class RateStraightThrough(torch.autograd.Function):
    """(mean current, rate, eligibility) -> rate; backward multiplies by the eligibility, the only tensor saved."""

    @staticmethod
    def forward(ctx: Any, current_mean: torch.Tensor, rate: torch.Tensor, eligibility: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(eligibility)
        return rate.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (eligibility,) = ctx.saved_tensors
        return eligibility * gradients[0], None, None  # in this order: in the layout of the forward's tensors


class RatePass(Pass):
    """Spikes of every timestep without autograd; one graph on their time means, which does not grow with T."""

    def __init__(self, num_steps: int) -> None:
        super().__init__()
        self.num_steps = num_steps

    def begin(self, steps: torch.Tensor) -> Seq:
        return Seq(steps, steps[0] if len(steps) == 1 else steps.mean(0))

    def linear(self, module: Linear, x: Seq) -> Seq:
        if x.is_static:  # a static input's current is its own mean: computed once, never T times
            rate = module(x.rate)
            return Seq(rate.detach().unsqueeze(0), rate)
        with torch.no_grad():
            steps = fold_time(module, x.steps)
        layer = getattr(module, "__self__", None)
        rate = layer.current(x.rate, mean_over_time(steps)) if isinstance(layer, SpikingLayer) else module(x.rate)
        return Seq(steps, rate)

    def norm(self, norm: TimeStatNorm, x: Seq) -> Seq:
        steps, rate, self.biases[norm.name] = normalize_with_rate(norm, x.steps, x.rate)
        return Seq(steps, rate)

    def neurons(self, population: Neurons, x: Seq) -> Seq:
        spikes, firing, eligibility = trace(x.steps, population.spec, self.num_steps)
        rate = RateStraightThrough.apply(x.rate, firing, eligibility)
        self.rates[population.name] = rate
        return Seq(spikes, rate)
