"""Membrane potential feature distillation: a batch's samples are to be as alike as they are to the teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from lavatube.errors import LavatubeError
from lavatube.train.objectives.term import Term
from lavatube.train.recipe_model import Number
from lavatube.train.seq import Outputs
from lavatube.train.teachers.teacher import Teacher

if TYPE_CHECKING:
    from lavatube.train.networks.network import SpikingNetwork


class Mpfd(Term):
    """weight x sum over pairs of ||G(U) - G(U_T)||_F^2, G(U) = U U^T / ||U U^T||_F.

    U: a row per sample of the batch (of a process's share of it), the voltages of a population; U_T: of the teacher's.
    G is blind to the number of neurons, to rotations of the rows and to a factor, so widths and timesteps may differ.
    No surrogate stands between the loss and the synapses of its population.

    features: {population: feature of the teacher}; empty: every population learns from the teacher's of the same name,
    whose voltages are the feature NAME.u (in a teacher from elsewhere, name what comes before its activations).

    G and the loss are those of S2NN, whose teacher is the same network with free weights. Ours: voltages before the
    reset, at all timesteps side by side; the weight.
    """

    kind: Literal["mpfd"] = "mpfd"
    source: ClassVar[str] = "S2NN: Sub-bit Spiking Neural Networks, NeurIPS 2025 (MPFD)"
    needs_teacher: ClassVar[bool] = True
    weight: Annotated[Number, Field(ge=0)] = 1.0
    features: dict[str, str] = Field(default_factory=dict)

    def heads(self, network: SpikingNetwork, classes: int, teacher: Teacher | None) -> nn.ModuleDict:
        assert teacher is not None
        populations = {population.name: population for population in network.populations()}
        for name, feature in self._pairs(populations).items():
            if name not in populations:
                expected = "one of: " + ", ".join(populations)
                raise LavatubeError("no such population", where="objective mpfd", expected=expected, got=name)
            teacher.show(feature)
            populations[name].shown = self.weight > 0
        return nn.ModuleDict()

    def finalize(self, network: SpikingNetwork) -> None:
        for population in network.populations():
            population.shown = False

    def loss(self, outputs: Outputs, labels: torch.Tensor, heads: nn.ModuleDict) -> torch.Tensor:
        assert outputs.lesson is not None
        taught, total = outputs.lesson.features, outputs.logits.new_zeros(())
        for name, feature in self._pairs(outputs.voltages).items():
            own = gram(outputs.voltages[name].transpose(0, 1))
            total = total + ((own - gram(taught[feature])) ** 2).sum()
        return self.weight * total

    def _pairs(self, populations: object) -> dict[str, str]:
        assert isinstance(populations, dict)
        return self.features or {name: f"{name}.u" for name in populations}


def gram(values: torch.Tensor) -> torch.Tensor:
    """G of values [B, ...], [B, B], of norm 1; 0 where all values are 0."""
    rows = values.flatten(1)
    largest = rows.detach().abs().max()
    rows = rows / torch.where(largest > 0, largest, 1.0)  # or the squares of small ones would be lost
    return F.normalize((rows @ rows.T).flatten(), dim=0).reshape(len(rows), len(rows))
