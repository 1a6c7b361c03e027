"""What an objective is a sum of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from lavatube.train.plugin import Plugin
from lavatube.train.seq import Outputs

if TYPE_CHECKING:
    from lavatube.train.networks.network import SpikingNetwork
    from lavatube.train.teachers.teacher import Teacher


class Term(Plugin):
    """A term of the objective. Its heads are modules that exist only while the network trains, outside of it."""

    def check(self, network: SpikingNetwork, terms: Sequence[Term]) -> None:
        """raises: LavatubeError if this term means nothing for the network, or beside the other terms."""

    def heads(self, network: SpikingNetwork, classes: int, teacher: Teacher | None) -> nn.ModuleDict:
        """Modules that train along with the network, and are dropped at the end.

        teacher: there if the recipe has one; here a term tells it by `show` which features it needs.
        """
        return nn.ModuleDict()

    def loss(self, outputs: Outputs, labels: torch.Tensor, heads: nn.ModuleDict) -> torch.Tensor:
        """A scalar. labels: [B] int64."""
        raise NotImplementedError
