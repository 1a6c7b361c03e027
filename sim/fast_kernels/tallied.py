"""Counts from the sums that the fast engine makes while it runs; equal to `count` on the trace."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lavatube.program import NeuronNode, Target
from lavatube.sim.counts.events import is_graded
from lavatube.sim.counts.host import bytes_of
from lavatube.sim.counts.layer import TERMS, LayerCounts
from lavatube.sim.counts.result import Counts
from lavatube.sim.counts.steps import layer_name
from lavatube.sim.fast_kernels.count_plan import CountPlan
from lavatube.sim.fast_kernels.counting import BlockSums


def counts_of(plan: CountPlan, sha256: str, parts: Sequence[BlockSums], length: np.ndarray) -> Counts:
    """Counts of all parts, in order of the samples. sha256: the program's; length: [B] int64 timesteps that count."""
    program, sums = plan.program, _together(parts)
    layers, samples = {}, np.zeros((len(TERMS), len(length)), np.int64)
    for target in program.targets:
        rows = _synapses(plan, target, sums, length)
        size = int(np.prod(target.shape))
        if isinstance(target, NeuronNode):
            rows["neuron_accesses"] = size * length
            rows["updates"] = sums.updates[target.name]
            rows["spikes_out"] = sums.events[target.name, 0][:, 0]
            rows["resets"] = size * _resets(target, length)
        else:
            rows["host_additions"] = size * length
        layers[layer_name(program, target)] = LayerCounts(**{term: int(rows[term].sum()) for term in rows})
        for place, term in enumerate(TERMS):
            if term in rows:
                samples[place] += rows[term]
    events = {source.name: int(sums.events[source.name, 0][:, 0].sum()) for source in program.sources}
    return Counts(
        layers,
        len(length),
        int(length.sum()),
        sha256,
        any(node.message_bits > 1 for node in program.inputs),
        *bytes_of(program, events, int((length > 0).sum())),
        plan.weight_bits,
        None,
        {term: tuple(row.tolist()) for term, row in zip(TERMS, samples, strict=True)},
    )


def _together(parts: Sequence[BlockSums]) -> BlockSums:
    if len(parts) == 1:
        return parts[0]
    events, bits = (
        {key: np.concatenate([getattr(part, kind)[key] for part in parts]) for key in parts[0].events}
        for kind in ("events", "bits")
    )
    return BlockSums(
        events, bits, {name: np.concatenate([part.updates[name] for part in parts]) for name in parts[0].updates}
    )


def _synapses(plan: CountPlan, target: Target, sums: BlockSums, length: np.ndarray) -> dict[str, np.ndarray]:
    """{term: [B]} of the synapses into a target."""
    found: dict[str, np.ndarray] = {}
    for synapse in plan.program.inbound(target):
        at = plan.synapses[synapse.name]
        events, bits = sums.events[at.key], sums.bits[at.key]
        stored, nonzero = (events[:, column] * factor for column, factor in (at.stored, at.nonzero))
        terms = {
            "events_in": events[:, 0],
            "synops_stored": stored,
            "synops_nonzero": nonzero,
            "synops_dense": at.connections * length,
            "synop_bits": bits[:, at.stored[0]] * at.stored[1],
        }
        if is_graded(plan.program.source_of(synapse)):
            terms |= {"graded_stored": stored, "graded_nonzero": nonzero}
        for term, values in terms.items():
            found[term] = found[term] + values if term in found else values
    return found


def _resets(target: NeuronNode, length: np.ndarray) -> np.ndarray:
    """[B]: timesteps at which the population started anew: the first one, and its own."""
    first = (length > 0).astype(np.int64)
    if not target.reset_interval:
        return first
    own = np.maximum(length - target.reset_offset + target.reset_interval - 1, 0) // target.reset_interval
    return own if target.reset_offset == 0 else own + first
