"""One population or read-out again, alone, from the events that a trace recorded, under any `Rule`.

It shares the synaptic sums with the reference, but no arithmetic of neurons: what judges an engine must not share its
mistake. Tests hold it equal to the reference under the definition.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lavatube import fixed_point as fp
from lavatube.program import Conv2dNode, DenseNode, LoihiProgram, NeuronNode, ReadoutNode, Synapse, Target
from lavatube.sim.compare import keyed
from lavatube.sim.explain.rule import DEFINITION, Rule
from lavatube.sim.reference import conv_sums, dense_sums, sparse_sums
from lavatube.trace import SpikeTrace, file_keys

TOP = 1 << (fp.STATE_BITS - 1)


@dataclass(frozen=True)
class Recorded:
    """What one side recorded of some samples. events: {source: [T, S, ...] int64}; length: [S]."""

    events: Mapping[str, np.ndarray]
    length: np.ndarray

    @property
    def num_steps(self) -> int:
        return len(next(iter(self.events.values())))

    @property
    def alive(self) -> np.ndarray:
        """[T, S] bool, within the samples' lengths."""
        return np.asarray(np.arange(self.num_steps)[:, None] < self.length[None, :])


@dataclass(frozen=True)
class Replayed:
    """activation, spikes, u, v: [T, S, shape] int64; of a read-out: activation and readout [S, classes]."""

    activation: np.ndarray
    spikes: np.ndarray | None = None
    u: np.ndarray | None = None
    v: np.ndarray | None = None
    readout: np.ndarray | None = None


def recorded(program: LoihiProgram, trace: SpikeTrace, samples: Sequence[int]) -> Recorded:
    """The events of all sources for some samples of a trace."""
    index = list(samples)
    events = {name: value[:, index].astype(np.int64) for name, value in trace.spikes.items()}
    there = keyed("input", trace.inputs)
    for name, key in file_keys("input", [node.name for node in program.inputs]).items():
        events[name] = there[key][:, index].astype(np.int64)
    return Recorded(events, trace.length[index])


def moved(value: np.ndarray, steps: int) -> np.ndarray:
    """[T, ...] later by so many steps (negative: earlier), zeros where nothing is."""
    out = np.zeros_like(value)
    if steps >= 0:
        out[steps:] = value[: max(len(value) - steps, 0)]
    else:
        out[:steps] = value[-steps:]
    return out


def seen(program: LoihiProgram, synapse: Synapse, side: Recorded, rule: Rule = DEFINITION) -> np.ndarray:
    """Events as a synapse sees them: [T, S, in_shape]."""
    value = side.events[program.source_of(synapse).name]
    value = moved(value, program.lag(synapse) + rule.later).reshape(*value.shape[:2], *synapse.in_shape)
    return np.asarray(np.sign(value)) if rule.clip else value


def of_neuron(value: np.ndarray, neuron: tuple[int, ...]) -> np.ndarray:
    """[T, S] of one neuron. value: [T, S, shape]."""
    index: Any = (slice(None), slice(None), *neuron)
    return np.asarray(value[index])


def with_weight(synapse: Synapse, weight: np.ndarray) -> Synapse:
    """The same synapse with weights that no program need allow: an engine's mistake is on no grid."""
    changed = copy.copy(synapse)
    object.__setattr__(changed, "weight", np.ascontiguousarray(weight))
    return changed


def sums(synapse: Synapse, events: np.ndarray) -> np.ndarray:
    """Weights applied to events, before the shift. events: [T, S, in_shape]; returns [T, S, out_shape]."""
    flat = events.reshape(-1, *synapse.in_shape)
    if isinstance(synapse, DenseNode):
        total = dense_sums(synapse, flat)
    elif isinstance(synapse, Conv2dNode):
        total = conv_sums(synapse, flat)
    else:
        total = sparse_sums(synapse, flat)
    return np.asarray(total.reshape(*events.shape[:2], *synapse.out_shape))


def shifted(total: np.ndarray, synapse: Synapse, rule: Rule) -> np.ndarray:
    """Sums times 2^weight_exp."""
    exponent = synapse.weight_exp + rule.exponent
    total = _int32(total)
    if exponent >= 0:
        return _int32(total << exponent)
    return np.asarray(np.sign(total) * (np.abs(total) >> -exponent) if rule.shift == "zero" else total >> -exponent)


def activation(program: LoihiProgram, target: Target, side: Recorded, rule: Rule = DEFINITION) -> np.ndarray:
    """The int32 sum over a target's synapses, [T, S, shape]."""
    parts = []
    for synapse in program.inbound(target):
        if synapse.name == rule.without:
            continue
        used = with_weight(synapse, rule.weights(synapse)) if rule.weights is not None else synapse
        part = shifted(sums(used, seen(program, synapse, side, rule)), synapse, rule)
        parts.append(part.reshape(*part.shape[:2], *target.shape) * (2 if synapse.name == rule.twice else 1))
    if not parts:
        return np.zeros((side.num_steps, len(side.length), *target.shape), np.int64)
    return _int32(sum(parts))  # type: ignore[arg-type]


def replay(program: LoihiProgram, target: Target, side: Recorded, rule: Rule = DEFINITION) -> Replayed:
    """A target under a rule, from rest, on recorded events."""
    if isinstance(target, NeuronNode):
        bias = (target.bias_mant if rule.biases is None else rule.biases).astype(np.int64)
        return neurons(target, activation(program, target, side, rule), bias, rule)
    return _readout(program, target, side, rule)


