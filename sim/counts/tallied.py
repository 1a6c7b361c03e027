"""Counts from the sums that the fast engine makes while it runs; equal to `count` on the trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lavatube.program import LoihiProgram, NeuronNode, Target
from lavatube.sim.counts.events import is_graded
from lavatube.sim.counts.host import bytes_of, weight_bits
from lavatube.sim.counts.layer import TERMS, LayerCounts
from lavatube.sim.counts.result import Counts
from lavatube.sim.counts.steps import layer_name
from lavatube.sim.fast_kernels.count_plan import CountPlan
from lavatube.sim.fast_kernels.counting import Counting


@dataclass(frozen=True)
class Tallied:
    """What a block of samples did. layers: {layer: {term: total}}; samples: [terms, B] int64 over all layers."""

    layers: dict[str, LayerCounts]
    samples: np.ndarray
    sample_steps: int
    host_bytes: tuple[int, int]


def tallied(plan: CountPlan, counting: Counting, length: np.ndarray) -> Tallied:
    """length: [B] int64 timesteps of each sample that counted."""
    program = plan.program
    sums, updates = counting.result()
    layers, samples = {}, np.zeros((len(TERMS), len(length)), np.int64)
    for target in program.targets:
        rows = _synapses(plan, target, sums, length)
        size = int(np.prod(target.shape))
        if isinstance(target, NeuronNode):
            rows["neuron_accesses"] = size * length
            rows["updates"] = updates[target.name]
            rows["spikes_out"] = sums[target.name, 0][0][:, 0]
            rows["resets"] = size * _resets(target, length)
        else:
            rows["host_additions"] = size * length
        layers[layer_name(program, target)] = LayerCounts(**{term: int(rows[term].sum()) for term in rows})
        for place, term in enumerate(TERMS):
            samples[place] += rows.get(term, 0)
    events = {source.name: int(sums[source.name, 0][0][:, 0].sum()) for source in program.sources}
    return Tallied(layers, samples, int(length.sum()), bytes_of(program, events, int((length > 0).sum())))


def counts_of(program: LoihiProgram, sha256: str, parts: Sequence[Tallied]) -> Counts:
    """All parts together, in their order."""
    layers = {name: sum((part.layers[name] for part in parts), LayerCounts()) for name in parts[0].layers}
    samples = np.concatenate([part.samples for part in parts], 1)
    return Counts(
        layers,
        samples.shape[1],
        sum(part.sample_steps for part in parts),
        sha256,
        any(node.message_bits > 1 for node in program.inputs),
        sum(part.host_bytes[0] for part in parts),
        sum(part.host_bytes[1] for part in parts),
        weight_bits(program),
        None,
        {term: tuple(row.tolist()) for term, row in zip(TERMS, samples, strict=True)},
    )


def _synapses(
    plan: CountPlan, target: Target, sums: dict[tuple[str, int], tuple[np.ndarray, np.ndarray]], length: np.ndarray
) -> dict[str, np.ndarray]:
    """{term: [B]} of the synapses into a target."""
    found: dict[str, np.ndarray] = {}

    def add(term: str, values: np.ndarray) -> None:
        found[term] = found.get(term, 0) + values

    for synapse in plan.program.inbound(target):
        at = plan.synapses[synapse.name]
        events, bits = sums[at.key]
        stored, nonzero = (events[:, column] * factor for column, factor in (at.stored, at.nonzero))
        add("events_in", events[:, 0])
        add("synops_stored", stored)
        add("synops_nonzero", nonzero)
        add("synops_dense", at.connections * length)
        add("synop_bits", bits[:, at.stored[0]] * at.stored[1])
        if is_graded(plan.program.source_of(synapse)):
            add("graded_stored", stored)
            add("graded_nonzero", nonzero)
    return found


def _resets(target: NeuronNode, length: np.ndarray) -> np.ndarray:
    """[B]: timesteps at which the population started anew: the first one, and its own."""
    first = (length > 0).astype(np.int64)
    if not target.reset_interval:
        return first
    own = np.maximum(length - target.reset_offset + target.reset_interval - 1, 0) // target.reset_interval
    return own if target.reset_offset == 0 else own + first

