"""Enhanced self-distillation: light non-spiking branches on the firing rates teach the network, then are dropped.

source: Zhao, Yu, Yu, Liu, Wang, "Enhanced Self-Distillation Framework for Efficient Spiking Neural Network Training",
NeurIPS 2025, arXiv 2510.06254.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from lavatube.train.network import SpikingNetwork
from lavatube.train.recipe import SelfDistillation


class SeparableBlock(nn.Module):
    """Depthwise and pointwise convolutions that halve height and width, with a residual. [B, I, H, W] to [B, O, ...]"""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(c_in, c_in, 3, stride=2, padding=1, groups=c_in, bias=False),
            nn.Conv2d(c_in, c_in, 1, bias=False),
            nn.BatchNorm2d(c_in),
            nn.ReLU(),
            nn.Conv2d(c_in, c_in, 3, padding=1, groups=c_in, bias=False),
            nn.Conv2d(c_in, c_out, 1, bias=False),
            nn.BatchNorm2d(c_out),
        )
        self.shortcut = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride=2, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


def branch(c_in: int, c_out: int, n_down: int, classes: int) -> nn.Sequential:
    """A classifier on a rate map [B, c_in, H, W]: n_down halvings (doubling up to c_out), pooling, [B, classes]."""
    widths = [c_in] + [max(c_in, c_out >> (n_down - 1 - step)) for step in range(n_down)]
    blocks = [SeparableBlock(a, b) for a, b in pairwise(widths)]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], classes))


def flat_branch(n_in: int, hidden: int, classes: int) -> nn.Sequential:
    """A classifier on the rates [B, n_in] of a dense layer."""
    layers = [nn.Linear(n_in, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, classes)]
    return nn.Sequential(*layers)


def build_branches(network: SpikingNetwork, settings: SelfDistillation, classes: int, seed: int) -> nn.ModuleList:
    """One branch per hidden layer of the network, initialised from the seed alone.

    Maps are halved down to the size of the smallest one, at least once.
    """
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        was_training = network.training
        shapes = [rate.shape[1:] for rate in network.eval()(torch.zeros(1, *network.input_shape)).rates]
        network.train(was_training)
        smallest = min((min(shape[1:]) for shape in shapes if len(shape) == 3), default=1)
        branches = nn.ModuleList()
        for shape in shapes:
            if len(shape) == 3:
                n_down = max(1, round(math.log2(min(shape[1:]) / smallest)))
                branches.append(branch(shape[0], settings.channels, n_down, classes))
            else:
                branches.append(flat_branch(shape[0], settings.channels, classes))
    return branches


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
    return temperature**2 * (divergence * valid).sum() / valid.sum().clamp(min=1)


def self_distillation_loss(heads: list[torch.Tensor], labels: torch.Tensor, settings: SelfDistillation) -> torch.Tensor:
    """alpha × sum of the heads' cross entropies + beta × distillation. heads: K times [B, classes], any order."""
    stacked = torch.stack(heads)
    entropies = torch.stack([F.cross_entropy(head, labels) for head in heads]).sum()
    return settings.alpha * entropies + settings.beta * distillation_loss(stacked, labels, settings.temperature)
