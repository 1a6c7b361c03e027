"""Weighted sums of a source's events over the timesteps of each sample: compiled, and in torch for every device."""

from __future__ import annotations

import numpy as np
import torch

from lavatube.sim.fast_kernels.compiled import HAS_NUMBA
from lavatube.sim.fast_kernels.count_plan import BYTE, Columns, CountPlan, Key

if HAS_NUMBA:
    from lavatube.sim.fast_kernels import count_rows


class Settling:
    """Bytes that hold how often each neuron was active, and what becomes of them. table: [B, sums] to add to."""

    def __init__(self, plan: CountPlan, table: np.ndarray) -> None:
        self.table, self.held = table, dict.fromkeys(plan.groups, 0)  # timesteps in the bytes
        batch, parts, used = len(table), [], 0
        weights: list[np.ndarray] = []
        self.at: dict[Key, list[slice]] = {}
        for key, columns in plan.groups.items():
            size = columns.matrix.shape[1]
            self.at[key] = []
            for first in (plan.events[key], plan.bits[key])[: columns.kinds]:
                parts.append(
                    (used, size, sum(each.size for each in weights), len(columns.matrix), first, columns.together)
                )
                self.at[key].append(slice(used, used + batch * size))
                used += batch * size
            weights.append(columns.matrix.reshape(-1))
        self.bytes = np.zeros(used, np.uint8)
        self.parts, self.weights = np.array(parts, np.int64), np.concatenate(weights)
        if self.weights.max() <= np.iinfo(np.uint16).max:  # they are all read once a block
            self.weights = self.weights.astype(np.uint16)

    def settle(self) -> None:
        """Multiply the bytes by the weights, add that, and begin again from 0."""
        count_rows.add_products(self.bytes, self.parts, self.weights, self.table)
        for key in self.held:
            self.held[key] = 0


class CompiledSums:
    """Weighted sums of one source at one lag: events, and bit lengths where they are graded.

    room: where its events will be, [T or more, B, N]; hits: [B], to add the timesteps with any event to.
    there: [T or more, B] uint8 whether there was any in a timestep of this stretch, within the lengths.
    """

    def __init__(self, columns: Columns, room: torch.Tensor, hits: np.ndarray, settling: Settling) -> None:
        self.columns, self.room, self.hits, self.settling = columns, room.numpy(), hits, settling
        self.key = columns.source.name, columns.lag
        batch, size = room.shape[1:]
        self.words = self.room.view(np.uint64) if size * self.room.itemsize % 8 == 0 else self.room
        self.limit = BYTE // columns.most_bits if columns.kinds == 2 else BYTE  # timesteps that a byte holds
        self.active = [settling.bytes[at].reshape(batch, size) for at in settling.at[self.key]]
        self.there = np.empty(room.shape[:2], np.uint8)

    def add(self, count: int, stop: np.ndarray, alive: torch.Tensor) -> None:
        """The first `count` timesteps of the room, of each sample those before stop [B]."""
        held, first = self.settling.held, 0
        while first < count:
            part = min(count - first, self.limit)
            if held[self.key] + part > self.limit:
                self.settling.settle()
            left = stop if part == count else np.clip(stop - first, 0, part)
            count_rows.add_active(self.room, self.words, first, left, self.active[0], self.there, self.hits)
            if self.columns.kinds == 2:
                count_rows.add_bits(self.room, first, left, self.columns.most_bits, self.active[1])
            held[self.key] += part
            first += part


class TorchSums:
    """As `CompiledSums`, on any device. sums: [B, kinds * columns], to put them in."""

    def __init__(self, columns: Columns, room: torch.Tensor, hits: np.ndarray, sums: np.ndarray) -> None:
        self.columns, self.room, self.hits, self.sums = columns, room, hits, sums
        self.held = torch.zeros(columns.kinds, *room.shape[1:], dtype=torch.int64, device=room.device)

    def add(self, count: int, stop: np.ndarray, alive: torch.Tensor) -> None:
        """See `CompiledSums.add`. alive: [T, B] bool, true before stop [B]."""
        size = self.room[:count].to(torch.int32).abs() * alive[..., None]
        self.held[0] += (size > 0).sum(0)
        self.hits += (size > 0).any(-1).sum(0).cpu().numpy()
        for k in range(self.columns.most_bits if self.columns.kinds == 2 else 0):
            self.held[1] += (size >= 1 << k).sum(0)

    def finish(self) -> None:
        """All timesteps are done: put the sums in their place, and begin again from 0."""
        found = self.held.cpu().numpy() @ self.columns.matrix.T.astype(np.int64)
        self.sums[:] = found.transpose(1, 0, 2).reshape(self.sums.shape)
        self.held.zero_()
