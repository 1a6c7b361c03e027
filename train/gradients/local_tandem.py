"""Local tandem learning: each layer learns from its own loss; no gradient crosses from one population to the next."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import nn

from lavatube.errors import LavatubeError
from lavatube.train.gradients.rule import Backward, GradientRule, LossOf, refuse_unless_step_by_step
from lavatube.train.passes.base import Neurons
from lavatube.train.passes.step_by_step import OnlineStep, SequenceState
from lavatube.train.passes.through_time import ThroughTime
from lavatube.train.plugin import Step
from lavatube.train.recipe_model import Natural
from lavatube.train.seq import Seq

if TYPE_CHECKING:
    from lavatube.train.networks.network import SpikingNetwork


class LocalTandem(GradientRule):
    """Each population's spikes are constants to whatever they drive; only `Outputs.rates` keep their gradient.

    So a term on the rate of a population (`tandem`; a recipe without one is refused) trains the synapses and norms into
    that population, and the classification loss trains the read-out. Taps (of stages) carry no gradient here. A layer
    that no term teaches (a population that is not among `tandem.features`) is refused in the first step.

    form:    "offline": through time within a layer. "online": not through time either; at every timestep a loss on the
             rates and the mean read-out so far, of which only the newest timestep has a gradient.
    warm_up: online: timesteps before the first loss.

    The paper's: both forms, the losses, a non-spiking read-out, the warm-up (12 of 16). Ours: norms, any neuron of this
    library, networks with shortcuts and recurrence.
    """

    kind: Literal["local_tandem"] = "local_tandem"
    source: ClassVar[str] = "Yang, Wu, Zhang, Chua, Wang, Li, NeurIPS 2022; code Aries231/Local_tandem_learning_rule"
    form: Literal["offline", "online"] = "offline"
    warm_up: Natural = 0

    def attach(self, network: SpikingNetwork) -> None:
        if self.form == "offline":
            if self.warm_up:
                what, remedy = "a warm-up before a single loss", "set form: online, or leave warm_up out"
                raise LavatubeError(what, where="gradient local_tandem", got=f"warm_up {self.warm_up}", remedy=remedy)
            return
        refuse_unless_step_by_step(network, "gradient local_tandem, form online", "; or form: offline")
        if self.warm_up >= network.num_steps:
            what, expected = "no timestep is left after the warm-up", f"below {network.num_steps} timesteps"
            raise LavatubeError(what, where="gradient local_tandem", expected=expected, got=str(self.warm_up))

    def gradients(
        self,
        network: SpikingNetwork,
        inputs: torch.Tensor,
        objective: LossOf,
        backward: Backward = torch.Tensor.backward,
    ) -> torch.Tensor:
        if self.form == "offline":
            loss = objective(network(inputs, LayerByLayer(network.num_steps)))
            backward(loss)
            return loss.detach()
        steps, state, past = network.present(inputs), SequenceState(), Past()
        total, share = torch.zeros((), device=steps.device), 1 / (network.num_steps - self.warm_up)
        for t in range(network.num_steps):
            run = LayerStep(state, past)
            outputs = network.body_outputs(steps[t if len(steps) > 1 else 0].unsqueeze(0), run)
            logits = past.mean("", outputs.logits)
            past.steps += 1
            if t >= self.warm_up:
                loss = objective(replace(outputs, logits=logits)) * share
                backward(loss)
                total += loss.detach()
        state.end()
        return total

    def before_update(self, network: SpikingNetwork, step: Step) -> None:
        """raises: LavatubeError naming the layers that no term reaches: nothing would ever train them."""
        untaught = [name for name, value in network.named_parameters() if value.requires_grad and value.grad is None]
        if layers := dict.fromkeys(re.split(r"\.(?:synapse|norm|feedback)\b", name)[0] for name in untaught):
            raise LavatubeError(
                "no term of the objective teaches " + ", ".join(layers),
                where="gradient local_tandem",
                expected="a target for every population",
                remedy="give each a feature in tandem.features; or leave features out, for those of the same names",
            )


class LayerByLayer(ThroughTime):
    """All timesteps at once; what a population drives sees its spikes without gradient."""

    def neurons(self, population: Neurons, x: Seq) -> Seq:
        return Seq(super().neurons(population, x).steps.detach())

    def recurrent(self, feedback: nn.Module, population: Neurons, x: Seq) -> Seq:
        return Seq(super().recurrent(feedback, population, x).steps.detach())


@dataclass
class Past:
    """Sums over the timesteps before, without gradient, by population; "": the read-out."""

    sums: dict[str, torch.Tensor] = field(default_factory=dict)
    steps: int = 0

    def mean(self, name: str, value: torch.Tensor) -> torch.Tensor:
        """Mean up to this timestep, with the gradient of `value`."""
        total = value + self.sums[name] if name in self.sums else value
        self.sums[name] = total.detach()
        return total / (self.steps + 1)


class LayerStep(OnlineStep):
    """One timestep; rates are those so far, and what a population drives sees its spikes without gradient."""

    def __init__(self, state: SequenceState, past: Past) -> None:
        super().__init__(state)
        self.past = past

    def neurons(self, population: Neurons, x: Seq) -> Seq:
        spikes = super().neurons(population, x).steps
        self.rates[population.name] = self.past.mean(population.name, spikes[0])
        return Seq(spikes.detach())
