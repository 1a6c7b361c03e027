"""Counts while the events are in the cache: sums of a block of samples, from stretch to stretch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from lavatube.sim.fast_kernels.count_plan import CountPlan, Key
from lavatube.sim.fast_kernels.count_sums import CompiledSums, TorchSums
from lavatube.sim.fast_kernels.count_updates import CompiledUpdates, TorchUpdates
from lavatube.sim.fast_kernels.synapse import ReadySynapse


class ReadyCounts:
    """A program's counting made ready. past: timesteps before now that lie in front of a source's events."""

    def __init__(self, plan: CountPlan, synapses: Mapping[str, ReadySynapse], past: Mapping[str, int]) -> None:
        self.plan = plan
        self.compiled = all(ready.compiled for ready in synapses.values())
        kind = CompiledUpdates if self.compiled else TorchUpdates
        self.updates: dict[str, CompiledUpdates | TorchUpdates] = {}
        self.keys: dict[str, list[Key]] = {}
        for node in plan.program.neurons:
            inbound = plan.program.inbound(node)
            self.updates[node.name] = kind(node, [synapses[synapse.name] for synapse in inbound])
            self.keys[node.name] = [plan.synapses[synapse.name].key for synapse in inbound]
        self.first = {key: past[key[0]] - key[1] for key in plan.groups}


@dataclass(frozen=True)
class BlockSums:
    """Of a block of samples, int64. events, bits: {(source, lag): [B, columns]}; updates: {population: [B]}."""

    events: Mapping[Key, np.ndarray]
    bits: Mapping[Key, np.ndarray]
    updates: Mapping[str, np.ndarray]


class Counting:
    """All sums of a block of samples."""

    def __init__(self, ready: ReadyCounts, batch: int, device: str) -> None:
        self.ready = ready
        kind = CompiledSums if ready.compiled else TorchSums
        self.sums = {key: kind(columns, batch, device) for key, columns in ready.plan.groups.items()}
        self.updates = {name: np.zeros(batch, np.int64) for name in ready.updates}

    def add(self, made: Mapping[str, torch.Tensor], alive: torch.Tensor) -> None:
        """A stretch of timesteps. made: {source: [past + T, B, N] events}; alive: [T, B] bool, true first."""
        stop, count, first = alive.sum(0).cpu().numpy(), len(alive), self.ready.first
        seen = {key: made[key[0]][first[key] : first[key] + count] for key in self.sums}
        for key, sums in self.sums.items():
            sums.add(seen[key], alive, stop)
        for name, updates in self.ready.updates.items():
            updates.add([seen[key] for key in self.ready.keys[name]], alive, stop, self.updates[name])

    def result(self) -> BlockSums:
        found = {key: sums.result() for key, sums in self.sums.items()}
        events, bits = ({key: pair[place] for key, pair in found.items()} for place in (0, 1))
        return BlockSums(events, bits, self.updates)
