"""BKDSNN: blurred features of a spiking network, from which a small network restores the teacher's."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from lavatube.errors import LavatubeError
from lavatube.train.networks.network import SpikingNetwork
from lavatube.train.objectives.feature_pairs import Aligned, FeaturePair, feature_pairs
from lavatube.train.objectives.soft_targets import Temperature
from lavatube.train.objectives.term import Term
from lavatube.train.recipe_model import Number
from lavatube.train.seq import Outputs
from lavatube.train.teachers.teacher import Teacher


class Bkdsnn(Term):
    """feature_weight x ||R(m x F) - F_T||^2 + logit_weight x H^2 x mean of w x CE(softmax(z_T / H), z / H).

    H: temperature; z, z_T: logits of the network and of the teacher; F_T: the teacher's feature. F: mean spikes of the
    last stage that is a map, by a 1x1 convolution and its norm in the teacher's channels where the widths differ.
    m: 0 or 1 per sample and channel, drawn anew each time, 0 with probability `blur`. R: 3x3 convolution, ReLU, 3x3
    convolution. The squares are summed over a sample and averaged over samples.
    w = 1 - exp(-CE(z, label) / CE(z_T, label)) per sample, without gradient: little where the network does better.

    features: {stage: feature of the teacher}, one; empty: the last map, and the teacher's last of its size.
    blur:     our default is the code's; the paper's ablation has larger ones.
    rescale:  F_T x max(F) / max(F_T), an option of the code; of batches with max(F_T) > 0 (ours).
    All of it as in the paper's code, but for the norm beside the 1x1 convolution (as in KDSNN), which is ours.
    """

    kind: Literal["bkdsnn"] = "bkdsnn"
    source: ClassVar[str] = "Xu, You, Guo, et al., ECCV 2024, arXiv 2407.09083, and its code"
    needs_teacher: ClassVar[bool] = True
    feature_weight: Annotated[Number, Field(ge=0)] = 7e-5
    logit_weight: Annotated[Number, Field(ge=0)] = 1.0
    temperature: Temperature = 2.0
    blur: Annotated[Number, Field(ge=0, lt=1)] = 0.15
    rescale: bool = False
    features: Annotated[dict[str, str], Field(max_length=1)] = Field(default_factory=dict)

    def heads(self, network: SpikingNetwork, classes: int, teacher: Teacher | None) -> nn.ModuleDict:
        if not self.feature_weight:
            return nn.ModuleDict()
        pair = feature_pairs(network, teacher, self.features, self.kind)[-1]
        if len(pair.own) != 3:
            where, got = "recipe objective, bkdsnn", f"{pair.stage} {pair.own}"
            raise LavatubeError("channels are blurred in maps", where=where, expected="[C, H, W]", got=got)
        return nn.ModuleDict({"restore": Restore(pair, self.blur)})

    def loss(self, outputs: Outputs, labels: torch.Tensor, heads: nn.ModuleDict) -> torch.Tensor:
        assert outputs.lesson is not None
        logits = weighted_cross_entropy(outputs.logits, outputs.lesson.logits, labels, self.temperature)
        if not self.feature_weight:
            return self.logit_weight * logits
        own, restored, taught = heads["restore"](outputs)
        if self.rescale:
            largest = taught.max()
            taught = taught * torch.where(largest > 0, own.detach().max() / largest, 1.0)
        squares: torch.Tensor = ((restored - taught) ** 2).flatten(1).sum(1).mean()
        return self.feature_weight * squares + self.logit_weight * logits


def weighted_cross_entropy(
    own: torch.Tensor, taught: torch.Tensor, labels: torch.Tensor, temperature: float
) -> torch.Tensor:
    """temperature^2 x mean of w x CE, a scalar. own, taught: logits [B, classes]; labels: [B].

    source: Zhou, Song, Chen, Zhou, Wang, Yuan, Zhang, ICLR 2021 (weighted soft labels), as in BKDSNN's code.
    """
    with torch.no_grad():
        mine, theirs = (F.cross_entropy(logits, labels, reduction="none") for logits in (own, taught))
        weight = 1 - torch.exp(-mine / theirs.clamp(min=torch.finfo(theirs.dtype).tiny))
    soft = F.cross_entropy(own / temperature, F.softmax(taught / temperature, -1), reduction="none")
    return temperature**2 * (weight * soft).mean()


class Restore(nn.Module):
    """The blur and the network R. What the blur draws follows from how often it did: it is the same after a resume."""

    seed: torch.Tensor
    drawn: torch.Tensor

    def __init__(self, pair: FeaturePair, blur: float) -> None:
        super().__init__()
        self.aligned, self.blur, channels = Aligned(pair), blur, pair.taught[0]
        self.restore = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)
        )
        self.register_buffer("seed", torch.randint(1 << 31, ()))
        self.register_buffer("drawn", torch.zeros((), dtype=torch.int64))

    def mask(self, like: torch.Tensor) -> torch.Tensor:
        """[B, C, 1, 1] of zeros and ones; only ones in evaluation mode. like: [B, C, H, W]."""
        if not self.training:
            return like.new_ones(*like.shape[:2], 1, 1)
        generator = torch.Generator().manual_seed(int(self.seed) + (int(self.drawn) << 31))
        self.drawn += 1
        return (torch.rand(*like.shape[:2], 1, 1, generator=generator) >= self.blur).to(like)

    def forward(self, outputs: Outputs) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(the stage in the teacher's channels, what R makes of its blurred form, the teacher's feature)."""
        own, taught = self.aligned(outputs)
        return own, self.restore(self.mask(own) * own), taught
