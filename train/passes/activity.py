"""How active every population is: a plain forward that also measures the voltages."""

from __future__ import annotations

import torch

from lavatube.train.neuron_run import at_rest, step
from lavatube.train.passes.base import Neurons
from lavatube.train.passes.through_time import ThroughTime
from lavatube.train.seq import Seq


class ActivityPass(ThroughTime):
    """Means per channel [C] over timesteps, samples and places, by population; those with feedback are not measured.

    voltages: of |u|, before the reset; events: of |s|. Call without autograd.
    """

    def __init__(self, num_steps: int) -> None:
        super().__init__(num_steps)
        self.voltages: dict[str, torch.Tensor] = {}
        self.events: dict[str, torch.Tensor] = {}

    def neurons(self, population: Neurons, x: Seq) -> Seq:
        current = x.steps.expand(self.num_steps, *x.steps.shape[1:])
        state, spikes, voltages = at_rest(population.spec, current[0]), [], []
        for now in current:
            s, state, u = step(population.spec, state, now)
            spikes.append(s)
            voltages.append(u)
        for found, values in ((self.voltages, voltages), (self.events, spikes)):
            steps = torch.stack(values).abs()
            found[population.name] = steps.mean([axis for axis in range(steps.ndim) if axis != 2])
        return self._spikes(population, torch.stack(spikes))
