"""The integer timestep of a population in torch, equal bit for bit to `lavatube.neuron_step.step`, on any device."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from lavatube import fixed_point as fp
from lavatube.integer_layer import IntegerNeuron

BLOCK = 1 << 16  # neurons that are stepped together on a CPU


def int32(value: torch.Tensor) -> torch.Tensor:
    """`fixed_point.int32` for int64 tensors."""
    return value.to(torch.int32).to(torch.int64)


def decay(state: torch.Tensor, constant: int, *, offset: int = 0) -> torch.Tensor:
    """`fixed_point.decay` for int64 tensors; the addend turns the floor of >> into rounding toward zero."""
    product = state * (fp.DECAY_ONE - constant - offset)
    return (product + ((product >> 63) & (fp.DECAY_ONE - 1))) >> fp.DECAY_BITS


def wrap_current(current: torch.Tensor) -> torch.Tensor:
    """`fixed_point.wrap_current` for int64 tensors."""
    above, below = current > fp.STATE_LIMIT, current <= -fp.STATE_LIMIT
    return current + 2 * fp.STATE_LIMIT * (below.long() - above.long())


@dataclass(frozen=True)
class IntegerState:
    """Between two timesteps, int64 [B, ...]. resting: refractory steps left; balance: sum of the emitted signs.

    The last two are None for neurons that do not need them.
    """

    u: torch.Tensor
    v: torch.Tensor
    resting: torch.Tensor | None = None
    balance: torch.Tensor | None = None


@dataclass(frozen=True)
class IntegerStep:
    """What a timestep gives, [B, ...]. events: as `events_dtype` has it.

    membrane: int64, v before the reset, which the surrogate sees.
    wrapped, saturated: bool, where u or v overflowed.
    """

    state: IntegerState
    events: torch.Tensor
    membrane: torch.Tensor
    wrapped: torch.Tensor
    saturated: torch.Tensor


def at_rest(neuron: IntegerNeuron, like: torch.Tensor) -> IntegerState:
    """The state before the first timestep. like: an activation [B, ...] int64."""
    zero = torch.zeros_like(like)
    v = zero + neuron.v_initial if neuron.v_initial else zero
    return IntegerState(zero, v, zero if neuron.refractory else None, zero if neuron.memory_gate else None)


def events_dtype(neuron: IntegerNeuron) -> torch.dtype:
    """Of its events: int8, or int32 for graded ones."""
    return torch.int32 if neuron.output == "graded" else torch.int8


def step_neurons(
    neuron: IntegerNeuron, state: IntegerState, activation: torch.Tensor, bias: torch.Tensor
) -> IntegerStep:
    """One timestep. activation: [B, ...] int64; bias: (...) int64 register value, that of `neuron` on its device."""
    raw_u = decay(state.u, neuron.du, offset=fp.CURRENT_DECAY_OFFSET) + (activation << fp.ACTIVATION_SHIFT)
    u = wrap_current(int32(raw_u))
    raw_v = decay(state.v, neuron.dv) + u + bias
    v = int32(raw_v).clamp(-fp.VOLTAGE_MAX, fp.VOLTAGE_MAX)
    wrapped, saturated = raw_u != u, raw_v != v
    full = neuron.vth << fp.ACTIVATION_SHIFT
    awake = None if state.resting is None else state.resting == 0
    if awake is not None:
        v, saturated = torch.where(awake, v, state.v), saturated & awake
    events = (v > full).to(events_dtype(neuron))
    if neuron.output == "graded":
        events = events * (v >> neuron.payload_shift).clamp(max=(1 << neuron.payload_bits) - 1).to(events.dtype)
    if neuron.output == "signed":
        below = v < -(neuron.vth_low << fp.ACTIVATION_SHIFT)
        events = events - (below if state.balance is None else below & (state.balance > 0)).to(torch.int8)
    if awake is not None:
        events = events * awake
    after = v - full * events.long() if neuron.reset == "subtract" else v.masked_fill(events != 0, 0)
    resting = state.resting
    if resting is not None:
        resting = torch.where(events != 0, neuron.refractory, (resting - 1).clamp(min=0))
    balance = None if state.balance is None else state.balance + events
    return IntegerStep(IntegerState(u, after, resting, balance), events, v, wrapped, saturated)


@dataclass(frozen=True)
class NeuronRun:
    """A population over all steps. events: [T, B, ...], as `events_dtype` has it.

    states: {"u", "v", "membrane"} -> [T, B, ...] if kept.
    membrane: v before the reset. wrapped, saturated: [T, B] int64, neurons whose u wrapped or v saturated.
    """

    events: torch.Tensor
    states: dict[str, torch.Tensor]
    wrapped: torch.Tensor
    saturated: torch.Tensor


def run_neurons(
    neuron: IntegerNeuron, activation: torch.Tensor, bias: torch.Tensor, *, keep: Iterable[str] = ()
) -> NeuronRun:
    """Step a population from rest through activations [T, B, ...] int64; bias: (...) int64 register value."""
    steps, batch = activation.shape[:2]
    events = torch.empty_like(activation, dtype=events_dtype(neuron))
    states = {name: torch.empty_like(activation) for name in keep}
    wrapped, saturated = torch.zeros(2, steps, batch, dtype=torch.int64, device=activation.device)
    for rows in sample_blocks(activation):
        state = at_rest(neuron, activation[0, rows])
        for t in range(steps):
            now = t, rows
            made = step_neurons(neuron, state, activation[now], bias)
            state, events[now] = made.state, made.events
            wrapped[now], saturated[now] = made.wrapped.flatten(1).sum(1), made.saturated.flatten(1).sum(1)
            for name, value in (("u", state.u), ("v", state.v), ("membrane", made.membrane)):
                if name in states:
                    states[name][now] = value
    return NeuronRun(events, states, wrapped, saturated)


def sample_blocks(activation: torch.Tensor) -> list[slice]:
    """Ranges of samples of [T, B, ...] to step together: on a CPU their state stays in the cache."""
    batch, neurons = activation.shape[1], activation[0, :1].numel()
    size = max(1, BLOCK // max(neurons, 1)) if activation.device.type == "cpu" else max(batch, 1)
    return [slice(start, start + size) for start in range(0, batch, size)]
