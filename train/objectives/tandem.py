"""Local tandem learning's loss: firing rates go to a teacher's normalized activations, layer by layer."""

from __future__ import annotations

import math
from fractions import Fraction
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


class Tandem(Term):
    """weight x sum over populations of mean((rate - clamp(A / k, 0, 1))^2), A the teacher's activation.

    k is a percentile of A within the batch, over samples, channels and places.

    features:   {population: the teacher's feature of the same shape}; empty: every population has one of its own name.
    percentile: 99.9 in the paper's offline form, 99 online.

    The paper's, with the gradient rule `local_tandem`; with another rule it is a distillation of features.
    A k of 0 (a silent teacher) makes all targets 0: ours.
    """

    kind: Literal["tandem"] = "tandem"
    source: ClassVar[str] = "Yang, Wu, Zhang, Chua, Wang, Li, NeurIPS 2022"
    needs_teacher: ClassVar[bool] = True
    features: dict[str, str] = Field(default_factory=dict)
    percentile: Annotated[Number, Field(gt=0, le=100)] = 99.9
    weight: Annotated[Number, Field(ge=0)] = 1.0

    def heads(self, network: SpikingNetwork, classes: int, teacher: Teacher | None = None) -> nn.ModuleDict:
        assert teacher is not None
        with torch.no_grad():
            was_training = network.training
            rates = network.eval()(torch.zeros(1, *network.input_shape)).rates
            network.train(was_training)
        if unknown := sorted(set(self.features) - set(rates)):
            expected = "one of: " + ", ".join(rates)
            raise LavatubeError("no such population", where="objective tandem", expected=expected, got=unknown[0])
        for name, rate in rates.items():
            if self.features and name not in self.features:
                continue
            shape = teacher.show(self.features.get(name, name))
            if shape != tuple(rate.shape[1:]):
                what, expected = f"population {name} and its teacher's feature", str(tuple(rate.shape[1:]))
                raise LavatubeError(what, where="objective tandem", expected=expected, got=str(shape))
        return nn.ModuleDict()

    def loss(self, outputs: Outputs, labels: torch.Tensor, heads: nn.ModuleDict) -> torch.Tensor:
        assert outputs.lesson is not None
        pairs = self.features or {name: name for name in outputs.rates}
        losses = [
            F.mse_loss(outputs.rates[name], normalized(outputs.lesson.features[feature], self.percentile))
            for name, feature in pairs.items()
        ]
        return self.weight * torch.stack(losses).sum()


def normalized(activation: torch.Tensor, percentile: float) -> torch.Tensor:
    """clamp(A / k, 0, 1) of A [B, ...], k its percentile: the smallest value that so many percent do not exceed."""
    flat = activation.flatten()
    rank = math.ceil(Fraction(str(percentile)) * len(flat) / 100)  # in floats, 99.9 % of 1000 values would be 1000
    k = flat.kthvalue(max(1, rank)).values
    return torch.where(k > 0, activation / k, 0.0).clamp(0, 1)
