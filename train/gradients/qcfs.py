"""Conversion with error compensation: train the artificial twin of the spiking network, deploy the spiking one."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch

from lavatube.errors import UnsupportedError
from lavatube.train.gradients.clamped import ClampedRule
from lavatube.train.gradients.trained_thresholds import NAME, ClampedRate
from lavatube.train.passes.base import Neurons
from lavatube.train.passes.through_time import ThroughTime
from lavatube.train.recipe_model import Positive
from lavatube.train.seq import Seq

if TYPE_CHECKING:
    from lavatube.train.networks.network import SpikingNetwork


class Qcfs(ClampedRule):
    """Training never spikes: each population is the activation h(z) = V clip(floor(z L / V + 1/2) / L, 0, 1).

    z is the mean current; floor passes the gradient, so d(h)/d(z) = 1[0 <= z <= V] and d(h)/d(V) = h/V - z/V inside, 1
    above. The twin is the network itself with neurons of threshold V, reset by subtraction, no leak: from V / 2 they
    emit round(z T / V) spikes in T timesteps of a constant z, which for T = L is h exactly (ties aside: here neurons
    fire above the threshold, not at it). From 0, the default of neuron.v_initial, they emit the floor instead, which is
    allowed. Evaluation, quantization and deployment see the spiking network.

    Three errors, three remedies: clipping, thresholds that train; quantization and uneven spikes, a start from V / 2
    and signed spikes that take back one too many, but never one that was not sent:
    `neuron: {decay: 1, reset: subtract, v_initial: 0.5, output: signed, memory_gate: true, v_threshold_low: 0}`.

    neuron.surrogate has no part in this training; what uses it is the fine-tuning of `lavatube quantize`.

    levels:     L.
    thresholds: "trained" (one per layer, from neuron.v_threshold on) or "fixed".
    least:      of a trained threshold, in units of neuron.v_threshold.

    The papers': h and its gradients (QCFS), the half threshold, the three errors, the signed neuron with a memory gate.
    Ours: v_threshold_low 0 (the best of our pilots), one network for both twins, norm statistics of mean currents.
    """

    kind: Literal["qcfs"] = "qcfs"
    source: ClassVar[str] = "QCFS: Bu et al., ICLR 2022; error compensation: ICML 2025; memory gate: IJCAI 2022 (SNM)"
    outputs: ClassVar[tuple[str, ...]] = ("binary", "signed")
    levels: Positive = 4

    def attach(self, network: SpikingNetwork) -> None:
        leaky = [population.spec.decay for population in network.populations() if population.spec.dv]
        if leaky:
            what, got = "neurons that leak do not count their input", f"neuron.decay {leaky[0]:g}"
            raise UnsupportedError(what, where="gradient qcfs", expected="neuron.decay 1", got=got)
        super().attach(network)

    def means(self, network: SpikingNetwork) -> Twin:
        return Twin(self.levels)


class Twin(ThroughTime):
    """The artificial network: the mean of the events, once through the layers."""

    def __init__(self, levels: int) -> None:
        super().__init__(1)
        self.levels = levels

    def begin(self, steps: torch.Tensor) -> Seq:
        return Seq(steps.mean(0, keepdim=True))

    def neurons(self, population: Neurons, x: Seq) -> Seq:
        current, threshold = x.steps[0], population.spec.v_threshold
        level = torch.floor(current.detach() * (self.levels / threshold) + 0.5) / self.levels
        scale = getattr(population, NAME, None)
        rate: torch.Tensor = ClampedRate.apply(current, level.clamp(0, 1), scale, threshold, True)
        self.rates[population.name] = rate
        return Seq(rate.unsqueeze(0))
