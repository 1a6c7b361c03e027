"""LaSNN: layer by layer, a spiking network looks where its teacher looks."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from lavatube.errors import LavatubeError
from lavatube.train.networks.network import SpikingNetwork
from lavatube.train.objectives.feature_pairs import FeaturePair, feature_pairs, pair_of
from lavatube.train.objectives.term import Term
from lavatube.train.recipe_model import Number
from lavatube.train.seq import Outputs
from lavatube.train.teachers.teacher import Teacher


class Lasnn(Term):
    """weight x sum over pairs of ||Q(stage) - Q(feature)||_2, mean over samples.

    Q(F) = q / ||q||_2, q = sum over channels of F_c^2 at each place: attention, blind to the number of channels, their
    order, and a positive factor. A stage is its mean spikes. For the teacher's logits too, add kdsnn with
    feature_weight 0.

    features: {stage of the network: feature of the teacher}; empty: the last stage of each height and width, with the
    teacher's last feature of them.
    Attention per layer is the paper's; this form of it is our reconstruction (the attention transfer of Zagoruyko,
    Komodakis 2017), and so is its weight: such a norm is below 1.5, unlike their mean of squares, whose weight is 1000.
    """

    kind: Literal["lasnn"] = "lasnn"
    source: ClassVar[str] = "Hong, Shen, Qi, Wang, arXiv 2304.09101; attention: Zagoruyko, Komodakis, ICLR 2017"
    needs_teacher: ClassVar[bool] = True
    weight: Annotated[Number, Field(ge=0)] = 1.0
    features: dict[str, str] = Field(default_factory=dict)

    def heads(self, network: SpikingNetwork, classes: int, teacher: Teacher | None) -> nn.ModuleDict:
        pairs = feature_pairs(network, teacher, self.features, self.kind)
        for pair in pairs:
            if len(pair.own) != 3:
                got = f"{pair.stage} {pair.own}"
                raise LavatubeError(
                    "attention needs maps", where="recipe objective, lasnn", expected="[C, H, W]", got=got
                )
        return nn.ModuleDict({str(i): Attention(pair) for i, pair in enumerate(pairs)})

    def loss(self, outputs: Outputs, labels: torch.Tensor, heads: nn.ModuleDict) -> torch.Tensor:
        distances = torch.stack([distance(outputs) for distance in heads.values()])
        return self.weight * distances.sum()


class Attention(nn.Module):
    """The distance of one pair; it has nothing that trains."""

    def __init__(self, pair: FeaturePair) -> None:
        super().__init__()
        self.pair = pair

    def forward(self, outputs: Outputs) -> torch.Tensor:
        own, taught = pair_of(outputs, self.pair)
        distance: torch.Tensor = torch.linalg.vector_norm(attention(own) - attention(taught), dim=1)
        return distance.mean()


def attention(features: torch.Tensor) -> torch.Tensor:
    """features: [B, C, H, W]. returns: [B, H W], each row of length 1, or 0 where no channel is active."""
    largest = torch.frexp(features.detach().abs().amax((1, 2, 3), keepdim=True)).exponent
    features = torch.ldexp(features, -largest.clamp(-120, 120))  # or the squares of small ones would be lost
    return F.normalize((features**2).sum(1).flatten(1))
