"""What a gradient rule is: how the gradients of the objective get into the parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from lavatube.errors import UnsupportedError
from lavatube.train.plugin import Plugin
from lavatube.train.seq import Outputs

if TYPE_CHECKING:
    from lavatube.train.networks.network import SpikingNetwork

LossOf = Callable[[Outputs], torch.Tensor]
Backward = Callable[[torch.Tensor], object]


class GradientRule(Plugin):
    """A rule that trains a network with an objective; `attach` refuses what in the network it cannot train."""

    def gradients(
        self,
        network: SpikingNetwork,
        inputs: torch.Tensor,
        objective: LossOf,
        backward: Backward = torch.Tensor.backward,
    ) -> torch.Tensor:
        """Add the gradients of the objective to the parameters' `.grad`.

        inputs: see `SpikingNetwork.present`; backward: what to call on a loss (a mixed-precision scaler's, say).
        returns: the loss, a scalar without gradient.
        """
        raise NotImplementedError


def refuse_unless_averages_suffice(network: SpikingNetwork, rule: str) -> None:
    """For rules on time averages. raises: UnsupportedError for a network with recurrence."""
    if "recurrence" in network.needs:
        raise UnsupportedError(
            "a recurrent network cannot be trained on time averages",
            where=f"gradient {rule}",
            expected="feed-forward layers",
            got="recurrence",
            remedy="use gradient: bptt, or online",
        )


def refuse_unless_step_by_step(network: SpikingNetwork, where: str, way_out: str = "") -> None:
    """For rules that see one timestep at a time. raises: UnsupportedError for a normalisation that needs them all."""
    waiting = [norm.estimator.kind for norm in network.norms() if not norm.estimator.online]
    if waiting:
        raise UnsupportedError(
            f"normalization {waiting[0]} needs all timesteps at once",
            where=where,
            expected="an estimator that works step by step",
            got=waiting[0],
            remedy=f"use normalization tse, causal, per_step or running{way_out}",
        )
