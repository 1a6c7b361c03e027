"""What the fast engine writes down. Arrays are held in memory order (order.py); the trace sees views of them."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import torch

from lavatube.inputs import InputBatch
from lavatube.program import InputNode, LoihiProgram
from lavatube.sim.engine import Recording, compact, event_dtype
from lavatube.sim.fast_kernels.order import lay_out, seen_as
from lavatube.sim.fast_kernels.populations import Steps
from lavatube.sim.fast_kernels.walk import held_as


class Keeper(Protocol):
    """Where a run's events come from and what it made goes to. length: [B]; kept: of {"u", "v"};
    overflow: {"wraps", "saturations": {population: occurrences}}."""

    num_steps: int
    length: np.ndarray
    kept: frozenset[str]
    overflow: dict[str, dict[str, int]]

    def input(self, node: InputNode, steps: slice, rows: slice, device: str) -> torch.Tensor:
        """Events of a block in memory order, [T, B, N] as `held_as` says."""

    def stretch(self, name: str, steps: slice, rows: slice, made: Steps) -> None:
        """Keep what a population did in a block."""


class FastRecording(Recording):
    """Room for a trace, filled by blocks of timesteps and samples; blocks may be filled side by side.

    Not `np.zeros`: NumPy asks for large pages only where it does not want zeros.
    """

    def __init__(self, program: LoihiProgram, inputs: InputBatch, record: frozenset[str]) -> None:
        self.program, self.inputs = program, inputs
        self.num_steps, self.length = inputs.num_steps, inputs.length
        self.kept = frozenset({"u", "v"} & record)
        room = inputs.num_steps, inputs.batch
        sizes = {node.name: (*room, math.prod(node.shape)) for node in program.neurons}
        self.rows = {node.name: np.empty(sizes[node.name], event_dtype(node)) for node in program.neurons}
        self.state_rows = {
            kind: {name: np.empty(size, np.int32) for name, size in sizes.items()} for kind in sorted(self.kept)
        }
        shapes = {node.name: node.shape for node in program.neurons}
        self.spikes = {name: seen_as(value, shapes[name]) for name, value in self.rows.items()}
        self.states = {
            kind: {name: seen_as(value, shapes[name]) for name, value in group.items()}
            for kind, group in self.state_rows.items()
        }
        self.overflow = {kind: dict.fromkeys(shapes, 0) for kind in ("wraps", "saturations")}
        given = inputs.by_name
        self.by_block = {node.name for node in program.inputs if given[node.name].strides[0] and node.max_value < 256}
        self.events = {
            name: np.empty(value.shape, np.uint8) if name in self.by_block else _compact(value)
            for name, value in given.items()
        }

    def input(self, node: InputNode, steps: slice, rows: slice, device: str) -> torch.Tensor:
        """See `Keeper.input`; keeps them for the trace."""
        events = self.events[node.name]
        if node.name in self.by_block:
            events[steps, rows] = self.inputs.by_name[node.name][steps, rows]
        return on_device(events[steps, rows], node, device)

    def stretch(self, name: str, steps: slice, rows: slice, made: Steps) -> None:
        """See `Keeper.stretch`."""
        self.rows[name][steps, rows] = made.events.cpu().numpy()
        for kind, value in (("u", made.u), ("v", made.v)):
            if kind in self.kept and value is not None:
                self.state_rows[kind][name][steps, rows] = value.cpu().numpy()


def on_device(events: np.ndarray, node: InputNode, device: str) -> torch.Tensor:
    """[T, B, ...] events of an input in memory order, [T, B, N] as `held_as` says."""
    dtype = np.uint8 if held_as(node) == torch.uint8 else np.int32
    laid = lay_out(events, node.shape).astype(dtype, copy=False)
    return torch.from_numpy(laid if laid.flags.writeable else laid.copy()).to(device)


def _compact(events: np.ndarray) -> np.ndarray:
    static = events.strides[0] == 0
    return np.broadcast_to(compact(events[0]), events.shape) if static else compact(events)
