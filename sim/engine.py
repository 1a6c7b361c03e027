"""What the engines share: room for a trace, and its finish. No arithmetic of the network lives here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lavatube.inputs import InputBatch
from lavatube.program import LoihiProgram
from lavatube.program_file import program_sha256
from lavatube.trace import SpikeTrace, versions, within_length


class Recording:
    """Arrays [T, B, ...] that an engine fills while it runs."""

    def __init__(self, program: LoihiProgram, inputs: InputBatch, record: frozenset[str]) -> None:
        self.program, self.inputs = program, inputs
        room = (inputs.num_steps, inputs.batch)
        nodes = program.neurons
        self.spikes = {node.name: np.zeros((*room, *node.shape), np.uint8) for node in nodes}
        self.u = {node.name: np.zeros((*room, *node.shape), np.int32) for node in nodes if "u" in record}
        self.v = {node.name: np.zeros((*room, *node.shape), np.int32) for node in nodes if "v" in record}
        self.wraps = {node.name: 0 for node in nodes}
        self.saturations = {node.name: 0 for node in nodes}

    def step(self, name: str, t: int, spikes: np.ndarray, u: np.ndarray, v: np.ndarray) -> None:
        """Store one timestep of one population. spikes, u, v: [B, ...]."""
        self.spikes[name][t] = spikes
        if name in self.u:
            self.u[name][t] = u
        if name in self.v:
            self.v[name][t] = v

    def overflow(self, name: str, wraps: int, saturations: int) -> None:
        """Count the wraps of u and the saturations of v in one timestep."""
        self.wraps[name] += wraps
        self.saturations[name] += saturations


def finish_trace(recording: Recording, readout: np.ndarray, *, engine: str, device: str, **meta: Any) -> SpikeTrace:
    """Cut everything at each sample's length and name who made it."""

    def cut(group: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: within_length(value, recording.inputs.length) for name, value in group.items()}

    overflow = {"wraps": recording.wraps, "saturations": recording.saturations}
    return SpikeTrace(
        input=compact(within_length(recording.inputs.events, recording.inputs.length)),
        spikes=cut(recording.spikes),
        readout=readout,
        length=recording.inputs.length,
        u=cut(recording.u),
        v=cut(recording.v),
        meta={
            "engine": engine,
            "device": device,
            "versions": versions(),
            "program_sha256": program_sha256(recording.program),
            "overflow": overflow,
            **meta,
        },
    )


def compact(events: np.ndarray) -> np.ndarray:
    """Non-negative integers in the narrowest unsigned dtype that holds them."""
    return events.astype(np.min_scalar_type(int(events.max(initial=0))))
