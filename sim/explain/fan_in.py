"""The stored connections into one neuron: which weight, from which source."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lavatube.program import DenseNode, LoihiProgram, SparseNode, Synapse, Target
from lavatube.sim.explain.replay import Recorded, seen, shifted
from lavatube.sim.explain.rule import DEFINITION, Rule


@dataclass(frozen=True)
class FanIn:
    """Of one synapse into one neuron. place: [K] flat index into the weights; source: [K] flat index of the event."""

    synapse: Synapse
    place: np.ndarray
    source: np.ndarray

    @property
    def weight(self) -> np.ndarray:
        """[K] int64"""
        return np.asarray(self.synapse.weight.reshape(-1)[self.place], np.int64)

    def events(self, program: LoihiProgram, side: Recorded) -> np.ndarray:
        """[T, S, K] int64, as the synapse sees them."""
        value = seen(program, self.synapse, side)
        return np.asarray(value.reshape(*value.shape[:2], -1)[:, :, self.source])


def fan_in(program: LoihiProgram, target: Target, neuron: tuple[int, ...]) -> list[FanIn]:
    """Of every synapse that drives the target. neuron: index in the target's shape."""
    flat = int(np.ravel_multi_index(neuron, target.shape))
    return [FanIn(synapse, *_connections(synapse, flat)) for synapse in program.inbound(target)]


def neuron_activation(
    program: LoihiProgram, target: Target, neuron: tuple[int, ...], side: Recorded, rule: Rule = DEFINITION
) -> np.ndarray:
    """[T, S]: the activation of one neuron under a rule, without that of its layer."""
    total = np.zeros((side.num_steps, len(side.length)), np.int64)
    for each in fan_in(program, target, neuron):
        if each.synapse.name != rule.without:
            weight = each.synapse.weight if rule.weights is None else rule.weights(each.synapse)
            events = seen(program, each.synapse, side, rule).reshape(*total.shape, -1)[:, :, each.source]
            part = shifted(events @ weight.reshape(-1)[each.place].astype(np.int64), each.synapse, rule)
            total = total + part * (2 if each.synapse.name == rule.twice else 1)
    return total.astype(np.int32).astype(np.int64)


def _connections(synapse: Synapse, flat: int) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(synapse, DenseNode):
        inputs = np.arange(synapse.weight.shape[1])
        return flat * len(inputs) + inputs, inputs
    if isinstance(synapse, SparseNode):
        place = np.arange(synapse.indptr[flat], synapse.indptr[flat + 1])
        return place, synapse.index[place].astype(np.int64)
    out, row, column = (int(i) for i in np.unravel_index(flat, synapse.out_shape))
    _, per_group, tall, wide = synapse.weight.shape
    c, y, x = (part.reshape(-1) for part in np.indices((per_group, tall, wide)))
    group = out // (synapse.out_shape[0] // synapse.groups)
    channel = group * per_group + c
    at_y = row * synapse.stride[0] - synapse.padding[0] + y * synapse.dilation[0]
    at_x = column * synapse.stride[1] - synapse.padding[1] + x * synapse.dilation[1]
    inside = (at_y >= 0) & (at_y < synapse.in_shape[1]) & (at_x >= 0) & (at_x < synapse.in_shape[2])
    place = np.arange(c.size) + out * c.size
    source = np.ravel_multi_index((channel[inside], at_y[inside], at_x[inside]), synapse.in_shape)
    return place[inside], np.asarray(source, np.int64)