def neurons(node: NeuronNode, a: np.ndarray, bias_mant: np.ndarray, rule: Rule) -> Replayed:
    """Neurons under a rule. a: [T, S, ...] int64; bias_mant: broadcastable to a step of it."""
    bias = (bias_mant << node.bias_exp if rule.bias_exponent else bias_mant) * rule.bias
    rest = np.zeros(a.shape[1:], np.int64)
    initial = rest + (node.v_initial if rule.v_initial else 0)
    top, low = (node.vth + rule.threshold) << fp.ACTIVATION_SHIFT, -node.vth_low << fp.ACTIVATION_SHIFT
    kind = node.reset if rule.reset in ("own", "late", "shown", "both") else rule.reset
    u, v, resting, balance, before = rest, initial, rest, rest, rest
    kept: dict[str, list[np.ndarray]] = {"spikes": [], "u": [], "v": []}
    for t in range(len(a)):
        if node.reset_interval and t % node.reset_interval == node.reset_offset:
            u, v, resting, balance, before = rest, initial, rest, rest, rest
        u = _current(_int32(_decay(u, node.du + 1 + rule.du, rule.round_u) + (a[t] << fp.ACTIVATION_SHIFT)), rule)
        whole = _int32(_decay(v, node.dv + rule.dv, rule.round_v) + u + (bias if t >= rule.onset else 0))
        awake = resting == 0
        v = np.where(awake, _voltage(whole, rule), v)
        event = np.where(awake, _events(node, v, top, low, balance, at=rule.at_threshold), 0)
        sign = np.sign(event)
        after = _reset(v, before if rule.reset == "late" else sign, node.vth << fp.ACTIVATION_SHIFT, kind)
        kept["v"].append(v if rule.reset == "shown" else after)
        v, before, balance = after, sign, balance + sign
        u = np.where(sign != 0, 0, u) if rule.reset == "both" else u
        resting = np.where(sign != 0, max(node.refractory + rule.refractory, 0), np.maximum(resting - 1, 0))
        kept["spikes"].append(event)
        kept["u"].append(u)
    return Replayed(a, **{name: np.stack(values) for name, values in kept.items()})


def _readout(program: LoihiProgram, node: ReadoutNode, side: Recorded, rule: Rule) -> Replayed:
    bias = (node.bias if rule.biases is None else rule.biases) * rule.bias
    if node.reads == "voltage":
        v = replay(program, program.read_by(node), side).v
        assert v is not None
        a = v.reshape(*v.shape[:2], *node.shape)
        last = np.maximum(side.length - 1, 0)
        return Replayed(a, readout=np.where(side.length[:, None] > 0, a[last, np.arange(len(last))], 0) + bias)
    if node.reads == "current":
        a = activation(program, node, side, rule)
    else:
        source = side.events[program.read_by(node).name]
        a = moved(source, rule.later).reshape(*source.shape[:2], *node.shape)
        a = np.sign(a) if rule.clip else a
    t = np.arange(len(a))[:, None]
    counted = (t >= rule.first) & (t < (side.length - rule.last)[None, :])
    biased = counted & (t >= rule.onset)
    total = (a * counted[..., None]).sum(0) + bias * biased.sum(0)[:, None]
    return Replayed(a, readout=_int32(total) if rule.wrap_sum else total)


def _int32(value: np.ndarray) -> np.ndarray:
    return np.asarray(value).astype(np.int32).astype(np.int64)


def _decay(state: np.ndarray, constant: int | np.ndarray, rounding: str) -> np.ndarray:
    product = state * (fp.DECAY_ONE - np.clip(constant, 0, fp.DECAY_ONE))
    if rounding == "floor":
        return np.asarray(product >> fp.DECAY_BITS)
    half = fp.DECAY_ONE // 2 if rounding == "nearest" else 0
    return np.asarray(np.sign(product) * ((np.abs(product) + half) >> fp.DECAY_BITS))


def _current(u: np.ndarray, rule: Rule) -> np.ndarray:
    if rule.current == "saturate":
        return np.clip(u, -TOP + 1, TOP - 1)
    return np.asarray(u - 2 * TOP * (u > TOP) + 2 * TOP * (u <= -TOP))


def _voltage(v: np.ndarray, rule: Rule) -> np.ndarray:
    if rule.voltage == "saturate":
        return np.clip(v, -TOP + 1, TOP - 1)
    return np.asarray((v + TOP) % (2 * TOP) - TOP)


def _events(
    node: NeuronNode, v: np.ndarray, top: int | np.ndarray, low: int, balance: np.ndarray, *, at: bool
) -> np.ndarray:
    if node.output == "none":
        return np.zeros_like(v)
    above = v >= top if at else v > top
    if node.output == "graded":
        return np.asarray(above * np.minimum(v >> node.payload_shift, (1 << node.payload_bits) - 1))
    if node.output == "signed":
        below = v <= low if at else v < low
        return np.asarray(above.astype(np.int64) - (below & (balance > 0) if node.memory_gate else below))
    return above.astype(np.int64)


def _reset(v: np.ndarray, sign: np.ndarray, threshold: int, kind: str) -> np.ndarray:
    if kind == "none":
        return v
    return v - threshold * sign if kind == "subtract" else np.where(sign != 0, 0, v)
