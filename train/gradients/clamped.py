"""What rules share that model a population's mean output as a clamp of its mean input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from pydantic import Field

from lavatube.errors import UnsupportedError
from lavatube.train.gradients.rule import Backward, GradientRule, LossOf, refuse_unless_averages_suffice
from lavatube.train.gradients.trained_thresholds import hold_thresholds, keep_thresholds, train_thresholds
from lavatube.train.passes.base import Pass
from lavatube.train.recipe_model import Number

if TYPE_CHECKING:
    from lavatube.train.networks.network import SpikingNetwork


class ClampedRule(GradientRule):
    """A rule that trains by one pass of means, with neurons that are reset by subtraction.

    thresholds: "trained" (one per layer, from neuron.v_threshold on) or "fixed".
    least:      of a trained threshold, in units of neuron.v_threshold.
    outputs:    of neurons that it can train.
    """

    outputs: ClassVar[tuple[str, ...]] = ("binary",)
    thresholds: Literal["trained", "fixed"] = "trained"
    least: Annotated[Number, Field(gt=0, le=1)] = 0.01

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"soft reset"})

    def means(self, network: SpikingNetwork) -> Pass:
        """The pass through the network whose graph carries the gradient."""
        raise NotImplementedError

    def attach(self, network: SpikingNetwork) -> None:
        refuse_unless_averages_suffice(network, self.kind)
        refuse_unless_clamped(network, self.kind, self.outputs)
        if self.thresholds == "trained":
            train_thresholds(network, self.least, rule=self.kind)

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
        loss = objective(network(inputs, self.means(network)))
        backward(loss)
        return loss.detach()


def refuse_unless_clamped(network: SpikingNetwork, rule: str, outputs: tuple[str, ...]) -> None:
    """raises: UnsupportedError for another neuron or norm."""
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
