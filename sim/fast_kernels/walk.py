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
from lavatube.sim.fast_kernels.populations import CompiledPopulation, Steps, TorchPopulation, bias_of
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
    def alone(self) -> frozenset[str]:
        """Compiled populations that one synapse drives."""
        compiled = self.population is CompiledPopulation
        return frozenset(
            node.name for node in self.program.neurons if compiled and len(self.program.inbound(node)) == 1
        )

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

    @cached_property
    def seen_from(self) -> Mapping[str, tuple[str, int]]:
        """Of every synapse its source, and where in that one's room a stretch begins for it."""
        sources = {node.name: self.program.source_of(node).name for node in self.program.synapses}
        return {
            node.name: (sources[node.name], self.past[sources[node.name]] - self.program.lag(node))
            for node in self.program.synapses
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
        self.populations = {
            node.name: ready.population(
                node, ready.bias[node.name], batch, device, keep | ({"v"} if node.name in ready.watched else set())
            )
            for node in program.neurons
        }
        self.past, self.bias, self.read_at = ready.past, ready.read_bias, ready.read_at
        self.room = ready.rooms.take((batch, self.at_once), self._new_room)
        self.made, self.spare = self.room.made, self.room.spare
        for name, past in self.past.items():
            self.made[name][:past] = 0
        self.lent: dict[str, torch.Tensor] = {}
        self.most_sums = max(
            (self._part_of(target) if target.name in ready.alone else self.at_once) * batch * ready.sizes[target.name]
            for target in program.targets
        )
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
        return Room((batch, steps), made)

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
            elif isinstance(node, NeuronNode) and name in self.ready.alone:
                done[name] = self._part_by_part(node, count)
                if counting is not None:
                    counting.source(name)
            elif isinstance(node, NeuronNode):
                done[name] = self.populations[name].run(received.pop(name), self._room(name, count))
                self.spare.append(self.lent.pop(name))
                if counting is not None:
                    counting.source(name)
            elif isinstance(node, ReadoutNode):
                self._read(node, count, received, done, alive)
            elif (target := self.ready.targets[name].name) not in self.ready.alone:
                seen = self._seen(name, 0, count)
                adds = target in received
                if not adds:
                    received[target] = self._sums(target, count)
                self.ready.synapses[name].add(seen, received[target].flatten(0, 1), adds)
        if counting is not None:
            counting.end()
        for name, past in self.past.items():
            if past:
                self.made[name][:past] = self.made[name][count : count + past].clone()
        self.time += count
        return done

    def _seen(self, synapse: str, start: int, stop: int) -> torch.Tensor:
        """Events of timesteps start .. stop - 1 of a stretch as a synapse sees them, [rows, in]."""
        source, first = self.ready.seen_from[synapse]
        return self.made[source][first + start : first + stop].flatten(0, 1)

    def _part_of(self, target: Target) -> int:
        """Timesteps whose sums stay in the cache."""
        sums = len(self.length) * self.ready.sizes[target.name]
        return min(self.at_once, max(1, SUMS_IN_CACHE // max(1, sums)))

    def _part_by_part(self, node: NeuronNode, count: int) -> Steps:
        """A population that one synapse drives: the sums of a few timesteps, and at once its steps."""
        (synapse,) = self.ready.program.inbound(node)
        room, population = self._room(node.name, count), self.populations[node.name]
        at_once = self._part_of(node)
        parts = []
        for start in range(0, count, at_once):
            stop = min(start + at_once, count)
            sums = self._sums(node.name, stop - start)
            self.ready.synapses[synapse.name].add(self._seen(synapse.name, start, stop), sums.flatten(0, 1), False)
            parts.append(population.run(sums, room[start:stop]))
            self.spare.append(self.lent.pop(node.name))
        if len(parts) == 1:
            return parts[0]
        u, v = (_joined([getattr(part, kind) for part in parts]) for kind in "uv")
        return Steps(room, u, v, torch.cat([part.overflows for part in parts], 1))

    def _sums(self, target: str, count: int) -> torch.Tensor:
        """[T, B, N] int32 with anything in it, where the sums of a node before it were: that is still in the cache."""
        batch, size, device = len(self.length), self.ready.sizes[target], self.length.device
        free = self.spare.pop() if self.spare else torch.empty(self.most_sums, dtype=torch.int32, device=device)
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


def _joined(parts: list[torch.Tensor | None]) -> torch.Tensor | None:
    found = [part for part in parts if part is not None]
    return torch.cat(found) if found else None


def held_as(source: Source) -> torch.dtype:
    """The narrowest of uint8, int8 and int32 that holds a source's events."""
    if isinstance(source, InputNode):
        return torch.uint8 if source.max_value < 256 else torch.int32
    return DTYPES[event_dtype(source)]
