"""The classification loss, by its formula."""

from __future__ import annotations

import torch
from torch import nn

from lavatube.train.objectives.cross_entropy import CrossEntropy
from lavatube.train.seq import Outputs


def test_label_smoothing_spreads_its_share_of_the_target_over_all_classes() -> None:
    logits = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 3, 1, 1])
    log = logits.log_softmax(-1)
    for share, weight in ((0.0, 1.0), (0.1, 1.0), (0.3, 2.5)):
        target = (1 - share) * nn.functional.one_hot(labels, 4) + share / 4
        loss = CrossEntropy(label_smoothing=share, weight=weight).loss(Outputs(logits), labels, nn.ModuleDict())
        torch.testing.assert_close(loss, weight * -(target * log).sum(-1).mean())
