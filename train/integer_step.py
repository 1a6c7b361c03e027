"""The integer timestep of plain neurons in torch, equal bit for bit to `lavatube.neuron_step.step`, on any device."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from lavatube import fixed_point as fp

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


def step_cuba_lif(
    u: torch.Tensor, v: torch.Tensor, activation: torch.Tensor, bias: torch.Tensor, *, du: int, dv: int, vth: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """One timestep; all tensors int64 [B, ...].

    returns: (u, v, spikes, v before reset, wrapped, saturated); `v before reset` is what the surrogate sees.
    """
    raw_u = decay(u, du, offset=fp.CURRENT_DECAY_OFFSET) + (activation << fp.ACTIVATION_SHIFT)
    new_u = wrap_current(int32(raw_u))
    raw_v = decay(v, dv) + new_u + bias
    new_v = int32(raw_v).clamp(-fp.VOLTAGE_MAX, fp.VOLTAGE_MAX)
    spikes = new_v > (vth << fp.ACTIVATION_SHIFT)
    return new_u, new_v.masked_fill(spikes, 0), spikes, new_v, raw_u != new_u, raw_v != new_v


@dataclass(frozen=True)
class LifRun:
    """A population over all steps. spikes: [T, B, ...] bool; states: {"u", "v", "membrane"} -> [T, B, ...] if kept.

    membrane: v before the reset. wrapped, saturated: [T, B] int64, neurons whose u wrapped or v saturated.
    """

    spikes: torch.Tensor
    states: dict[str, torch.Tensor]
    wrapped: torch.Tensor
    saturated: torch.Tensor


def run_lif(
    activation: torch.Tensor, bias: torch.Tensor, *, du: int, dv: int, vth: int, keep: Iterable[str] = ()
) -> LifRun:
    """Step a population from rest through activations [T, B, ...] int64; bias: (...) int64 register value."""
    steps, batch = activation.shape[:2]
    spikes = torch.empty_like(activation, dtype=torch.bool)
    states = {name: torch.empty_like(activation) for name in keep}
    wrapped, saturated = torch.zeros(2, steps, batch, dtype=torch.int64, device=activation.device)
    for rows in sample_blocks(activation):
        u = v = torch.zeros_like(activation[0, rows])
        for t in range(steps):
            now = t, rows
            u, v, spikes[now], membrane, wraps, clips = step_cuba_lif(
                u, v, activation[now], bias, du=du, dv=dv, vth=vth
            )
            wrapped[now], saturated[now] = wraps.flatten(1).sum(1), clips.flatten(1).sum(1)
            for name, value in (("u", u), ("v", v), ("membrane", membrane)):
                if name in states:
                    states[name][now] = value
    return LifRun(spikes, states, wrapped, saturated)


def sample_blocks(activation: torch.Tensor) -> list[slice]:
    """Ranges of samples of [T, B, ...] to step together: on a CPU their state stays in the cache."""
    batch, neurons = activation.shape[1], activation[0, :1].numel()
    size = max(1, BLOCK // max(neurons, 1)) if activation.device.type == "cpu" else max(batch, 1)
    return [slice(start, start + size) for start in range(0, batch, size)]
