"""Counts while the events are in the cache: sums of a block of samples, from stretch to stretch."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
import torch

from lavatube.program import DenseNode
from lavatube.sim.fast_kernels.count_plan import CountPlan, Key, only_inbound
from lavatube.sim.fast_kernels.count_sums import CompiledSums, Settling, TorchSums
from lavatube.sim.fast_kernels.count_terms import Terms
from lavatube.sim.fast_kernels.count_updates import CompiledUpdates, TorchUpdates
from lavatube.sim.fast_kernels.synapse import ReadySynapse


class ReadyCounts:
    """A program's counting made ready. past: timesteps before now that lie in front of a source's events."""

    def __init__(self, plan: CountPlan, synapses: Mapping[str, ReadySynapse], past: Mapping[str, int]) -> None:
        self.plan, program = plan, plan.program
        self.compiled = all(ready.compiled for ready in synapses.values())
        kind = CompiledUpdates if self.compiled else TorchUpdates
        self.updates: dict[str, CompiledUpdates | TorchUpdates] = {}  # of dense ones alone follow from other sums
        self.keys: dict[str, list[Key]] = {}
        self.after: dict[str | None, list[str]] = {}  # of one source: counted with its events, else at the end
        for node in program.neurons:
            inbound = [synapses[synapse.name] for synapse in program.inbound(node)]
            only = only_inbound(program, node)
            if only is not None and isinstance(only, DenseNode):
                continue
            self.updates[node.name] = kind(node, inbound)
            self.keys[node.name] = [plan.synapses[ready.node.name].key for ready in inbound]
            at = None if only is None else program.source_of(only).name
            self.after.setdefault(at, []).append(node.name)
        self.first = {key: past[key[0]] - key[1] for key in plan.groups}
        self.of_source = {
            source.name: [key for key in plan.groups if key[0] == source.name] for source in program.sources
        }

    @cached_property
    def terms(self) -> Terms:
        return Terms(self.plan)


class Counting:
    """All sums of a block of samples. made: {source: room for its past and a stretch of events, [past + T, B, N]}."""

    def __init__(self, ready: ReadyCounts, made: Mapping[str, torch.Tensor]) -> None:
        self.ready, plan = ready, ready.plan
        self.table = np.zeros((next(iter(made.values())).shape[1], ready.terms.width), np.int64)
        self.whole = self.stop = np.zeros(len(self.table), np.int64)
        rooms = {key: made[key[0]][ready.first[key] :] for key in plan.groups}
        hits = {key: self.table[:, plan.hits[key]] for key in plan.groups}
        self.settling = Settling(plan, self.table) if ready.compiled else None
        self.sums: dict[Key, CompiledSums | TorchSums] = {}
        for key, columns in plan.groups.items():
            if self.settling is not None:
                self.sums[key] = CompiledSums(columns, rooms[key], hits[key], self.settling)
            else:
                there = self.table[:, plan.events[key] : plan.events[key] + columns.kinds * len(columns.weights)]
                self.sums[key] = TorchSums(columns, rooms[key], hits[key], there)
        self.of_source = {name: [self.sums[key] for key in keys] for name, keys in ready.of_source.items()}
        self.into = {name: [self.sums[key] for key in keys] for name, keys in ready.keys.items()}
        self.rows = {name: self.table[:, plan.updates[name]] for name in ready.updates}

    def start(self, length: torch.Tensor, shortest: int) -> None:
        """Samples of these lengths [B], of which nothing has been counted."""
        self.length = length.cpu().numpy()
        self.shortest = shortest
        self.table[:] = 0
        self.ready.terms.put_lengths(self.length, self.table)

    def begin(self, time: int, count: int, alive: torch.Tensor) -> None:
        """A stretch of `count` timesteps from `time` on. alive: [count, B] bool, False where a sample has ended."""
        self.count, self.alive = count, alive
        if time + count <= self.shortest:
            if self.stop is not self.whole or self.whole[0] != count:
                self.whole[:] = count
            self.stop = self.whole
        else:
            self.stop = np.minimum(np.maximum(self.length - time, 0), count)

    def source(self, name: str) -> None:
        """Its events of this stretch are there."""
        for sums in self.of_source[name]:
            sums.add(self.count, self.stop, self.alive)
        self._updates(name)

    def end(self) -> None:
        """All events of this stretch are there."""
        self._updates(None)

    def _updates(self, name: str | None) -> None:
        for each in self.ready.after.get(name, ()):
            updates = self.ready.updates[each]
            updates.add(self.into[each], self.count, self.stop, self.alive, self.rows[each])

    def result(self) -> np.ndarray:
        """[B, sums] int64, as `Terms` orders them; nothing has been counted then."""
        if self.settling is not None:
            self.settling.settle()
        for sums in self.sums.values() if self.settling is None else ():
            if isinstance(sums, TorchSums):
                sums.finish()
        return self.table.copy()
