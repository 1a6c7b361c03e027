"""Differentiation on spike representation: the backward pass goes through a clamp of time means, not through time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from pydantic import Field

from lavatube.errors import UnsupportedError
from lavatube.train.gradients.rule import Backward, GradientRule, LossOf, refuse_unless_averages_suffice
from lavatube.train.gradients.trained_thresholds import (
    NAME,
    ClampedRate,
    hold_thresholds,
    keep_thresholds,
    train_thresholds,
)
from lavatube.train.neuron_run import run_through_time
from lavatube.train.passes.base import Neurons
from lavatube.train.passes.rate import RatePass
from lavatube.train.recipe_model import Number
from lavatube.train.seq import Seq

if TYPE_CHECKING:
    from lavatube.train.networks.network import SpikingNetwork


class Dsr(GradientRule):
    """For neurons with a reset by subtraction, in the chain with or without leak, with any `fire_at`.

    With weights l[t] in proportion to decay^(T - t) and the representations i = sum l[t] I[t], o = sum l[t] s[t] (time
    means without leak), o = i / V - (what is left in v) / V, so o is modelled as clamp(i / V, 0, 1):
    d(o)/d(i) = 1[0 <= i <= V] / V. The threshold V trains: of the amplitude V o, d(V o)/d(V) = 1[i > V].
    One graph on the representations carries it; memory does not depend on T.
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
    thresholds: Literal["trained", "fixed"] = "trained"
    least: Annotated[Number, Field(gt=0, le=1)] = 0.01

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"soft reset"})

    def attach(self, network: SpikingNetwork) -> None:
        refuse_unless_averages_suffice(network, "dsr")
        refuse_unless_clamped(network, "dsr")
        if self.thresholds == "trained":
            train_thresholds(network, self.least, rule="dsr")

    def finalize(self, network: SpikingNetwork) -> None:
        keep_thresholds(network)

    def gradients(
        self,
        network: SpikingNetwork,
        inputs: torch.Tensor,
        objective: LossOf,
        backward: Backward = torch.Tensor.backward,
    ) -> torch.Tensor:
        hold_thresholds(network, self.least)
        decay = network.populations()[0].spec.decay if network.populations() else 1.0
        loss = objective(network(inputs, Representations(network.num_steps, decay)))
        backward(loss)
        return loss.detach()


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


def refuse_unless_clamped(network: SpikingNetwork, rule: str, *, outputs: tuple[str, ...] = ("binary",)) -> None:
    """For rules whose mean output is a clamp of the mean input. raises: UnsupportedError for another neuron or norm."""
    for population in network.populations():
        spec = population.spec
        if spec.reset != "subtract" or spec.output not in outputs or spec.refractory:
            got = f"reset {spec.reset}, output {spec.output}, refractory {spec.refractory}"
            expected = f"reset subtract, output {' or '.join(outputs)}, no refractory period"
            raise UnsupportedError(
                "these neurons do not clamp their mean", where=f"gradient {rule}", expected=expected, got=got
            )
    varying = [norm.estimator.kind for norm in network.norms() if not norm.estimator.constant]
    if varying:
        raise UnsupportedError(
            f"normalization {varying[0]} differs from timestep to timestep", where=f"gradient {rule}",
            expected="one mean and variance for all", got=varying[0], remedy="use normalization pooled or running",
        )  # fmt: skip
