"""Enhanced self-distillation: branches on the firing rates and the network itself learn from those that are right.

source: Zhao, Yu, Yu, Liu, Wang, "Enhanced Self-Distillation Framework for Efficient Spiking Neural Network Training",
NeurIPS 2025, arXiv 2510.06254, and its code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from lavatube.errors import LavatubeError
from lavatube.train.networks.network import SpikingNetwork
from lavatube.train.norms.all_reduce import mean_over_processes
from lavatube.train.objectives.branches import build_branches
from lavatube.train.objectives.cross_entropy import CrossEntropy
from lavatube.train.objectives.soft_targets import Temperature
from lavatube.train.objectives.term import Term
from lavatube.train.recipe_model import Number, Positive
from lavatube.train.seq import Outputs
from lavatube.train.teachers.teacher import Teacher


class SelfDistillation(Term):
    """Heads k = 1..K: a branch per stage, and the network itself, K. Added to the objective's cross entropy CE_K:

        form "all":   (alpha - 1) CE_K + alpha sum_{k<K} CE_k + beta sum_k KD_k   (in total alpha on every head, where
                                                                                   the weight of CE_K itself is 1)
        form "final":                    alpha sum_{k<K} CE_k + beta sum_k KD_k

    The first is the loss of the CIFAR code (with alpha = 1, of the DVS code), the second that of the ImageNet code.
    KD_k: see `distillation_loss`. Taps are not detached: the branches train the layers below them.

    channels: width of the branches.
    """

    kind: Literal["self_distillation"] = "self_distillation"
    source: ClassVar[str] = "Zhao, Yu, Yu, Liu, Wang, NeurIPS 2025, arXiv 2510.06254, eq. 8-11"
    form: Literal["all", "final"] = "all"
    alpha: Annotated[Number, Field(ge=0)] = 1.0
    beta: Annotated[Number, Field(ge=0)] = 0.3
    temperature: Temperature = 3.0
    channels: Positive = 32

    def check(self, network: SpikingNetwork, terms: Sequence[Term]) -> None:
        labels = next(term for term in terms if isinstance(term, CrossEntropy))
        total = labels.weight + self.alpha - 1
        if self.form == "all" and self.alpha < 1 and (total < 0 or labels.label_smoothing > 0):
            raise LavatubeError(
                "form all would subtract from the network's own cross entropy what is not in it",
                where="recipe objective, self_distillation",
                expected="cross_entropy.weight of at least 1 - alpha, and no label_smoothing; or alpha of at least 1",
                got=f"alpha {self.alpha}, weight {labels.weight}, label_smoothing {labels.label_smoothing}",
                remedy="use form: final",
            )

    def heads(self, network: SpikingNetwork, classes: int, teacher: Teacher | None = None) -> nn.ModuleDict:
        branches = build_branches(network, self.channels, classes)
        if not branches:
            raise LavatubeError(
                "self_distillation needs a layer with neurons before the read-out",
                where="recipe objective",
                expected="a network with stages",
                got=type(network).__name__,
            )
        return branches

    def loss(self, outputs: Outputs, labels: torch.Tensor, heads: nn.ModuleDict) -> torch.Tensor:
        own = outputs.logits
        others = [branch(outputs.taps[name]) for name, branch in heads.items()]
        total = self.beta * distillation_loss(torch.stack([*others, own]), labels, self.temperature)
        for head in others:
            total = total + self.alpha * F.cross_entropy(head, labels)
        if self.form == "all":
            total = total + (self.alpha - 1) * F.cross_entropy(own, labels)
        return total


def teacher(heads: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean logits of the reliable heads, those that are right about a sample. heads: [K, B, classes]; labels: [B].

    returns: (logits [B, classes], detached; valid [B] bool, false where no head is right and the logits mean nothing).
    """
    heads = heads.detach()
    reliable = heads.argmax(-1) == labels
    total = (heads * reliable.unsqueeze(-1)).sum(0)
    count = reliable.sum(0)
    return total / count.clamp(min=1).unsqueeze(-1), count > 0


def distillation_loss(heads: torch.Tensor, labels: torch.Tensor, temperature: float) -> torch.Tensor:
    """temperature² × sum over heads of the mean KL(teacher ‖ head) over samples with a teacher; 0 if there are none."""
    target, valid = teacher(heads, labels)
    log_target = F.log_softmax(target / temperature, -1)
    log_heads = F.log_softmax(heads / temperature, -1)
    divergence = (log_target.exp() * (log_target - log_heads)).sum(-1)
    count = mean_over_processes(valid.sum().to(heads.dtype))  # of samples with a teacher, per process
    return temperature**2 * (divergence * valid).sum() / torch.where(count > 0, count, 1.0)
