"""The integer timestep of a population in torch, equal bit for bit to `lavatube.neuron_step.step`, on any device."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from lavatube import fixed_point as fp
from lavatube.integer_layer import IntegerNeuron

BLOCK = 1 << 16  # neurons that are stepped together on a CPU


def int32(value: torch.Tensor) -> torch.Tensor:
    """`fixed_point.int32` for int64 tensors. int32 ones stay as they are: who has those knows that they fit."""
    return value if value.dtype == torch.int32 else value.to(torch.int32).to(torch.int64)


def decay(state: torch.Tensor, constant: int, *, offset: int = 0) -> torch.Tensor:
    """`fixed_point.decay` for int64 and int32 tensors; the addend turns the floor of >> into rounding toward zero.

    The product has up to 12 bits more than the state, so int32 states are cut into their upper part and 12 bits.
    """
    kept, lowest = fp.DECAY_ONE - constant - offset, fp.DECAY_ONE - 1
    if kept == 0:
        return torch.zeros_like(state)
    if state.dtype == torch.int32:
        rounding = (state >> 31).bitwise_and_(lowest)
        return (state & lowest).mul_(kept).add_(rounding).bitwise_right_shift_(fp.DECAY_BITS).add_(
            state >> fp.DECAY_BITS, alpha=kept
        )  # fmt: skip
    product = state * kept
    return (product + ((product >> 63) & lowest)) >> fp.DECAY_BITS


def wrap_current(current: torch.Tensor) -> torch.Tensor:
    """`fixed_point.wrap_current` for int64 and int32 tensors. Compared right into integers: no bool between."""
    above = torch.gt(current, fp.STATE_LIMIT, out=torch.empty_like(current))
    below = torch.le(current, -fp.STATE_LIMIT, out=torch.empty_like(current))
    return current + below.sub_(above).mul_(2 * fp.STATE_LIMIT)


@dataclass(frozen=True)
class IntegerState:
    """Between two timesteps, [B, ...] of one dtype. resting: refractory steps left; balance: sum of the emitted signs.

    The last two are None for neurons that do not need them.
    """

    u: torch.Tensor
    v: torch.Tensor
    resting: torch.Tensor | None = None
    balance: torch.Tensor | None = None


@dataclass(frozen=True)
class IntegerStep:
    """What a timestep gives, [B, ...]. events: as `events_dtype` has it.

    membrane: v before the reset, which the surrogate sees.
    wrapped, saturated: bool, where u or v overflowed; None: nowhere.
    """

    state: IntegerState
    events: torch.Tensor
    membrane: torch.Tensor
    wrapped: torch.Tensor | None
    saturated: torch.Tensor


def at_rest(neuron: IntegerNeuron, like: torch.Tensor) -> IntegerState:
    """The state before the first timestep. like: an activation [B, ...]."""
    zero = torch.zeros_like(like)
    v = zero + neuron.v_initial if neuron.v_initial else zero
    return IntegerState(zero, v, zero if neuron.refractory else None, zero if neuron.memory_gate else None)


def events_dtype(neuron: IntegerNeuron) -> torch.dtype:
    """Of its events: int8, or int32 for graded ones."""
    return torch.int32 if neuron.output == "graded" else torch.int8


def step_neurons(
    neuron: IntegerNeuron,
    state: IntegerState,
    activation: torch.Tensor,
    bias: torch.Tensor,
    *,
    may_wrap: bool = True,
) -> IntegerStep:
    """One timestep. activation: [B, ...]; bias: (...) register value, that of `neuron` on its device.

    State, activation and bias are all int64, or all int32 where no sum leaves that. may_wrap: False where u cannot
    leave its 24 bits.
    """
    raw_u = decay(state.u, neuron.du, offset=fp.CURRENT_DECAY_OFFSET) + (activation << fp.ACTIVATION_SHIFT)
    u = wrap_current(int32(raw_u)) if may_wrap else raw_u
    raw_v = decay(state.v, neuron.dv) + u + bias
    v = int32(raw_v).clamp(-fp.VOLTAGE_MAX, fp.VOLTAGE_MAX)
    wrapped, saturated = raw_u != u if may_wrap else None, raw_v != v
    full = neuron.vth << fp.ACTIVATION_SHIFT
    awake = None if state.resting is None else state.resting == 0
    if awake is not None:
        v, saturated = torch.where(awake, v, state.v), saturated & awake
    events = torch.gt(v, full, out=torch.empty_like(v, dtype=events_dtype(neuron)))
    if neuron.output == "graded":
        events = events * (v >> neuron.payload_shift).clamp(max=(1 << neuron.payload_bits) - 1).to(events.dtype)
    if neuron.output == "signed":
        below = v < -(neuron.vth_low << fp.ACTIVATION_SHIFT)
        events = events - (below if state.balance is None else below & (state.balance > 0)).to(torch.int8)
    if awake is not None:
        events = events * awake
    if neuron.reset == "subtract":
        after = torch.sub(v, events.to(v.dtype), alpha=full)
    else:  # v (1 - fired) in one sweep: a mask of bool takes several times as long
        after = torch.addcmul(v, v, torch.ne(events, 0, out=torch.empty_like(v)), value=-1)
    resting = state.resting
    if resting is not None:
        resting = torch.where(events != 0, neuron.refractory, (resting - 1).clamp(min=0))
    balance = None if state.balance is None else state.balance + events
    return IntegerStep(IntegerState(u, after, resting, balance), events, v, wrapped, saturated)


@dataclass(frozen=True)
class NeuronRun:
    """A population over all steps. events: [T, B, ...], as `events_dtype` has it.

    states: {"u", "v", "membrane"} -> [T, B, ...] int32 or int64 if kept.
    membrane: v before the reset. wrapped, saturated: [T, B] int64, neurons whose u wrapped or v saturated.
    """

    events: torch.Tensor
    states: dict[str, torch.Tensor]
    wrapped: torch.Tensor
    saturated: torch.Tensor


def run_neurons(
    neuron: IntegerNeuron, activation: torch.Tensor, bias: torch.Tensor, *, keep: Iterable[str] = ()
) -> NeuronRun:
    """Step a population from rest through activations [T, B, ...], int32 or int64; bias: (...) int64 register value.

    In int32 where nothing can overflow that, which is faster on a CPU.
    """
    steps, batch = activation.shape[:2]
    events = torch.empty_like(activation, dtype=events_dtype(neuron))
    states = {name: torch.empty_like(activation, dtype=torch.int32) for name in keep}
    wrapped, saturated = torch.zeros(2, steps, batch, dtype=torch.int64, device=activation.device)
    largest = largest_current(neuron, activation)
    fits = largest + fp.STATE_LIMIT + int(bias.abs().max()) <= fp.INT32_MAX
    dtype, may_wrap = torch.int32 if fits else torch.int64, largest >= fp.STATE_LIMIT
    bias = bias.to(dtype)
    for rows in sample_blocks(activation):
        state = at_rest(neuron, activation[0, rows].to(dtype))
        for t in range(steps):
            now = t, rows
            made = step_neurons(neuron, state, activation[now].to(dtype), bias, may_wrap=may_wrap)
            state, events[now] = made.state, made.events
            saturated[now] = made.saturated.flatten(1).sum(1)
            if made.wrapped is not None:
                wrapped[now] = made.wrapped.flatten(1).sum(1)
            for name, value in (("u", state.u), ("v", state.v), ("membrane", made.membrane)):
                if name in states:
                    states[name][now] = value
    return NeuronRun(events, states, wrapped, saturated)


def largest_current(neuron: IntegerNeuron, activation: torch.Tensor) -> int:
    """A bound of |u| of a run from rest, wraps left out (which only bring u nearer to 0). activation: [T, B, ...].

    u_t = r u_(t-1) + a, r = (4095 - du) / 4096, adds up to at most a min(T, 1 / (1 - r)).
    """
    if not activation.numel():
        return 0
    added = max(abs(int(end)) for end in activation.aminmax()) << fp.ACTIVATION_SHIFT
    return added * min(len(activation), -(-fp.DECAY_ONE // (neuron.du + fp.CURRENT_DECAY_OFFSET)))


def sample_blocks(activation: torch.Tensor) -> list[slice]:
    """Ranges of samples of [T, B, ...] to step together: on a CPU their state stays in the cache."""
    batch, neurons = activation.shape[1], activation[0, :1].numel()
    size = max(1, BLOCK // max(neurons, 1)) if activation.device.type == "cpu" else max(batch, 1)
    return [slice(start, start + size) for start in range(0, batch, size)]
