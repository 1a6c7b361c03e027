"""Backpropagation through time, the baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch

from lavatube.train.gradients.rule import Backward, GradientRule, LossOf
from lavatube.train.passes.through_time import ThroughTime

if TYPE_CHECKING:
    from lavatube.train.networks.network import SpikingNetwork


class Bptt(GradientRule):
    """The exact gradient of the network with surrogates; memory and time grow with T."""

    kind: Literal["bptt"] = "bptt"
    source: ClassVar[str] = "Werbos 1990; with surrogates: Neftci, Mostafa, Zenke 2019"

    def gradients(
        self,
        network: SpikingNetwork,
        inputs: torch.Tensor,
        objective: LossOf,
        backward: Backward = torch.Tensor.backward,
    ) -> torch.Tensor:
        loss = objective(network(inputs, ThroughTime(network.num_steps)))
        backward(loss)
        return loss.detach()
