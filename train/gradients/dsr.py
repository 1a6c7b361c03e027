"""Differentiation on spike representation: the backward pass goes through a clamp of time means, not through time."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch

from lavatube.train.gradients.clamped import ClampedRule
from lavatube.train.gradients.trained_thresholds import NAME, ClampedRate
from lavatube.train.neuron_run import run_through_time
from lavatube.train.passes.base import Neurons
from lavatube.train.passes.rate import RatePass
from lavatube.train.seq import Seq

if TYPE_CHECKING:
    from lavatube.train.networks.network import SpikingNetwork


class Dsr(ClampedRule):
    """For neurons with a reset by subtraction, in the chain with or without leak, with any `fire_at`.

    With weights l[t] in proportion to decay^(T - t) and the representations i = sum l[t] I[t], o = sum l[t] s[t] (time
    means without leak), o = i / V - (what is left in v) / V, so o is modelled as clamp(i / V, 0, 1):
    d(o)/d(i) = 1[0 <= i <= V] / V. The threshold V trains: of the amplitude V o, d(V o)/d(V) = 1[i > V].
    One graph on the representations carries it: what it keeps does not depend on T. In the forward pass, one layer's
    spikes of all timesteps are there at a time.
    neuron.surrogate has no part in this training; what uses it is the fine-tuning of `lavatube quantize`.

    thresholds: "trained" (one per layer, from neuron.v_threshold on) or "fixed".
    least:      of a trained threshold, in units of neuron.v_threshold.

    The paper's: the model, both derivatives, thresholds that train with a floor, firing at fire_at V (0.5 without leak,
    0.3 with). Ours: the weighted mean for this library's leak (u = decay v + I; theirs also scales I), one graph on
    representations instead of the same gradient at every timestep, amplitudes that are folded into weights as they
    train. Evaluation reads the plain mean over time, training the representation; without leak they are the same.
    """

    kind: Literal["dsr"] = "dsr"
    source: ClassVar[str] = "Meng, Xiao, Yan, Wang, Lin, Luo, CVPR 2022; code qymeng94/DSR"

    def means(self, network: SpikingNetwork) -> Representations:
        decay = network.populations()[0].spec.decay if network.populations() else 1.0
        return Representations(network.num_steps, decay)


class Representations(RatePass):
    """Spikes of every timestep without autograd; one graph on their representations. decay: of every population."""

    def __init__(self, num_steps: int, decay: float) -> None:
        super().__init__(num_steps)
        weights = decay ** torch.arange(num_steps - 1, -1, -1, dtype=torch.float64)
        self.weights = weights / weights.sum()

    def begin(self, steps: torch.Tensor) -> Seq:
        return Seq(steps, steps[0] if len(steps) == 1 else self._mean(steps))

    def neurons(self, population: Neurons, x: Seq) -> Seq:
        spec = population.spec
        with torch.no_grad():
            spikes = run_through_time(x.steps.expand(self.num_steps, *x.steps.shape[1:]), spec)
            mean = self._mean(spikes)
        scale = getattr(population, NAME, None)
        rate: torch.Tensor = ClampedRate.apply(x.rate, mean, scale, spec.v_threshold, False)
        self.rates[population.name] = rate
        return Seq(spikes, rate)

    def _mean(self, steps: torch.Tensor) -> torch.Tensor:
        mean: torch.Tensor = torch.tensordot(self.weights.to(steps), steps, 1)
        return mean
