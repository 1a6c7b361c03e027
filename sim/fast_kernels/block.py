"""A block of samples on its way through time: from a keeper, which gives events, and back to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from lavatube.sim.fast_kernels.recording import Keeper
from lavatube.sim.fast_kernels.walk import Ready, Walk


@dataclass(frozen=True)
class BlockResult:
    """What a block left: read-outs [B, classes], {population: [wraps, saturations]}, sums of the counts [B, sums]."""

    readouts: Mapping[str, np.ndarray]
    overflows: Mapping[str, np.ndarray]
    sums: np.ndarray | None


class BlockRun:
    """The state of a block, advanced stretch by stretch; nothing here grows with the timesteps.

    rows: samples of the keeper; at_once: timesteps of a stretch; counted: also make the sums of the counts.
    """

    def __init__(
        self, ready: Ready, rows: slice, length: np.ndarray, at_once: int, kept: frozenset[str], counted: bool
    ):
        self.ready, self.rows, self.at_once, self.time = ready, rows, at_once, 0
        self.length = torch.tensor(length[rows], device=ready.device)
        self.walk = Walk(ready, self.length, at_once, kept, counted)
        self.overflows = {
            node.name: torch.zeros(2, dtype=torch.int64, device=ready.device) for node in ready.program.neurons
        }

    @torch.no_grad()
    def advance(self, keeper: Keeper, stop: int) -> None:
        """Run up to timestep `stop`."""
        device = self.ready.device
        while self.time < stop:
            steps = slice(self.time, min(self.time + self.at_once, stop))
            alive = torch.arange(steps.start, steps.stop, device=device)[:, None] < self.length
            events = {node.name: keeper.input(node, steps, self.rows, device) for node in self.ready.program.inputs}
            for name, made in self.walk.run(events, alive).items():
                keeper.stretch(name, steps, self.rows, made)
                self.overflows[name] += (made.overflows * alive).sum((1, 2))
            self.time = steps.stop

    def result(self) -> BlockResult:
        """After the last timestep, once."""
        readouts, overflows = (
            {name: value.cpu().numpy() for name, value in group.items()}
            for group in (self.walk.readouts, self.overflows)
        )
        sums = None if self.walk.counting is None else self.walk.counting.result()
        self.walk.leave()
        return BlockResult(readouts, overflows, sums)
