"""A block of samples through the graph: some timesteps of every node, then the next; the state is carried across.

A feed-forward program takes many timesteps at once, one with cycles takes one. Nothing here grows with their number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from lavatube.program import InputNode, LoihiProgram, NeuronNode, ReadoutNode, Source, Target
from lavatube.sim.engine import event_dtype
from lavatube.sim.fast_kernels.count_plan import count_plan
from lavatube.sim.fast_kernels.counting import Counting, ReadyCounts
from lavatube.sim.fast_kernels.order import place_of
from lavatube.sim.fast_kernels.populations import CompiledPopulation, Steps, TorchPopulation, bias_of, joined
from lavatube.sim.fast_kernels.rooms import Room, SpareRooms
from lavatube.sim.fast_kernels.synapse import ReadySynapse

SUMS_IN_CACHE = 1 << 19  # 2 MB of int32
DTYPES = {np.uint8: torch.uint8, np.int8: torch.int8, np.int32: torch.int32}


@dataclass(frozen=True)
class Ready:
    """A program made ready for a device: its synapses and what each drives, by name of the synapse."""

    program: LoihiProgram
    device: str
    synapses: Mapping[str, ReadySynapse]
    targets: Mapping[str, Target]
    population: type[CompiledPopulation] | type[TorchPopulation]

    @cached_property
    def bias(self) -> Mapping[str, np.ndarray]:
        """[N] int32 in memory order, by population."""
        return {node.name: bias_of(node) for node in self.program.neurons}

    @cached_property
    def past(self) -> Mapping[str, int]:
        """Timesteps before now that some synapse still looks at, by source."""
        found = {source.name: 0 for source in self.program.sources}
        for synapse in self.program.synapses:
            name = self.program.source_of(synapse).name
            found[name] = max(found[name], self.program.lag(synapse))
        return found

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """Neurons of every source and target."""
        return {node.name: math.prod(node.shape) for node in (*self.program.sources, *self.program.targets)}

    def part(self, target: str, at_once: int, batch: int) -> int:
        """Timesteps whose sums are made together, of `at_once`: for a population of its own as stay in the cache."""
        fit = SUMS_IN_CACHE // max(1, batch * self.sizes[target])
        return min(at_once, max(1, fit)) if target in self.alone else at_once

    def most_sums(self, at_once: int, batch: int) -> int:
        """Sums of any target that are made together."""
        return max(
            self.part(target.name, at_once, batch) * batch * self.sizes[target.name] for target in self.program.targets
        )

    @cached_property
    def alone(self) -> Mapping[str, str]:
        """{population: the one synapse that drives it}, where they are compiled."""
        inbound = {node.name: self.program.inbound(node) for node in self.program.neurons}
        if self.population is not CompiledPopulation:
            return {}
        return {name: synapses[0].name for name, synapses in inbound.items() if len(synapses) == 1}

    @cached_property
    def seen_from(self) -> Mapping[str, tuple[str, int, str]]:
        """Of every synapse: (source, first timestep of its room that a stretch begins with, target)."""
        program = self.program
        ends = {node.name: (program.source_of(node).name, self.targets[node.name].name) for node in program.synapses}
        return {
            node.name: (ends[node.name][0], self.past[ends[node.name][0]] - program.lag(node), ends[node.name][1])
            for node in program.synapses
        }

    @cached_property
    def watched(self) -> frozenset[str]:
        """Populations whose voltages are read."""
        return frozenset(self.program.read_by(node).name for node in self.program.readouts if node.reads == "voltage")

    @cached_property
    def read_bias(self) -> Mapping[str, torch.Tensor]:
        return {node.name: torch.tensor(node.bias, device=self.device) for node in self.program.readouts}

    @cached_property
    def read_at(self) -> Mapping[str, torch.Tensor]:
        """Places in memory of what a read-out of a population reads."""
        return {
            node.name: torch.tensor(place_of(self.program.read_by(node).shape), device=self.device)
            for node in self.program.readouts
            if node.reads != "current"
        }

    @cached_property
    def counts(self) -> ReadyCounts:
        return ReadyCounts(count_plan(self.program), self.synapses, self.past)

    @cached_property
    def rooms(self) -> SpareRooms:
        return SpareRooms(self.device == "cpu")


class Walk:
    """The state of a block of samples: populations, the past of every source, the read-outs."""

    def __init__(
        self, ready: Ready, length: torch.Tensor, at_once: int, keep: frozenset[str], counted: bool = False
    ) -> None:
        """length: [B] timesteps of each sample; at_once: timesteps of a stretch; keep: of {"u", "v"}.

        counted: also make the sums of the counts.
        """
        self.ready, self.length, self.time = ready, length, 0
        program, batch, device = ready.program, len(length), ready.device
        self.shortest = int(length.min()) if batch else 0
        self.at_once = 1 if program.is_recurrent else at_once
        self.past, self.bias, self.read_at = ready.past, ready.read_bias, ready.read_at
        self.room = ready.rooms.take((batch, self.at_once), self._new_room)
        self.made, self.spare, self.populations = self.room.made, self.room.spare, self.room.populations
        for name, population in self.populations.items():
            population.rest(keep | ({"v"} if name in ready.watched else set()))
        for name, past in self.past.items():
            self.made[name][:past] = 0
        self.lent: dict[str, torch.Tensor] = {}
        self.counting = None
        if counted:
            self.counting = self.room.counting = self.room.counting or Counting(ready.counts, self.made)
            self.counting.start(length, self.shortest)
        self.readouts = {
            name: torch.zeros(batch, *bias.shape, dtype=bias.dtype, device=device) for name, bias in self.bias.items()
        }

    def _new_room(self) -> Room:
        steps, batch = self.at_once, len(self.length)
        made = {
            source.name: torch.empty(
                self.past[source.name] + steps, batch, self.ready.sizes[source.name],
                dtype=held_as(source), device=self.ready.device,
            )
            for source in self.ready.program.sources
        }  # fmt: skip
        population, bias, device = self.ready.population, self.ready.bias, self.ready.device
        populations = {
            node.name: population(node, bias[node.name], batch, device, frozenset())
            for node in self.ready.program.neurons
        }
        return Room((batch, steps), made, populations)

    def leave(self) -> None:
        """All timesteps are done: the next block may have the room."""
        self.ready.rooms.give(self.room)

    def run(self, events: Mapping[str, torch.Tensor], alive: torch.Tensor) -> dict[str, Steps]:
        """The next timesteps, at most `at_once`. Returns what each population did, in room that the next call fills.

        events: {input: [T, B, N] in memory order}; alive: [T, B] bool, False where a sample has ended.
        """
        program, count = self.ready.program, len(alive)
        received: dict[str, torch.Tensor] = {}
        done: dict[str, Steps] = {}
        counting = self.counting
        if counting is not None:
            counting.begin(self.time, count, alive)
        for node in program.nodes:
            name = node.name
            if isinstance(node, InputNode):
                self._room(name, count).copy_(events[name])
                if counting is not None:
                    counting.source(name)
            elif isinstance(node, NeuronNode):
                if name in self.ready.alone:
                    done[name] = self._part_by_part(name, count)
                else:
                    done[name] = self.populations[name].run(received.pop(name), self._room(name, count))
                    self.spare.append(self.lent.pop(name))
                if counting is not None:
                    counting.source(name)
            elif isinstance(node, ReadoutNode):
                self._read(node, count, received, done, alive)
            elif (target := self.ready.seen_from[name][2]) not in self.ready.alone:
                adds = target in received
                if not adds:
                    received[target] = self._sums(target, count)
                self._add(name, 0, count, received[target], adds)
        if counting is not None:
            counting.end()
        for name, past in self.past.items():
            if past:
                self.made[name][:past] = self.made[name][count : count + past].clone()
        self.time += count
        return done

    def _add(self, synapse: str, start: int, stop: int, sums: torch.Tensor, adds: bool) -> None:
        """What a synapse sees in timesteps start .. stop - 1 of a stretch."""
        source, first, _ = self.ready.seen_from[synapse]
        seen = self.made[source][first + start : first + stop].flatten(0, 1)
        self.ready.synapses[synapse].add(seen, sums.flatten(0, 1), adds)

    def _part_by_part(self, name: str, count: int) -> Steps:
        """A population that one synapse drives: the sums of a few timesteps, and at once its steps."""
        room, population, parts = self._room(name, count), self.populations[name], list[Steps]()
        at_once = self.ready.part(name, self.at_once, len(self.length))
        for start in range(0, count, at_once):
            stop = min(start + at_once, count)
            sums = self._sums(name, stop - start)
            self._add(self.ready.alone[name], start, stop, sums, False)
            parts.append(population.run(sums, room[start:stop]))
            self.spare.append(self.lent.pop(name))
        return parts[0] if len(parts) == 1 else joined(parts, room)

    def _sums(self, target: str, count: int) -> torch.Tensor:
        """[T, B, N] int32 with anything in it, where the sums of a node before it were: that is still in the cache."""
        batch, size = len(self.length), self.ready.sizes[target]
        most, device = self.ready.most_sums(self.at_once, batch), self.length.device
        free = self.spare.pop() if self.spare else torch.empty(most, dtype=torch.int32, device=device)
        self.lent[target] = free
        return free[: count * batch * size].view(count, batch, size)

    def _room(self, source: str, count: int) -> torch.Tensor:
        past = self.past[source]
        return self.made[source][past : past + count]

    def _read(
        self,
        node: ReadoutNode,
        count: int,
        received: dict[str, torch.Tensor],
        done: Mapping[str, Steps],
        alive: torch.Tensor,
    ) -> None:
        readout, bias = self.readouts[node.name], self.bias[node.name]
        if node.reads == "voltage":
            t = torch.arange(self.time, self.time + count, device=self.length.device)[:, None]
            v, last = done[self.ready.program.read_by(node).name].v, t == self.length - 1
            assert v is not None
            readout += torch.where(last[..., None], v[..., self.read_at[node.name]].to(torch.int64), 0).sum(0)
            if self.time == 0:
                readout += bias
            return
        if node.reads == "spikes":
            each = self._room(self.ready.program.read_by(node).name, count)[..., self.read_at[node.name]]
        else:
            each = received.pop(node.name)
            self.spare.append(self.lent.pop(node.name))
        if self.time + count <= self.shortest:
            readout += each.sum(0, dtype=torch.int64) + count * bias
        else:
            readout += ((each + bias) * alive[..., None]).sum(0)


def held_as(source: Source) -> torch.dtype:
    """The narrowest of uint8, int8 and int32 that holds a source's events."""
    if isinstance(source, InputNode):
        return torch.uint8 if source.max_value < 256 else torch.int32
    return DTYPES[event_dtype(source)]
