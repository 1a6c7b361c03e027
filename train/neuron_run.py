"""A population over time: step by step, through all timesteps with a hand-written backward, or with its eligibility."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from lavatube.train.neuron import NeuronSpec, fire, fire_by_autograd, partials


@dataclass(frozen=True)
class NeuronState:
    """All [B, ...]. resting: timesteps of rest that are left; balance: sum of the spikes so far.

    The last two are None for neurons without a refractory period, without a memory gate.
    """

    v: torch.Tensor
    resting: torch.Tensor | None = None
    balance: torch.Tensor | None = None

    def detach(self) -> NeuronState:
        return NeuronState(self.v.detach(), self.resting, self.balance)

    @property
    def gate(self) -> torch.Tensor | None:
        """Where the memory gate lets a -1 pass; None: anywhere."""
        return None if self.balance is None else self.balance > 0


def at_rest(spec: NeuronSpec, like: torch.Tensor) -> NeuronState:
    """The state before the first timestep. like: a current [B, ...]."""
    v = torch.full_like(like, spec.v_initial, requires_grad=False)
    zero = torch.zeros_like(v)
    return NeuronState(v, zero if spec.refractory else None, zero if spec.memory_gate else None)


def counted(spec: NeuronSpec, state: NeuronState, s: torch.Tensor) -> NeuronState:
    """`state` after the spikes of a timestep, but for v: what of the rest is left, and the balance."""
    s, resting = s.detach(), state.resting
    if resting is not None:
        resting = torch.where(s != 0, float(spec.refractory), (resting - 1).clamp(min=0))
    return NeuronState(state.v, resting, None if state.balance is None else state.balance + s)


def step(
    spec: NeuronSpec, state: NeuronState, current: torch.Tensor, *, differentiable: bool = False
) -> tuple[torch.Tensor, NeuronState, torch.Tensor]:
    """One timestep. current: [B, ...]. returns: (s, state, u); u before the reset (v where the neuron rests)."""
    u = torch.add(current, state.v, alpha=spec.decay)
    s, v = (fire_by_autograd if differentiable else fire)(spec, u, state.gate)
    if state.resting is not None:
        active = state.resting <= 0
        zero = torch.zeros((), dtype=u.dtype, device=u.device)
        s, v, u = torch.where(active, s, zero), torch.where(active, v, state.v), torch.where(active, u, state.v)
    return s, replace(counted(spec, state, s), v=v), u


@dataclass(frozen=True)
class Slopes:
    """Of a timestep, u the voltage before the reset. gain: d(event)/du; carry: dv/du; awake: 0 where it rests."""

    gain: torch.Tensor
    carry: torch.Tensor | float
    awake: torch.Tensor | None


@dataclass
class Trace:
    """What the rate rules need of a spiking pass without autograd: running sums of the spikes and of ds/dc.

    c is a shift of the input current that is the same at every timestep; the tangent is dv/dc.
    source: arXiv 2410.11488; for every neuron of `NeuronSpec` by its own `partials`.
    """

    spec: NeuronSpec
    state: NeuronState
    tangent: torch.Tensor | float = 0.0
    spikes: torch.Tensor | float = 0.0
    eligibility: torch.Tensor | float = 0.0
    steps: int = 0

    def advance(self, current: torch.Tensor) -> torch.Tensor:
        """One timestep; returns s [B, ...]. Call without autograd."""
        before = self.state
        s, self.state, u = step(self.spec, before, current)
        self.follow(u, s, before)
        return s

    def follow(self, u: torch.Tensor, s: torch.Tensor, before: NeuronState) -> None:
        """Take in a timestep that was computed elsewhere. u: before the reset; before: the state before it, but v."""
        gain, carry = partials(self.spec, u, s, before.gate)
        moved = 1 + self.spec.decay * self.tangent
        q, tangent = gain * moved, carry * moved
        if before.resting is not None:
            active = (before.resting <= 0).to(u.dtype)
            q, tangent = active * q, active * tangent + (1 - active) * self.tangent
        self.tangent = tangent
        self.spikes, self.eligibility = self.spikes + s, self.eligibility + q
        self.steps += 1

    def means(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(rate [B, ...], eligibility [B, ...] = d(rate) / d(mean current))."""
        assert isinstance(self.spikes, torch.Tensor)
        assert isinstance(self.eligibility, torch.Tensor)
        return self.spikes / self.steps, self.eligibility / self.steps


