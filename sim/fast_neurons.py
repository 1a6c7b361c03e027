"""Populations in torch, equal bit for bit to `lavatube.neuron_step`, all timesteps or one at a time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from lavatube import fixed_point as fp
from lavatube.program import NeuronNode
from lavatube.train.integer_step import decay, int32, run_lif, sample_blocks, wrap_current


@dataclass(frozen=True)
class PopulationRun:
    """events: [T, B, ...] integers; states: {"u", "v"} -> [T, B, ...] if kept; wrapped, saturated: [T, B] counts."""

    events: torch.Tensor
    states: dict[str, torch.Tensor]
    wrapped: torch.Tensor
    saturated: torch.Tensor


class Population:
    """Neurons that are stepped one timestep after another. Every tensor is int64 [B, ...]."""

    def __init__(self, node: NeuronNode, bias: torch.Tensor, like: torch.Tensor) -> None:
        self.node, self.bias = node, bias
        self._rest(like)

    def _rest(self, like: torch.Tensor) -> None:
        self.u, self.v = torch.zeros_like(like), torch.full_like(like, self.node.v_initial)
        self.resting = torch.zeros_like(like) if self.node.refractory else None
        self.balance = torch.zeros_like(like) if self.node.memory_gate else None

    def step(self, activation: torch.Tensor, t: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Step t (from 0). returns: (events int64, wrapped bool, saturated bool)."""
        node = self.node
        if node.reset_interval and t % node.reset_interval == node.reset_offset:
            self._rest(activation)
        raw_u = decay(self.u, node.du, offset=fp.CURRENT_DECAY_OFFSET) + (activation << fp.ACTIVATION_SHIFT)
        self.u = wrap_current(int32(raw_u))
        raw_v = decay(self.v, node.dv) + self.u + self.bias
        v = int32(raw_v).clamp(-fp.VOLTAGE_MAX, fp.VOLTAGE_MAX)
        saturated = raw_v != v
        if self.resting is not None:
            awake = self.resting == 0
            v, saturated = torch.where(awake, v, self.v), saturated & awake
        events = self._events(v)
        if self.resting is not None:
            events = events * awake
            self.resting = torch.where(events != 0, node.refractory, (self.resting - 1).clamp(min=0))
        sign = events.sign()
        if self.balance is not None:
            self.balance = self.balance + sign
        full = node.vth << fp.ACTIVATION_SHIFT
        self.v = v - full * sign if node.reset == "subtract" else v.masked_fill(events != 0, 0)
        return events, raw_u != self.u, saturated

    def _events(self, v: torch.Tensor) -> torch.Tensor:
        node = self.node
        if node.output == "none":
            return torch.zeros_like(v)
        above = (v > (node.vth << fp.ACTIVATION_SHIFT)).to(torch.int64)
        if node.output == "graded":
            return above * (v >> node.payload_shift).clamp(max=(1 << node.payload_bits) - 1)
        if node.output == "signed":
            below = v < -(node.vth_low << fp.ACTIVATION_SHIFT)
            return above - (below if self.balance is None else below & (self.balance > 0)).to(torch.int64)
        return above


def run_population(node: NeuronNode, activation: torch.Tensor, keep: Iterable[str] = ()) -> PopulationRun:
    """A population at rest through activations [T, B, ...] int64."""
    mantissa = torch.tensor(node.bias_mant.astype("int64"), device=activation.device)
    bias = mantissa << node.bias_exp
    if node.is_plain and not node.reset_interval:
        run = run_lif(activation, bias, du=node.du, dv=node.dv, vth=node.vth, keep=keep)
        return PopulationRun(run.spikes, run.states, run.wrapped, run.saturated)
    events = torch.empty_like(activation)
    states = {name: torch.empty_like(activation) for name in keep}
    wrapped, saturated = torch.zeros(2, *activation.shape[:2], dtype=torch.int64, device=activation.device)
    for rows in sample_blocks(activation):
        population = Population(node, bias, activation[0, rows])
        for t in range(len(activation)):
            now = t, rows
            events[now], wraps, clips = population.step(activation[now], t)
            wrapped[now], saturated[now] = wraps.flatten(1).sum(1), clips.flatten(1).sum(1)
            for name, value in (("u", population.u), ("v", population.v)):
                if name in states:
                    states[name][now] = value
    return PopulationRun(events, states, wrapped, saturated)
