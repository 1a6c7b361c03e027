"""Online learning: a loss and a backward at every timestep, no graph over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch

from lavatube.train.gradients.rule import Backward, GradientRule, LossOf, refuse_unless_step_by_step
from lavatube.train.passes.step_by_step import OnlineStep, SequenceState

if TYPE_CHECKING:
    from lavatube.train.networks.network import SpikingNetwork


class Online(GradientRule):
    """The mean over timesteps of the objective at each timestep, through the layers but not through time."""

    kind: Literal["online"] = "online"
    source: ClassVar[str] = "SLTT: Meng, Xiao, Yan, Wang, Lin, Luo, ICCV 2023"

    def attach(self, network: SpikingNetwork) -> None:
        refuse_unless_step_by_step(network, "gradient online")

    def gradients(
        self,
        network: SpikingNetwork,
        inputs: torch.Tensor,
        objective: LossOf,
        backward: Backward = torch.Tensor.backward,
    ) -> torch.Tensor:
        steps, state = network.present(inputs), SequenceState()
        total = torch.zeros((), device=steps.device)
        for t in range(network.num_steps):
            current = steps[t if len(steps) > 1 else 0]
            outputs = network.body_outputs(current.unsqueeze(0), OnlineStep(state))
            loss = objective(outputs) / network.num_steps
            backward(loss)
            total += loss.detach()
        state.end()
        return total
