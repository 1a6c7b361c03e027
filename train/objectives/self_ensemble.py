"""Every timestep as a member of an ensemble that is supervised by itself, and learns from the ensemble."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from lavatube.errors import UnsupportedError
from lavatube.train.objectives.soft_targets import Temperature
from lavatube.train.objectives.term import Term
from lavatube.train.recipe_model import Number
from lavatube.train.seq import Outputs


class SelfEnsemble(Term):
    """weight x mean over t of (1 - alpha) CE(o_t, y) + alpha temperature^2 KL(sg softmax(o / temperature) || o_t).

    o_t: read-out of a timestep; o: their mean, the ensemble; sg: no gradient. The paper's: backpropagation through time
    of a feed-forward network trains an ensemble of its timesteps, so take over what helps binary networks: shortcuts
    (network bireal_resnet), and distillation, by which here also the members are supervised. Our reconstruction from
    the abstract: this loss. The paper's full-precision teacher is a term of its own (kdsnn).
    Needs a gradient rule that keeps the timesteps of the read-out: bptt.
    """

    kind: Literal["self_ensemble"] = "self_ensemble"
    source: ClassVar[str] = "SEI-BWSNN, arXiv 2508.12609"
    weight: Annotated[Number, Field(ge=0)] = 1.0
    alpha: Annotated[Number, Field(ge=0, le=1)] = 0.5
    temperature: Temperature = 2.0

    def loss(self, outputs: Outputs, labels: torch.Tensor, heads: nn.ModuleDict) -> torch.Tensor:
        if outputs.members is None:
            raise UnsupportedError(
                "self_ensemble needs the gradient of every timestep's read-out",
                where="recipe objective", expected="gradient bptt", remedy="set gradient: bptt",
            )  # fmt: skip
        members = outputs.members.flatten(0, 1)
        times = len(outputs.members)
        supervised = F.cross_entropy(members, labels.repeat(times))
        return self.weight * (
            (1 - self.alpha) * supervised + self.alpha * ensemble_to_member(outputs.members, self.temperature)
        )


def ensemble_to_member(members: torch.Tensor, temperature: float) -> torch.Tensor:
    """temperature^2 x mean KL of the softened mean over time, without gradient, to each timestep's. [T, B, classes]"""
    target = F.log_softmax(members.detach().mean(0) / temperature, -1).expand_as(members)
    softened = F.log_softmax(members / temperature, -1)
    return temperature**2 * (target.exp() * (target - softened)).sum(-1).mean()
