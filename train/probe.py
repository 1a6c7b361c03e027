"""What a method may try out between epochs: losses and gradients of one batch, on copies of what trains."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from lavatube.train.gradients.rule import GradientRule, LossOf
from lavatube.train.networks.network import SpikingNetwork

Change = Callable[[SpikingNetwork], None]


@dataclass(frozen=True)
class Probe:
    """One batch, the same on every process and after a resume.

    network, objective: what trains; only copies of them run, so no weight, statistic or count changes.
    loss_by: of an objective, its loss of the batch. inputs: see `SpikingNetwork.present`. generator: for what is drawn.
    """

    network: SpikingNetwork
    objective: nn.Module
    loss_by: Callable[[nn.Module], LossOf]
    inputs: torch.Tensor
    rule: GradientRule
    generator: torch.Generator

    @torch.no_grad()
    def loss(self, change: Change) -> float:
        """The true loss, spikes and all, of a copy that `change` was applied to."""
        network, objective = self._copies(change)
        return float(self.loss_by(objective)(network(self.inputs)))

    def gradients(self, change: Change) -> dict[str, torch.Tensor]:
        """By parameter name, what the recipe's gradient rule gives a copy that `change` was applied to."""
        network, objective = self._copies(change)
        network.zero_grad(set_to_none=True)
        with torch.enable_grad():
            self.rule.gradients(network, self.inputs, self.loss_by(objective))
        return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}

    def _copies(self, change: Change) -> tuple[SpikingNetwork, nn.Module]:
        network = copy.deepcopy(self.network).train()
        change(network)
        return network, copy.deepcopy(self.objective)
