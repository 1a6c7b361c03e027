"""Shortcut back-propagation: branches from the stages straight to the labels, faded out over the epochs."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from lavatube.errors import LavatubeError
from lavatube.train.networks.network import SpikingNetwork
from lavatube.train.objectives.term import Term
from lavatube.train.recipe_model import Number
from lavatube.train.seq import Outputs
from lavatube.train.teachers.teacher import Teacher


class Shortcut(Term):
    """lambda(e) x mean over stages k of CE(h_k), h_k = FC_k(pooling(mean spikes of stage k)).

    Branches bring the gradient to the early layers, which bounded surrogates starve of it; as lambda falls, the
    read-out takes over.

    weight:   lambda in the first epoch.
    schedule: lambda(e) / weight: "linear" 1 - e / E, "cosine" (1 + cos(pi e / E)) / 2, "constant" 1; e: epochs that are
              over, of E.
    pooling:  "none": every value of the stage feeds FC_k; "global": means of its channels, which divides the gradient
              that reaches a place by height x width.
    Branches and a weight that falls over the epochs are the paper's ("evolutionary training"); the form of lambda(e),
    its start, and branches without pooling are our reconstruction.
    """

    kind: Literal["shortcut"] = "shortcut"
    source: ClassVar[str] = "Guo, Chen, Hao, Peng, Jie, Zhang, Liu, Ma, NeurIPS 2024, arXiv 2401.04486"
    weight: Annotated[Number, Field(ge=0)] = 1.0
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    pooling: Literal["none", "global"] = "none"

    def at(self, done: float) -> float:
        """lambda when a share `done` of the epochs is over."""
        fading = {"linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2, "constant": 1.0}
        return self.weight * fading[self.schedule]

    def heads(self, network: SpikingNetwork, classes: int, teacher: Teacher | None) -> nn.ModuleDict:
        branches = {}
        for index, (name, shape) in enumerate(network.stage_shapes().items()):
            pooled = self.pooling == "global" and len(shape) == 3
            branches[str(index)] = Branch(name, shape[0] if pooled else math.prod(shape), classes, pooled=pooled)
        if not branches:
            raise LavatubeError("shortcut needs a layer with neurons before the read-out", where="recipe objective")
        return nn.ModuleDict(branches)

    def loss(self, outputs: Outputs, labels: torch.Tensor, heads: nn.ModuleDict) -> torch.Tensor:
        losses = torch.stack([F.cross_entropy(branch(outputs), labels) for branch in heads.values()])
        return self.at(outputs.done) * losses.mean()


class Branch(nn.Module):
    """A linear classifier on the mean spikes of a stage."""

    def __init__(self, stage: str, inputs: int, classes: int, *, pooled: bool) -> None:
        super().__init__()
        self.stage, self.pooled, self.dense = stage, pooled, nn.Linear(inputs, classes)

    def forward(self, outputs: Outputs) -> torch.Tensor:
        spikes = outputs.taps[self.stage]
        logits: torch.Tensor = self.dense(spikes.mean((2, 3)) if self.pooled else spikes.flatten(1))
        return logits
