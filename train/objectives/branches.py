"""Light non-spiking classifiers on the firing rates of a stage. They exist only while a network trains.

source: structure of the branches: arXiv 2510.06254 and its code; pooling is global here (theirs crops).
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from lavatube.train.networks.network import SpikingNetwork
from lavatube.train.norms.head_norm import HeadNorm


class SeparableBlock(nn.Module):
    """Depthwise and pointwise convolutions that halve height and width, with a residual. [B, I, H, W] to [B, O, ...]"""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(c_in, c_in, 3, stride=2, padding=1, groups=c_in, bias=False),
            nn.Conv2d(c_in, c_in, 1, bias=False),
            HeadNorm(c_in),
            nn.ReLU(),
            nn.Conv2d(c_in, c_in, 3, padding=1, groups=c_in, bias=False),
            nn.Conv2d(c_in, c_out, 1, bias=False),
            HeadNorm(c_out),
        )
        self.shortcut = nn.Sequential(nn.Conv2d(c_in, c_out, 1, bias=False), HeadNorm(c_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        every_second = x[:, :, ::2, ::2]  # picked, for the reason that `synaptic_current.convolve` gives
        return F.relu(self.body(x) + self.shortcut(every_second))


def map_branch(c_in: int, c_out: int, n_down: int, classes: int) -> nn.Sequential:
    """A classifier on a rate map [B, c_in, H, W]: n_down halvings (doubling up to c_out), pooling, [B, classes]."""
    widths = [c_in] + [max(c_in, c_out >> (n_down - 1 - step)) for step in range(n_down)]
    blocks = [SeparableBlock(a, b) for a, b in pairwise(widths)]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], classes))


def flat_branch(n_in: int, hidden: int, classes: int) -> nn.Sequential:
    """A classifier on the rates [B, n_in] of a dense layer."""
    layers = [nn.Linear(n_in, hidden, bias=False), HeadNorm(hidden), nn.ReLU(), nn.Linear(hidden, classes)]
    return nn.Sequential(*layers)


def build_branches(network: SpikingNetwork, channels: int, classes: int) -> nn.ModuleDict:
    """One branch per stage that the network taps; maps are halved to the size of the network's last, at least once."""
    with torch.no_grad():
        was_training = network.training
        outputs = network.eval()(torch.zeros(1, *network.input_shape))
        network.train(was_training)
    smallest = min((min(rate.shape[2:]) for rate in outputs.rates.values() if rate.ndim == 4), default=1)
    branches = nn.ModuleDict()
    for name, rate in outputs.taps.items():
        if rate.ndim == 4:
            n_down = max(1, round(math.log2(min(rate.shape[2:]) / smallest)))
            branches[name] = map_branch(rate.shape[1], channels, n_down, classes)
        else:
            branches[name] = flat_branch(rate.shape[1], channels, classes)
    return branches
