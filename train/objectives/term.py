"""What an objective is a sum of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from lavatube.train.plugin import Plugin
from lavatube.train.seq import Outputs

if TYPE_CHECKING:
    from lavatube.train.networks.network import SpikingNetwork


class Term(Plugin):
    """A term of the objective. Heads are modules that exist only while the network trains."""

    def heads(self, network: SpikingNetwork, classes: int) -> nn.ModuleDict:
        """Modules that train along with the network, and are dropped at the end."""
        return nn.ModuleDict()

    def loss(self, outputs: Outputs, labels: torch.Tensor, heads: nn.ModuleDict) -> torch.Tensor:
        """A scalar. labels: [B] int64."""
        raise NotImplementedError
