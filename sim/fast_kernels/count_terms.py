"""How every term of every layer is a weighted sum of what the fast engine sums on the way, and of the lengths."""

from __future__ import annotations

import numpy as np

from lavatube.program import DenseNode, NeuronNode, Target
from lavatube.sim.counts.events import is_graded
from lavatube.sim.counts.host import bytes_of
from lavatube.sim.counts.layer import TERMS
from lavatube.sim.counts.steps import layer_name
from lavatube.sim.fast_kernels.count_plan import CountPlan, only_inbound

AT = {term: place for place, term in enumerate(TERMS)}


class Terms:
    """What each sum of a sample adds to. The sums: those of `CountPlan`, and behind them the sample's timesteps,
    whether it has any, and how often each population that resets by itself does.

    by_layer: [sums, layers * terms + 2] int64, the last two the host's bytes in and out; by_sample: [sums, terms], over
    all layers.
    """

    def __init__(self, plan: CountPlan) -> None:
        self.plan, program = plan, plan.program
        self.layers = [layer_name(program, target) for target in program.targets]
        self.length, self.running = plan.width, plan.width + 1
        timed = [node for node in program.neurons if node.reset_interval]
        self.timed = {node.name: (self.running + 1 + place, node) for place, node in enumerate(timed)}
        self.width = self.running + 1 + len(timed)
        table = np.zeros((self.width, len(self.layers), len(TERMS)), np.int64)
        for place, target in enumerate(program.targets):
            self._synapses(target, table[:, place])
            self._target(target, table[:, place])
        self.by_sample = table.sum(1)
        self.graded_input = any(node.message_bits > 1 for node in program.inputs)
        silent = dict.fromkeys((source.name for source in program.sources), 0)
        sent = np.zeros((self.width, 2), np.int64)
        for source in program.sources:
            sent[plan.events[source.name, 0]] = bytes_of(program, {**silent, source.name: 1}, 0)
        sent[self.running] = bytes_of(program, silent, 1)
        self.by_layer = np.concatenate([table.reshape(self.width, -1), sent], 1)

    def put_lengths(self, length: np.ndarray, sums: np.ndarray) -> None:
        """length: [B] int64 timesteps of each sample; sums: [B, width], whose last columns are of these."""
        sums[:, self.length] = length
        sums[:, self.running] = length > 0
        for column, node in self.timed.values():
            since = np.maximum(length - node.reset_offset + node.reset_interval - 1, 0)
            sums[:, column] = since // node.reset_interval

    def _synapses(self, target: Target, rows: np.ndarray) -> None:
        """rows: [sums, terms], to add to."""
        for synapse in self.plan.program.inbound(target):
            at = self.plan.synapses[synapse.name]
            events, bits = self.plan.events[at.key], self.plan.bits[at.key]
            (stored, each), (nonzero, factor) = at.stored, at.nonzero
            rows[events, AT["events_in"]] += 1
            rows[self.length, AT["synops_dense"]] += at.connections
            rows[bits + stored, AT["synop_bits"]] += each
            graded = is_graded(self.plan.program.source_of(synapse))
            for term in ("synops_stored", "graded_stored") if graded else ("synops_stored",):
                rows[events + stored, AT[term]] += each
            for term in ("synops_nonzero", "graded_nonzero") if graded else ("synops_nonzero",):
                rows[events + nonzero, AT[term]] += factor

    def _target(self, target: Target, rows: np.ndarray) -> None:
        size = int(np.prod(target.shape))
        if not isinstance(target, NeuronNode):
            rows[self.length, AT["host_additions"]] = size
            return
        rows[self.length, AT["neuron_accesses"]] = size
        rows[self.plan.updates[target.name], AT["updates"]] = 1
        if (inbound := only_inbound(self.plan.program, target)) is not None:
            biased = int((target.bias_mant != 0).sum())
            rows[self.length, AT["updates"]] = biased  # at any timestep; by an event through it the others, too
            if isinstance(inbound, DenseNode):
                rows[self.plan.hits[self.plan.synapses[inbound.name].key], AT["updates"]] = size - biased
        rows[self.plan.events[target.name, 0], AT["spikes_out"]] = 1
        if target.name in self.timed:
            rows[self.timed[target.name][0], AT["resets"]] = size
        if not target.reset_interval or target.reset_offset:  # else its own is also the first
            rows[self.running, AT["resets"]] = size
