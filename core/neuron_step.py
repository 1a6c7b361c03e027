"""One timestep of a `NeuronNode`: the integer definition that every engine must equal bit for bit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lavatube import fixed_point as fp
from lavatube.neuron_node import NeuronNode


@dataclass(frozen=True)
class NeuronState:
    """Between two steps, [B, shape] int64 each. resting: refractory steps left; balance: sum of emitted signs."""

    u: np.ndarray
    v: np.ndarray
    resting: np.ndarray
    balance: np.ndarray


@dataclass(frozen=True)
class NeuronEvents:
    """What a step gives. events: [B, shape] int64; wrapped, saturated: [B, shape] bool, where u or v overflowed."""

    events: np.ndarray
    wrapped: np.ndarray
    saturated: np.ndarray


def at_rest(node: NeuronNode, batch: int) -> NeuronState:
    """The state before the first step."""
    zero = np.zeros((batch, *node.shape), np.int64)
    return NeuronState(zero, zero + node.v_initial, zero, zero)


def step(node: NeuronNode, state: NeuronState, activation: np.ndarray, t: int) -> tuple[NeuronState, NeuronEvents]:
    """Step t (from 0) of a population. activation: [B, shape] int64, the int32 sum over its synapses.

    1. Where t mod reset_interval = reset_offset: u = 0, v = v_initial, no rest, balance 0.
    2. u' and v' as in `fixed_point.integrate`; a resting neuron keeps v, emits nothing, and rests one step less.
    3. The event e of v' by `output`: > and < are strict, the payload's >> is a floor.
    4. Where e is not 0: v = 0, or v' - 64 vth sign(e); rest for `refractory` steps; balance + sign(e). Else v = v'.
    """
    if node.reset_interval and t % node.reset_interval == node.reset_offset:
        state = at_rest(node, len(activation))
    bias = fp.bias_register(node.bias_mant, node.bias_exp)
    u, integrated, wrapped, saturated = fp.integrate(state.u, state.v, activation, bias, du=node.du, dv=node.dv)
    awake = state.resting == 0
    v = np.where(awake, integrated, state.v)
    events = np.where(awake, emitted(node, v, state.balance), 0)
    sign = np.sign(events)
    after = v - (node.vth << fp.ACTIVATION_SHIFT) * sign if node.reset == "subtract" else np.where(sign != 0, 0, v)
    resting = np.where(sign != 0, node.refractory, np.maximum(state.resting - 1, 0))
    return NeuronState(u, after, resting, state.balance + sign), NeuronEvents(events, wrapped, saturated & awake)


def emitted(node: NeuronNode, v: np.ndarray, balance: np.ndarray) -> np.ndarray:
    """Events of neurons that do not rest, before the reset; all int64."""
    if node.output == "none":
        return np.zeros_like(v)
    above = (v > (node.vth << fp.ACTIVATION_SHIFT)).astype(np.int64)
    if node.output == "graded":
        return np.asarray(above * np.minimum(v >> node.payload_shift, (1 << node.payload_bits) - 1))
    if node.output == "signed":
        below = v < -(node.vth_low << fp.ACTIVATION_SHIFT)
        return above - (below & (balance > 0) if node.memory_gate else below).astype(np.int64)
    return above
