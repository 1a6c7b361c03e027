"""Interval analysis: how large every accumulator and register of a program can get, whatever the input."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lavatube import fixed_point as fp
from lavatube.errors import LavatubeError
from lavatube.program import LifNode, LoihiProgram, Synapse


@dataclass(frozen=True)
class LayerBound:
    """Intervals (low, high) of one synapse and the neurons it drives; u and v are None at the read-out.

    accumulator: sum of W * s before the weight exponent; activation: after it; u, v: in 1/64 of a weight unit.
    """

    synapse: str
    target: str
    accumulator: tuple[int, int]
    activation: tuple[int, int]
    u: tuple[int, int] | None
    v: tuple[int, int] | None

    def violations(self) -> list[str]:
        """What would overflow, in words; empty if nothing can."""
        rows = [
            ("accumulator", self.accumulator, -fp.INT32_MAX - 1, fp.INT32_MAX),
            ("activation", self.activation, -fp.INT32_MAX - 1, fp.INT32_MAX),
            ("u", self.u, -fp.STATE_LIMIT + 1, fp.STATE_LIMIT),
            ("v", self.v, -fp.VOLTAGE_MAX, fp.VOLTAGE_MAX),
        ]
        return [
            f"{what} can reach {got[0]}..{got[1]}, its register holds {low}..{high}"
            for what, got, low, high in rows
            if got is not None and (got[0] < low or got[1] > high)
        ]


def accumulator_bounds(synapse: Synapse, max_event: int) -> tuple[np.ndarray, np.ndarray]:
    """(low, high) of sum(W * s) per output channel or neuron, for events 0..max_event. [out] int64."""
    rows = synapse.weight.astype(np.int64).reshape(len(synapse.weight), -1)
    return np.minimum(rows, 0).sum(1) * max_event, np.maximum(rows, 0).sum(1) * max_event


def bound_layer(synapse: Synapse, target: object, max_event: int, num_steps: int) -> LayerBound:
    """Bounds of one layer. With a leak they hold for any number of steps, without (dv = 0) for `num_steps`."""
    low, high = accumulator_bounds(synapse, max_event)
    a_low, a_high = fp.shift(low, synapse.weight_exp), fp.shift(high, synapse.weight_exp)
    u = v = None
    if isinstance(target, LifNode):
        u_low, u_high = (_settled(a << fp.ACTIVATION_SHIFT, target.du + 1) for a in (a_low, a_high))
        bias = fp.bias_register(target.bias_mant, target.bias_exp).reshape(len(low), -1)
        drive_low = np.minimum(u_low + bias.min(1), 0)
        v_low = _settled(drive_low, target.dv) if target.dv else drive_low * num_steps
        resting = fp.decay(np.array(target.vth << fp.ACTIVATION_SHIFT), target.dv)  # the most that did not spike
        v_high = resting + u_high + bias.max(1)
        u, v = (int(u_low.min()), int(u_high.max())), (int(v_low.min()), int(np.maximum(v_high, 0).max()))
    name = getattr(target, "name", "")
    accumulator, activation = (int(low.min()), int(high.max())), (int(a_low.min()), int(a_high.max()))
    return LayerBound(synapse.name, name, accumulator, activation, u, v)


def _settled(drive: np.ndarray, leak: int) -> np.ndarray:
    """Limit of x <- x * (1 - leak / 4096) + drive for a constant drive, rounded away from zero."""
    magnitude = -((-np.abs(drive) * fp.DECAY_ONE) // leak)
    return np.asarray(np.sign(drive) * magnitude)


def bound_program(program: LoihiProgram, *, num_steps: int | None = None) -> tuple[LayerBound, ...]:
    """Bounds of every layer for inputs within the encoding."""
    bounds = []
    max_event = program.input.max_value
    for synapse, target in program.layers:
        bounds.append(bound_layer(synapse, target, max_event, num_steps or program.num_steps))
        max_event = 1
    return tuple(bounds)


def prove_no_overflow(program: LoihiProgram, *, num_steps: int | None = None) -> tuple[LayerBound, ...]:
    """Bounds of every layer, proven to fit when the program's overflow mode is strict.

    raises: LavatubeError naming the layer, the register, how far it can go and what it holds.
    """
    bounds = bound_program(program, num_steps=num_steps)
    for bound in bounds:
        if program.overflow == "strict" and (found := bound.violations()):
            raise LavatubeError(
                "; ".join(found),
                where=f"{bound.synapse} -> {bound.target}",
                remedy="quantize with a smaller --headroom, or accept wrap and saturation with --overflow hardware",
            )
    return bounds
