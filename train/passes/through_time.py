"""All timesteps at once, layer by layer; differentiable through time by autograd, or a plain forward without it."""

from __future__ import annotations

import torch
from torch import nn

from lavatube.train.neuron_run import at_rest, mean_over_time, run_through_time, step, voltages_through_time
from lavatube.train.norms.time_stat import TimeStatNorm
from lavatube.train.passes.base import Linear, Neurons, Pass, fold_time
from lavatube.train.seq import Seq


class ThroughTime(Pass):
    """Backpropagation through time; under `torch.no_grad`, the evaluation of a network."""

    def __init__(self, num_steps: int) -> None:
        super().__init__()
        self.num_steps = num_steps

    def linear(self, module: Linear, x: Seq) -> Seq:
        return Seq(fold_time(module, x.steps))

    def norm(self, norm: TimeStatNorm, x: Seq) -> Seq:
        normal = norm.observe_and_normalize(x.steps)
        if norm.training:  # in evaluation nobody asks, and the function would keep the currents alive
            self.biases[norm.name] = normal.bias
        return Seq(normal.steps)

    def neurons(self, population: Neurons, x: Seq) -> Seq:
        current = x.steps.expand(self.num_steps, *x.steps.shape[1:])
        if population.shown:
            self.voltages[population.name] = voltages_through_time(current, population.spec)
        return self._spikes(population, run_through_time(current, population.spec))

    def recurrent(self, feedback: nn.Module, population: Neurons, x: Seq) -> Seq:
        current = x.steps.expand(self.num_steps, *x.steps.shape[1:])
        state, s, spikes, voltages = at_rest(population.spec, current[0]), torch.zeros_like(current[0]), [], []
        for step_current in current:
            s, state, u = step(population.spec, state, step_current + feedback(s), differentiable=True)
            spikes.append(s)
            voltages.append(u)
        if population.shown:
            self.voltages[population.name] = torch.stack(voltages)
        return self._spikes(population, torch.stack(spikes))

    def _spikes(self, population: Neurons, spikes: torch.Tensor) -> Seq:
        self.rates[population.name] = mean_over_time(spikes)
        return Seq(spikes)
