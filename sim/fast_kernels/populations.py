"""The state of a population and its steps: compiled on a CPU with numba, else in torch. Memory order, `order.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lavatube import fixed_point as fp
from lavatube.program import NeuronNode
from lavatube.sim.fast_kernels.order import lay_out
from lavatube.train.integer_step import decay, int32, wrap_current


@dataclass(frozen=True)
class Steps:
    """What some timesteps gave. events: [T, B, N]; u, v: [T, B, N] int32 where asked for; overflows: [2, T, B] int64,
    neurons whose u wrapped and whose v saturated."""

    events: torch.Tensor
    u: torch.Tensor | None
    v: torch.Tensor | None
    overflows: torch.Tensor


def joined(parts: Sequence[Steps], events: torch.Tensor) -> Steps:
    """Timesteps one after the other. events: of all of them."""

    def states(kind: str) -> torch.Tensor | None:
        found = [getattr(part, kind) for part in parts]
        return None if found[0] is None else torch.cat(found)

    return Steps(events, states("u"), states("v"), torch.cat([part.overflows for part in parts], 1))


def bias_of(node: NeuronNode) -> np.ndarray:
    """[N] int32 in memory order."""
    return np.ascontiguousarray(lay_out(fp.bias_register(node.bias_mant, node.bias_exp), node.shape), dtype=np.int32)


class CompiledPopulation:
    """Neurons of some samples, at rest. keep: of {"u", "v"}; bias: see `bias_of`."""

    def __init__(self, node: NeuronNode, bias: np.ndarray, batch: int, device: str, keep: frozenset[str]) -> None:
        self.node, self.keep, self.time = node, keep, 0
        self.bias = bias
        self.u, self.resting, self.balance = np.zeros((3, batch, bias.size), np.int32)
        self.v = np.full((batch, bias.size), node.v_initial, np.int32)
        kind = ("binary", "signed", "graded", "none").index(node.output)
        self.given = (
            (fp.DECAY_ONE - node.du - fp.CURRENT_DECAY_OFFSET, fp.DECAY_ONE - node.dv),
            (node.vth << fp.ACTIVATION_SHIFT, node.vth_low << fp.ACTIVATION_SHIFT),
            (node.payload_shift, (1 << node.payload_bits) - 1),
            (kind, node.memory_gate, node.reset == "subtract", node.refractory),
            (node.reset_interval, node.reset_offset, node.v_initial),
            node.output == "binary" and not node.refractory,
        )

    def rest(self, keep: frozenset[str]) -> None:
        """Begin anew: at rest. What nothing looks at stays as it is: fresh memory, and clearing it, take time."""
        self.keep, self.time = keep, 0
        for state in self.held:
            state.fill(self.node.v_initial if state is self.v else 0)

    @property
    def held(self) -> list[np.ndarray]:
        """State that is looked at. The rest is never touched, and so takes no memory."""
        matters = (
            (self.u, self.given[0][0] > 0),
            (self.resting, self.node.refractory),
            (self.balance, self.node.memory_gate),
        )
        return [self.v, *(state for state, does in matters if does)]

    def run(self, activation: torch.Tensor, events: torch.Tensor) -> Steps:
        """The next timesteps. activation: [T, B, N] int32; events: room for them, [T, B, N]."""
        from lavatube.sim.fast_kernels import neuron_rows

        a = activation.numpy()
        u, v = (np.empty(a.shape if kind in self.keep else (0, 0, 0), np.int32) for kind in "uv")
        overflows = np.empty((2, *a.shape[:2]), np.int64)
        neuron_rows.run_neurons(
            a, self.u, self.v, self.resting, self.balance, self.bias, *self.given, self.time, events.numpy(), u, v,
            overflows,
        )  # fmt: skip
        self.time += len(a)
        kept_u, kept_v = (torch.from_numpy(value) if len(value) else None for value in (u, v))
        return Steps(events, kept_u, kept_v, torch.from_numpy(overflows))


class TorchPopulation:
    """As `CompiledPopulation`, on any device; state in int64."""

    def __init__(self, node: NeuronNode, bias: np.ndarray, batch: int, device: str, keep: frozenset[str]) -> None:
        self.node, self.keep, self.time = node, keep, 0
        self.bias = torch.tensor(bias, dtype=torch.int64, device=device)
        self._rest(torch.zeros(batch, bias.size, dtype=torch.int64, device=device))

    def rest(self, keep: frozenset[str]) -> None:
        """See `CompiledPopulation.rest`."""
        self.keep, self.time = keep, 0
        self._rest(self.v)

    @property
    def held(self) -> list[torch.Tensor]:
        """See `CompiledPopulation.held`."""
        return [state for state in (self.u, self.v, self.resting, self.balance) if state is not None]

    def _rest(self, like: torch.Tensor) -> None:
        self.u, self.v = torch.zeros_like(like), torch.full_like(like, self.node.v_initial)
        self.resting = torch.zeros_like(like) if self.node.refractory else None
        self.balance = torch.zeros_like(like) if self.node.memory_gate else None

    def run(self, activation: torch.Tensor, events: torch.Tensor) -> Steps:
        """See `CompiledPopulation.run`."""
        u, v = (torch.empty_like(activation) if kind in self.keep else None for kind in "uv")
        overflows = torch.zeros(2, *activation.shape[:2], dtype=torch.int64, device=activation.device)
        for t in range(len(activation)):
            events[t], wraps, clips = self.step(activation[t].to(torch.int64))
            overflows[0, t], overflows[1, t] = wraps.sum(1), clips.sum(1)
            if u is not None:
                u[t] = self.u
            if v is not None:
                v[t] = self.v
        return Steps(events, u, v, overflows)

    def step(self, activation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """One timestep, [B, N] int64. returns: (events int64, wrapped bool, saturated bool)."""
        node = self.node
        if node.reset_interval and self.time % node.reset_interval == node.reset_offset:
            self._rest(activation)
        self.time += 1
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
