"""What blocks of samples work in, kept from one block to the next: fresh memory costs more than what is done in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock

import torch

from lavatube.sim.fast_kernels.counting import Counting
from lavatube.sim.fast_kernels.populations import CompiledPopulation, TorchPopulation

MOST = 4  # rooms kept: of full blocks and of the last ones, which are smaller
MOST_BYTES = 1 << 26  # of the rooms kept, beside the sums of counts


@dataclass
class Room:
    """size: (samples, timesteps at once); made: {source: [past + T, B, N] events}; spare: room for sums that nobody
    needs any more; populations: by name, in any state; counting: their sums of the counts, if ever made."""

    size: tuple[int, int]
    made: dict[str, torch.Tensor]
    populations: dict[str, CompiledPopulation | TorchPopulation]
    spare: list[torch.Tensor] = field(default_factory=list)
    counting: Counting | None = None

    @property
    def bytes(self) -> int:
        states = [state for population in self.populations.values() for state in population.held]
        return sum(held.nbytes for held in (*self.made.values(), *self.spare, *states))


class SpareRooms:
    """Rooms that no block is in. Blocks may take and give side by side. keeps: whether any is kept."""

    def __init__(self, keeps: bool) -> None:
        self.keeps, self.lock = keeps, Lock()
        self.free: list[Room] = []

    def take(self, size: tuple[int, int], new: Callable[[], Room]) -> Room:
        """One of this size, with anything in it."""
        with self.lock:
            for place, room in enumerate(self.free):
                if room.size == size:
                    return self.free.pop(place)
        return new()

    def give(self, room: Room) -> None:
        """A room that a block has left; the oldest go where there are too many."""
        with self.lock:
            self.free.append(room)
            while self.free and not (self.keeps and len(self.free) <= MOST and self._fit()):
                self.free.pop(0)

    def _fit(self) -> bool:
        return sum(room.bytes for room in self.free) <= MOST_BYTES
