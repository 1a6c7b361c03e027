"""Rate-based backpropagation: spikes forward at every timestep, one backward on time averages."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch

from lavatube.errors import UnsupportedError
from lavatube.train.gradients.rule import (
    Backward,
    GradientRule,
    LossOf,
    refuse_unless_averages_suffice,
    refuse_unless_step_by_step,
)
from lavatube.train.passes.rate import RatePass
from lavatube.train.passes.step_by_step import RecordStep, ReplayRates, SequenceState

if TYPE_CHECKING:
    from lavatube.train.networks.network import SpikingNetwork


class RateBased(GradientRule):
    """Keeps of the exact gradient all but the covariances over time (exact for T = 1; see tests/train/test_rate.py).

    form:       "multi_step": layer by layer, all timesteps of one layer in memory at a time. "single_step": timestep by
                timestep through the whole network with running averages; memory does not depend on T at all.
    grad_scale: "exact", or "1/T", which divides every gradient by T as the published code does (only its learning rates
                and weight decays need it).
    """

    kind: Literal["rate"] = "rate"
    source: ClassVar[str] = "Yu, Liu, Wang, Li, Wang, NeurIPS 2024, arXiv 2410.11488"
    form: Literal["multi_step", "single_step"] = "multi_step"
    grad_scale: Literal["exact", "1/T"] = "exact"

    def attach(self, network: SpikingNetwork) -> None:
        refuse_unless_averages_suffice(network, "rate")
        if self.form == "multi_step":
            return
        refuse_unless_step_by_step(network, "gradient rate, form single_step", "; or form: multi_step")
        vary = any(not norm.estimator.constant for norm in network.norms())
        if vary and "real-valued currents across blocks" in network.needs:
            raise UnsupportedError(
                "currents that pass from block to block have no running average in single-step form",
                where="gradient rate, form single_step",
                expected="normalization running",
                got=type(network).__name__,
                remedy="use form: multi_step, or normalization: running",
            )

    def gradients(
        self,
        network: SpikingNetwork,
        inputs: torch.Tensor,
        objective: LossOf,
        backward: Backward = torch.Tensor.backward,
    ) -> torch.Tensor:
        if self.form == "multi_step":
            outputs = network(inputs, RatePass(network.num_steps))
        else:
            steps = network.present(inputs)
            outputs = network.body_outputs(steps, ReplayRates(record(network, steps), network.num_steps))
        loss = objective(outputs)
        backward(loss / network.num_steps if self.grad_scale == "1/T" else loss)
        return loss.detach()


@torch.no_grad()
def record(network: SpikingNetwork, steps: torch.Tensor) -> SequenceState:
    """The spiking pass timestep by timestep. steps: [T or 1, B, ...]."""
    state = SequenceState()
    for t in range(network.num_steps):
        current = steps[t if len(steps) > 1 else 0]
        network.body_outputs(current.unsqueeze(0), RecordStep(state))
    state.end()
    return state
