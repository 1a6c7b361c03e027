"""Which stage of the network learns which feature of the teacher."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from lavatube.errors import LavatubeError
from lavatube.train.networks.network import SpikingNetwork
from lavatube.train.norms.head_norm import HeadNorm
from lavatube.train.seq import Outputs
from lavatube.train.teachers.teacher import Teacher

Shape = tuple[int, ...]


@dataclass(frozen=True)
class FeaturePair:
    """own, taught: shapes of one sample, of equal rank and, of maps, of equal height and width."""

    stage: str
    feature: str
    own: Shape
    taught: Shape


def feature_pairs(
    network: SpikingNetwork, teacher: Teacher | None, asked: Mapping[str, str], term: str
) -> list[FeaturePair]:
    """The pairs in the network's order; the teacher shows their features from now on.

    asked: {stage: feature}; empty for the last stage of each height and width, and the teacher's last feature of them.
    raises: LavatubeError for a name that is not there, shapes that do not fit, or no pair at all.
    """
    assert teacher is not None, "a recipe with such a term has a teacher"
    where, stages = f"recipe objective, {term}", network.stage_shapes()
    if not asked:
        asked = _by_size(stages, teacher.shapes)
        if not asked:
            expected = "features: {stage: feature}, or maps of equal height and width in both"
            got = f"stages {_text(stages)}; features {_text(teacher.shapes)}"
            raise LavatubeError("no pair of a stage and a teacher's feature", where=where, expected=expected, got=got)
    pairs = []
    for stage, feature in asked.items():
        if stage not in stages:
            raise LavatubeError("no such stage", where=where, expected="one of: " + ", ".join(stages), got=stage)
        pair = FeaturePair(stage, feature, stages[stage], teacher.show(feature))
        if len(pair.own) != len(pair.taught) or pair.own[1:] != pair.taught[1:]:
            got = f"{stage} {pair.own}, {feature} {pair.taught}"
            raise LavatubeError("a feature of another size", where=where, expected="equal height and width", got=got)
        pairs.append(pair)
    return pairs


def _by_size(stages: Mapping[str, Shape], features: Mapping[str, Shape]) -> dict[str, str]:
    last_stage = {shape[1:]: name for name, shape in stages.items() if len(shape) == 3}
    last_feature = {shape[1:]: name for name, shape in features.items() if len(shape) == 3}
    return {stage: last_feature[size] for size, stage in last_stage.items() if size in last_feature}


def _text(shapes: Mapping[str, Shape]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items())


class Aligned(nn.Module):
    """A stage's mean spikes as the teacher's channels: a 1x1 convolution and its norm where the widths differ."""

    def __init__(self, pair: FeaturePair) -> None:
        super().__init__()
        self.pair, self.align = pair, None
        own, taught = pair.own[0], pair.taught[0]
        if own != taught:
            change = nn.Linear(own, taught, bias=False) if len(pair.own) == 1 else nn.Conv2d(own, taught, 1, bias=False)
            self.align = nn.Sequential(change, HeadNorm(taught))

    def forward(self, outputs: Outputs) -> tuple[torch.Tensor, torch.Tensor]:
        """(the stage in the teacher's channels, the teacher's feature), both [B, ...]."""
        own, taught = pair_of(outputs, self.pair)
        return own if self.align is None else self.align(own), taught


def pair_of(outputs: Outputs, pair: FeaturePair) -> tuple[torch.Tensor, torch.Tensor]:
    """(stage [B, ...], feature [B, ...]) of a batch."""
    assert outputs.lesson is not None
    return outputs.taps[pair.stage], outputs.lesson.features[pair.feature]
