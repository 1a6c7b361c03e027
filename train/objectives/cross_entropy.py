"""The classification loss."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from lavatube.train.objectives.term import Term
from lavatube.train.recipe_model import Number
from lavatube.train.seq import Outputs


class CrossEntropy(Term):
    """weight x cross entropy of the mean read-out. label_smoothing: share of the target spread over all classes."""

    kind: Literal["cross_entropy"] = "cross_entropy"
    source: ClassVar[str] = "label smoothing: Szegedy et al. 2016"
    weight: Annotated[Number, Field(ge=0)] = 1.0
    label_smoothing: Annotated[Number, Field(ge=0, lt=1)] = 0.0

    def loss(self, outputs: Outputs, labels: torch.Tensor, heads: nn.ModuleDict) -> torch.Tensor:
        return self.weight * F.cross_entropy(outputs.logits, labels, label_smoothing=self.label_smoothing)
