"""A population over time: step by step, through all timesteps with a hand-written backward, or with its eligibility."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from lavatube.train.neuron import NeuronSpec, emit, fire, fire_by_autograd, partials


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
    spec: NeuronSpec,
    state: NeuronState,
    current: torch.Tensor,
    *,
    differentiable: bool = False,
    spikes: torch.Tensor | None = None,
    voltage: torch.Tensor | None = None,
) -> tuple[torch.Tensor, NeuronState, torch.Tensor]:
    """One timestep. current: [B, ...]. Without autograd, s and u are written to `spikes` and `voltage` if given.

    returns: (s, state, u); u before the reset (v where the neuron rests).
    """
    u = torch.add(current, state.v, alpha=spec.decay, out=voltage)
    s, v = fire_by_autograd(spec, u, state.gate) if differentiable else fire(spec, u, state.gate, out=spikes)
    if state.resting is not None:
        active = state.resting <= 0
        zero = torch.zeros((), dtype=u.dtype, device=u.device)
        v = torch.where(active, v, state.v)
        s, u = torch.where(active, s, zero, out=spikes), torch.where(active, u, state.v, out=voltage)
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
    steps: int = 0

    def __post_init__(self) -> None:
        self.tangent, self.spikes, self.eligibility = (torch.zeros_like(self.state.v) for _ in range(3))

    def advance(self, current: torch.Tensor, *, out: torch.Tensor | None = None) -> torch.Tensor:
        """One timestep; returns s [B, ...], written to `out` if given. Call without autograd."""
        before = self.state
        s, self.state, u = step(self.spec, before, current, spikes=out)
        self.follow(u, s, before)
        return s

    def follow(self, u: torch.Tensor, s: torch.Tensor, before: NeuronState) -> None:
        """Take in a timestep that was computed elsewhere. u: before the reset; before: the state before it, but v."""
        gain, carry = partials(self.spec, u, s, before.gate)
        if before.resting is None:
            moved = self.tangent.mul_(self.spec.decay).add_(1)
            self.eligibility.addcmul_(gain, moved)
            moved.mul_(carry)
        else:
            active, moved = before.resting <= 0, 1 + self.spec.decay * self.tangent
            self.eligibility.addcmul_(gain, moved * active)
            self.tangent = torch.where(active, carry * moved, self.tangent)
        self.spikes += s
        self.steps += 1

    def means(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(rate [B, ...], eligibility [B, ...] = d(rate) / d(mean current))."""
        return self.spikes / self.steps, self.eligibility / self.steps


BLOCK = 1 << 17  # neurons that are stepped together on a CPU: their state stays in the cache


def blocks(current: torch.Tensor) -> list[slice]:
    """Ranges of neurons to step together through all timesteps. current: [T, neurons]; one range on a GPU."""
    count = current.shape[1]
    size = BLOCK if current.device.type == "cpu" else max(count, 1)
    return [slice(start, start + size) for start in range(0, count, size)]


def in_memory_order(current: torch.Tensor) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
    """(current [T, ...] as [T, neurons], function that gives such tensors the shape and the strides of `current`).

    Neurons do not care which comes first; a view is free where a copy of channels-last currents would not be.
    """
    strides = current.stride()
    axes = sorted(range(1, current.ndim), key=lambda axis: -strides[axis])
    ordered = current.permute(0, *axes)
    shape, back = ordered.shape[1:], [0, *(1 + axes.index(axis) for axis in range(1, current.ndim))]
    return ordered.flatten(1), lambda flat: flat.reshape(len(flat), *shape).permute(back)


def mean_over_time(steps: torch.Tensor) -> torch.Tensor:
    """[B, ...] of [T, B, ...]; several times faster than `steps.mean(0)` where the channels come last."""
    flat, in_shape = in_memory_order(steps)
    return in_shape(flat.mean(0, keepdim=True))[0]


@torch.no_grad()
def trace(current: torch.Tensor, spec: NeuronSpec, num_steps: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The spiking pass of a population at rest. current: [T, B, ...] or [1, B, ...].

    returns: (spikes [T, B, ...], rate [B, ...], eligibility [B, ...]), in the dtype of the current.
    """
    flat, in_shape = in_memory_order(current)
    spikes = flat.new_empty(num_steps, flat.shape[1])
    rate, eligibility = torch.empty_like(flat[0]), torch.empty_like(flat[0])
    for block in blocks(flat):
        running = Trace(spec, at_rest(spec, flat[0, block]))
        for t in range(num_steps):
            running.advance(flat[t if len(flat) > 1 else 0, block], out=spikes[t, block])
        rate[block], eligibility[block] = running.means()
    return in_shape(spikes), in_shape(rate[None])[0], in_shape(eligibility[None])[0]


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
                now = t, block
                _, state, _ = step(spec, state, current[now], spikes=spikes[now], voltage=voltage[now])
        ctx.spec = spec
        ctx.save_for_backward(voltage, active, gate)
        return spikes

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        spec: NeuronSpec = ctx.spec
        voltage, awake, gate = ctx.saved_tensors
        result = torch.empty_like(voltage)
        for block in blocks(voltage):
            by_v: torch.Tensor | None = None  # d(loss) / d(v after the step); None: 0
            for t in range(len(voltage) - 1, -1, -1):
                u = voltage[t, block]
                may_fall = None if gate is None else gate[t, block]
                gain, carry = partials(spec, u, emit(spec, u, may_fall), may_fall)
                by_u = torch.mul(gain, gradients[0][t, block], out=result[t, block])
                if by_v is not None:
                    by_u.addcmul_(carry, by_v) if isinstance(carry, torch.Tensor) else by_u.add_(by_v, alpha=carry)
                if awake is None:
                    by_v = spec.decay * by_u
                    continue
                active = awake[t, block]
                by_u *= active
                by_v = spec.decay * by_u if by_v is None else torch.where(active, spec.decay * by_u, by_v)
        return result, None


def run_through_time(current: torch.Tensor, spec: NeuronSpec) -> torch.Tensor:
    """Spikes [T, B, ...] of neurons at rest; differentiable by `RunThroughTime`. current: [T, B, ...]."""
    flat, in_shape = in_memory_order(current)
    if torch.is_grad_enabled():
        return in_shape(RunThroughTime.apply(flat, spec))
    spikes = torch.empty_like(flat)
    for block in blocks(flat):
        state = at_rest(spec, flat[0, block])
        for t in range(len(flat)):
            _, state, _ = step(spec, state, flat[t, block], spikes=spikes[t, block])
    return in_shape(spikes)


def voltages_through_time(current: torch.Tensor, spec: NeuronSpec) -> torch.Tensor:
    """u [T, B, ...] before the reset, of neurons at rest; differentiable by autograd. current: [T, B, ...]."""
    state, voltages = at_rest(spec, current[0]), []
    for now in current:
        _, state, u = step(spec, state, now, differentiable=True)
        voltages.append(u)
    return torch.stack(voltages)