BLOCK = 1 << 17  # neurons that are stepped together on a CPU: their state stays in the cache


def blocks(current: torch.Tensor) -> list[slice]:
    """Ranges of neurons to step together through all timesteps. current: [T, neurons]; one range on a GPU."""
    count = current.shape[1]
    size = BLOCK if current.device.type == "cpu" else max(count, 1)
    return [slice(start, start + size) for start in range(0, count, size)]


@torch.no_grad()
def trace(current: torch.Tensor, spec: NeuronSpec, num_steps: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The spiking pass of a population at rest. current: [T, B, ...] or [1, B, ...].

    returns: (spikes [T, B, ...], rate [B, ...], eligibility [B, ...]), in the dtype of the current.
    """
    flat = current.flatten(1)
    spikes = flat.new_empty(num_steps, flat.shape[1])
    rate, eligibility = torch.empty_like(flat[0]), torch.empty_like(flat[0])
    for block in blocks(flat):
        running = Trace(spec, at_rest(spec, flat[0, block]))
        for t in range(num_steps):
            spikes[t, block] = running.advance(flat[t if len(flat) > 1 else 0, block])
        rate[block], eligibility[block] = running.means()
    shape = current.shape[1:]
    return spikes.reshape(num_steps, *shape), rate.reshape(shape), eligibility.reshape(shape)


class RunThroughTime(torch.autograd.Function):
    """Spikes [T, neurons] of neurons at rest, from currents [T, neurons]; the backward goes through all timesteps.

    Saves one tensor per timestep, the voltage before the reset: as lean as backpropagation through time can be.
    """

    @staticmethod
    def forward(ctx: Any, current: torch.Tensor, spec: NeuronSpec) -> torch.Tensor:
        spikes, voltage = torch.empty_like(current), torch.empty_like(current)
        active = torch.ones_like(current, dtype=torch.bool) if spec.refractory else None
        gate = torch.ones_like(current, dtype=torch.bool) if spec.memory_gate else None
        for block in blocks(current):
            state = at_rest(spec, current[0, block])
            for t in range(len(current)):
                if active is not None and state.resting is not None:
                    active[t, block] = state.resting <= 0
                if gate is not None and state.gate is not None:
                    gate[t, block] = state.gate
                spikes[t, block], state, voltage[t, block] = step(spec, state, current[t, block])
        ctx.spec = spec
        ctx.save_for_backward(voltage, active, gate)
        return spikes

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        spec: NeuronSpec = ctx.spec
        voltage, awake, gate = ctx.saved_tensors
        result = torch.empty_like(voltage)
        for block in blocks(voltage):
            by_v: torch.Tensor | float = 0.0  # d(loss) / d(v after the step)
            for t in range(len(voltage) - 1, -1, -1):
                u = voltage[t, block]
                may_fall = None if gate is None else gate[t, block]
                s, _ = fire(spec, u, may_fall)
                gain, carry = partials(spec, u, s, may_fall)
                by_u = gain * gradients[0][t, block] + carry * by_v
                if awake is not None:
                    active = awake[t, block].to(u.dtype)
                    by_u = active * by_u
                    by_v = spec.decay * by_u + (1 - active) * by_v
                else:
                    by_v = spec.decay * by_u
                result[t, block] = by_u
        return result, None


def run_through_time(current: torch.Tensor, spec: NeuronSpec) -> torch.Tensor:
    """Spikes [T, B, ...] of neurons at rest; differentiable by `RunThroughTime`. current: [T, B, ...]."""
    flat = current.flatten(1)
    if torch.is_grad_enabled():
        spikes: torch.Tensor = RunThroughTime.apply(flat, spec)
        return spikes.reshape(current.shape)
    spikes = torch.empty_like(flat)
    for block in blocks(flat):
        state = at_rest(spec, flat[0, block])
        for t in range(len(flat)):
            spikes[t, block], state, _ = step(spec, state, flat[t, block])
    return spikes.reshape(current.shape)
