"""Counts of every timestep of every sample: what all other counts are sums of."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lavatube.program import Conv2dNode, DenseNode, LoihiProgram, NeuronNode, Source, Synapse, Target
from lavatube.sim.connectivity import fan_out, reached, reached_places
from lavatube.sim.counts.events import alive, check_fits, chunks, delayed, events_of, is_graded
from lavatube.sim.counts.layer import TERMS
from lavatube.trace import SpikeTrace

AT_ONCE = 1 << 24  # elements of one chunk of samples
Steps = Mapping[str, np.ndarray]  # {term: [T, B] int64}


def layer_name(program: LoihiProgram, target: Target) -> str:
    """A layer is named by the synapses into its target; a read-out that reads a population by itself."""
    return " + ".join(synapse.name for synapse in program.inbound(target)) or target.name


def count_steps(program: LoihiProgram, trace: SpikeTrace) -> dict[str, Steps]:
    """{layer: {term: [T, B] int64}}; beyond a sample's length all are zero. Terms as in `LayerCounts`.

    raises: LavatubeError if the trace does not have the program's layers, shapes and events.
    """
    check_fits(program, trace)
    within = alive(trace)
    found: dict[str, Steps] = {}
    for target in program.targets:
        rows = {term: np.zeros(within.shape, np.int64) for term in TERMS}
        for synapse in program.inbound(target):
            for term, values in _synapse(program, synapse, trace).items():
                rows[term] += values
        for term, values in _target(program, target, trace).items():
            rows[term] += values
        found[layer_name(program, target)] = {term: values * within for term, values in rows.items()}
    return found


def _synapse(program: LoihiProgram, synapse: Synapse, trace: SpikeTrace) -> Steps:
    source, lag = program.source_of(synapse), program.lag(synapse)
    stored, nonzero = (part.reshape(-1) for part in fan_out(synapse))
    parts = []
    for samples in chunks(trace.batch, trace.num_steps * stored.size, AT_ONCE):
        events = events_of(source, trace, samples)
        shape = events.shape[:2]
        if events.strides[0] == 0 and len(events):  # the same at every timestep
            events = events[:1]
        one = _event_terms(source, events.reshape(-1, stored.size), stored, nonzero)
        rows = {term: np.broadcast_to(values.reshape(len(events), -1), shape) for term, values in one.items()}
        parts.append(rows)
    found = {term: delayed(np.concatenate([rows[term] for rows in parts], 1), lag) for term in parts[0]}
    return found | {"synops_dense": np.full((trace.num_steps, trace.batch), int(stored.sum()))}


def _event_terms(source: Source, events: np.ndarray, stored: np.ndarray, nonzero: np.ndarray) -> Steps:
    """events: [N, neurons]; stored, nonzero: [neurons] connections that leave each; returns {term: [N]}."""
    active = (events != 0).view(np.uint8)
    found = {"events_in": np.count_nonzero(active, axis=1)}
    varying = {}
    for term, weights in (("synops_stored", stored), ("synops_nonzero", nonzero)):
        if weights.min() == weights.max():
            found[term] = found["events_in"] * weights[0]
        else:
            varying[term] = weights
    found |= dict(zip(varying, _products(active, list(varying.values())), strict=True))
    if not is_graded(source):
        return found | {"synop_bits": found["synops_stored"]}
    return found | {
        "synop_bits": _products(_bit_lengths(events), [stored])[0],
        "graded_stored": found["synops_stored"],
        "graded_nonzero": found["synops_nonzero"],
    }


def _products(values: np.ndarray, weights: list[np.ndarray]) -> list[np.ndarray]:
    """[N] int64 for each of the weights [neurons]; by float products, whose sums are integers that the float holds."""
    if not weights:
        return []
    columns = np.stack(weights, 1)
    largest = int(columns.sum(0).max()) * int(values.max(initial=0))
    kind = np.float32 if largest < 1 << 24 else np.float64  # below 2^53: no timestep comes near it
    product = values.astype(kind) @ columns.astype(kind)
    return list(product.T.astype(np.int64))


def _bit_lengths(events: np.ndarray) -> np.ndarray:
    """Bits of each magnitude, uint8."""
    found = np.zeros(events.shape, np.uint8)
    size, left = np.abs(events.astype(np.int32, copy=False)), True
    while left:
        found += size > 0
        size = size >> 1
        left = bool(size.any())
    return found


def _target(program: LoihiProgram, target: Target, trace: SpikeTrace) -> Steps:
    shape, size = (trace.num_steps, trace.batch), int(np.prod(target.shape))
    if not isinstance(target, NeuronNode):
        return {"host_additions": np.full(shape, size)}
    spikes = trace.spikes[target.name]
    return {
        "neuron_accesses": np.full(shape, size),
        "updates": updates(program, target, trace),
        "spikes_out": np.count_nonzero(spikes.reshape(*shape, -1), axis=-1),
        "resets": np.broadcast_to(_resets(target, trace.num_steps)[:, None] * size, shape),
    }


def _resets(target: NeuronNode, steps: int) -> np.ndarray:
    """[T]: 1 where the population starts anew: at the first timestep, and at its own resets."""
    at = np.arange(steps)
    own = at % target.reset_interval == target.reset_offset if target.reset_interval else np.zeros(steps, bool)
    return np.asarray(own | (at == 0), np.int64)


def updates(
    program: LoihiProgram, target: NeuronNode, trace: SpikeTrace, groups: np.ndarray | None = None
) -> np.ndarray:
    """[T, B] neurons that received an event or have a bias; by group of neurons [T, B, groups] if given.

    groups: [neurons] int, of each neuron in C order.
    """
    biased, size = target.bias_mant.reshape(-1) != 0, target.bias_mant.size
    if groups is None and all(isinstance(synapse, DenseNode) for synapse in program.inbound(target)):
        return _updates_of_dense(program, target, trace, int(biased.sum()))
    group = np.zeros(size, np.int64) if groups is None else groups
    order = np.argsort(group, kind="stable")
    found = np.zeros((trace.num_steps, trace.batch, int(group.max()) + 1), np.int64)
    only = program.inbound(target)[0] if len(program.inbound(target)) == 1 else None
    here, starts = np.unique(group[order], return_index=True)
    for samples in chunks(trace.batch, trace.num_steps * size, AT_ONCE):
        shape = (trace.num_steps, len(trace.length[samples]))
        if groups is None and isinstance(only, Conv2dNode) and not biased.any():  # its channels are alike
            events = events_of(program.source_of(only), trace, samples)
            places = reached_places(only, np.ascontiguousarray(events).reshape(-1, *only.in_shape))
            number = np.count_nonzero(places.reshape(*shape, -1), axis=-1) * (only.out_shape[0] // only.groups)
            found[:, samples, 0] = delayed(number, program.lag(only))
            continue
        updated = np.broadcast_to(biased, (*shape, size))
        for synapse in program.inbound(target):
            events = events_of(program.source_of(synapse), trace, samples)
            hit = reached(synapse, np.ascontiguousarray(events).reshape(-1, *synapse.in_shape))
            updated = updated | delayed(hit.reshape(*shape, size), program.lag(synapse))
        if groups is None:
            found[:, samples, 0] = np.count_nonzero(updated, axis=-1)
        else:
            found[:, samples, here] = np.add.reduceat(updated[..., order], starts, axis=-1, dtype=np.int64)
    return found[..., 0] if groups is None else found


def _updates_of_dense(program: LoihiProgram, target: NeuronNode, trace: SpikeTrace, biased: int) -> np.ndarray:
    """Any event reaches every neuron."""
    hit = np.zeros((trace.num_steps, trace.batch), bool)
    for synapse in program.inbound(target):
        events = events_of(program.source_of(synapse), trace)
        hit |= delayed((events != 0).any(tuple(range(2, events.ndim))), program.lag(synapse))
    return np.where(hit, target.bias_mant.size, biased)
