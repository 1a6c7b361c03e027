"""Counts while the events are in the cache: sums of a block of samples, from stretch to stretch.

A compiled form for a CPU with numba, and one in torch for every device; both give the integers of `sim.counts.count`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from lavatube.program import Conv2dNode, DenseNode, NeuronNode, SparseNode, Synapse
from lavatube.sim.fast_kernels.count_plan import Columns, CountPlan, Key
from lavatube.sim.fast_kernels.order import lay_out
from lavatube.sim.fast_kernels.synapse import ReadySynapse

BYTE = 255


class CompiledSums:
    """Weighted sums of one source at one lag: events, and bit lengths where they are graded, [B, columns] int64."""

    def __init__(self, columns: Columns, batch: int, device: str) -> None:
        self.columns, self.held = columns, 0
        size = columns.matrix.shape[1]
        self.graded = columns.most_bits > 1
        self.limit = BYTE // columns.most_bits if self.graded else BYTE  # timesteps that a byte holds
        self.together = ((1 << 31) - 1) // (BYTE * max(1, int(columns.matrix.max())))
        self.active, self.bits = (np.zeros((batch, size if there else 0), np.uint8) for there in (True, self.graded))
        self.sums = np.zeros((2, batch, len(columns.matrix)), np.int64)

    def add(self, seen: torch.Tensor, alive: torch.Tensor) -> None:
        """seen: [T, B, N] events; alive: [T, B] bool, rising first."""
        from lavatube.sim.fast_kernels import count_rows

        events, stop = seen.numpy(), alive.sum(0).numpy()
        first = 0
        while first < len(events):
            count = min(len(events) - first, self.limit - self.held)
            part, left = events[first : first + count], np.clip(stop - first, 0, count)
            count_rows.add_active(part, left, self.active)
            if self.graded:
                count_rows.add_bits(part, left, self.columns.most_bits, self.bits)
            first, self.held = first + count, self.held + count
            if self.held == self.limit:
                self._settle()

    def _settle(self) -> None:
        from lavatube.sim.fast_kernels import count_rows

        for held, sums in zip((self.active, self.bits), self.sums, strict=True):
            if held.size:
                count_rows.add_products(held, self.columns.matrix, self.together, sums)
        self.held = 0

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """(events, bits), each [B, columns] int64."""
        self._settle()
        return self.sums[0], self.sums[1] if self.graded else self.sums[0]


class TorchSums:
    """As `CompiledSums`, on any device."""

    def __init__(self, columns: Columns, batch: int, device: str) -> None:
        self.columns, self.graded = columns, columns.most_bits > 1
        room = 2 if self.graded else 1, batch, columns.matrix.shape[1]
        self.held = torch.zeros(room, dtype=torch.int64, device=device)

    def add(self, seen: torch.Tensor, alive: torch.Tensor) -> None:
        """See `CompiledSums.add`."""
        size = seen.to(torch.int32).abs() * alive[..., None]
        self.held[0] += (size > 0).sum(0)
        for k in range(self.columns.most_bits if self.graded else 0):
            self.held[1] += (size >= 1 << k).sum(0)

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """See `CompiledSums.result`."""
        sums = self.held.cpu().numpy() @ self.columns.matrix.T.astype(np.int64)
        return sums[0], sums[-1]


class Updates:
    """Neuron-steps of a population that received an event through a stored connection, or have a bias: [B] int64."""

    def __init__(self, node: NeuronNode, inbound: list[ReadySynapse], batch: int, device: str) -> None:
        self.node, self.inbound, self.device = node, inbound, device
        self.size = int(np.prod(node.shape))
        biased = lay_out(node.bias_mant != 0, node.shape)
        self.biased = torch.tensor(np.ascontiguousarray(biased), device=device)
        self.number = int(biased.sum())
        self.compiled = all(ready.compiled for ready in inbound)
        self.all_dense = all(isinstance(ready.node, DenseNode) for ready in inbound)
        self.sums = torch.zeros(batch, dtype=torch.int64, device=device)
        only = inbound[0].node if len(inbound) == 1 else None
        self.conv = only if isinstance(only, Conv2dNode) and self.compiled else None
        if self.conv is not None:  # what an event changes at a place: its neurons without a bias
            quiet = lay_out(node.bias_mant.reshape(self.conv.out_shape) == 0, self.conv.out_shape)
            grid = *self.conv.out_shape[1:], self.conv.groups, -1
            self.quiet = np.ascontiguousarray(quiet).reshape(grid).sum(-1)

    def add(self, seen: list[torch.Tensor], alive: torch.Tensor) -> None:
        """seen: of each synapse the events [T, B, N] that it receives; alive: [T, B] bool."""
        if self.all_dense:
            hit = self._any(seen)
            self.sums += (torch.where(hit, self.size, self.number) * alive).sum(0)
        elif self.conv is not None:
            places = self._places(self.inbound[0], seen[0], alive)
            found = (places.reshape(-1, self.quiet.size) @ self.quiet.reshape(-1)).reshape(alive.shape)
            self.sums += ((torch.from_numpy(found) + self.number) * alive).sum(0)
        else:
            mask = self.biased.expand(*alive.shape, self.size)
            for ready, events in zip(self.inbound, seen, strict=True):
                mask = mask | self._reached(ready, events, alive)
            self.sums += (mask.sum(-1) * alive).sum(0)

    def _any(self, seen: list[torch.Tensor]) -> torch.Tensor:
        """[T, B] bool: is there any event?"""
        if not self.compiled:
            return torch.stack([(events != 0).any(-1) for events in seen]).any(0)
        from lavatube.sim.fast_kernels import count_rows

        hit = np.zeros(seen[0].shape[:2], np.uint8)
        for events in seen:
            count_rows.mark_rows(events.numpy(), hit)
        return torch.from_numpy(hit).bool()

    def _places(self, ready: ReadySynapse, events: torch.Tensor, alive: torch.Tensor) -> np.ndarray:
        """[T, B, H', W', groups] uint8: where a convolution's window holds an event."""
        from lavatube.sim.fast_kernels import count_rows

        conv = ready.node
        assert isinstance(conv, Conv2dNode)
        channels, height, width = conv.in_shape
        if ready.take_in is not None:
            events = events[..., torch.from_numpy(ready.take_in)]
        image = events.contiguous().numpy().reshape(*alive.shape, height, width, conv.groups, channels // conv.groups)
        if image[0, 0, 0, 0, 0].nbytes % 8 == 0:
            image = image.view(np.uint64)
        places = np.zeros((*alive.shape, *conv.out_shape[1:], conv.groups), np.uint8)
        window = (conv.weight.shape[2], conv.weight.shape[3]), conv.stride, conv.padding, conv.dilation
        count_rows.mark_places(image, *window, alive.sum(0).numpy(), places)
        return places

    def _reached(self, ready: ReadySynapse, events: torch.Tensor, alive: torch.Tensor) -> torch.Tensor:
        """[T, B, N] bool."""
        node = ready.node
        if isinstance(node, DenseNode):
            return self._any([events])[..., None]
        if isinstance(node, SparseNode):
            return self._stored(ready, events)
        if self.compiled:
            found = torch.from_numpy(self._places(ready, events, alive)).bool()
        else:
            found = _pooled(ready, events)
        per_group = node.out_shape[0] // node.groups
        found = found[..., None].expand(*found.shape, per_group).reshape(*alive.shape, self.size)
        if ready.take_out is not None:
            found = found[..., torch.tensor(ready.take_out, device=found.device)]
        return found

    def _stored(self, ready: ReadySynapse, events: torch.Tensor) -> torch.Tensor:
        starts, to, _ = ready.by_source
        if self.compiled:
            from lavatube.sim.fast_kernels import count_rows

            mask = np.zeros((*events.shape[:2], self.size), np.uint8)
            count_rows.mark_stored(events.numpy(), starts, to, mask)
            return torch.from_numpy(mask).bool()
        origin = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        place, target = (torch.tensor(value, dtype=torch.int64, device=events.device) for value in (origin, to))
        active = (events != 0)[..., place].to(torch.int32)
        found = torch.zeros(*events.shape[:2], self.size, dtype=torch.int32, device=events.device)
        return found.index_add_(2, target, active) > 0


def _pooled(ready: ReadySynapse, events: torch.Tensor) -> torch.Tensor:
    """As `Updates._places`, in torch: [T, B, H', W', groups] bool."""
    conv = ready.node
    assert isinstance(conv, Conv2dNode)
    if ready.take_in is not None:
        events = events[..., torch.tensor(ready.take_in, device=events.device)]
    channels, height, width = conv.in_shape
    image = (events != 0).reshape(-1, height, width, conv.groups, channels // conv.groups).any(-1)
    (up, side), window = conv.padding, tuple(conv.weight.shape[2:])
    grid = torch.nn.functional.pad(image.permute(0, 3, 1, 2).float(), (side, side, up, up))
    found = torch.nn.functional.max_pool2d(grid, window, conv.stride, 0, conv.dilation) > 0
    return found.permute(0, 2, 3, 1).reshape(*events.shape[:2], *conv.out_shape[1:], conv.groups)


class Counting:
    """All sums of a block of samples. past: timesteps before now that lie in front of the events, by source."""

    def __init__(
        self, plan: CountPlan, synapses: Mapping[str, ReadySynapse], past: Mapping[str, int], batch: int, device: str
    ) -> None:
        self.plan, self.past = plan, past
        program, compiled = plan.program, next(iter(synapses.values())).compiled
        self.sums = {
            key: (CompiledSums if compiled else TorchSums)(columns, batch, device)
            for key, columns in plan.groups.items()
        }
        self.inbound: dict[str, tuple[Synapse, ...]] = {node.name: program.inbound(node) for node in program.neurons}
        self.updates = {
            node.name: Updates(node, [synapses[each.name] for each in self.inbound[node.name]], batch, device)
            for node in program.neurons
        }

    def add(self, made: Mapping[str, torch.Tensor], alive: torch.Tensor) -> None:
        """A stretch of timesteps. made: {source: [past + T, B, N] events}; alive: [T, B] bool."""
        for key, sums in self.sums.items():
            sums.add(self._seen(made, key, len(alive)), alive)
        for name, updates in self.updates.items():
            keys = [self.plan.synapses[synapse.name].key for synapse in self.inbound[name]]
            updates.add([self._seen(made, key, len(alive)) for key in keys], alive)

    def _seen(self, made: Mapping[str, torch.Tensor], key: Key, count: int) -> torch.Tensor:
        source, lag = key
        first = self.past[source] - lag
        return made[source][first : first + count]

    def result(self) -> tuple[dict[Key, tuple[np.ndarray, np.ndarray]], dict[str, np.ndarray]]:
        """({(source, lag): (events, bits), each [B, columns]}, {population: updates [B]}), int64."""
        updates = {name: each.sums.cpu().numpy() for name, each in self.updates.items()}
        return {key: sums.result() for key, sums in self.sums.items()}, updates
