"""What the engines share: room for a trace, and its finish. No arithmetic of the network lives here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lavatube.inputs import InputBatch
from lavatube.program import LoihiProgram, NeuronNode
from lavatube.program_file import program_sha256
from lavatube.trace import SpikeTrace, versions, within_length


class Recording:
    """Arrays [T, B, ...] that an engine fills while it runs; overflow is counted within each sample's length."""

    def __init__(self, program: LoihiProgram, inputs: InputBatch, record: frozenset[str]) -> None:
        self.program, self.inputs = program, inputs
        self.kept = frozenset({"u", "v"} & record)
        room = (inputs.num_steps, inputs.batch)
        nodes = program.neurons
        self.spikes = {node.name: np.zeros((*room, *node.shape), event_dtype(node)) for node in nodes}
        self.states = {
            kind: {node.name: np.zeros((*room, *node.shape), np.int32) for node in nodes} for kind in sorted(self.kept)
        }
        self.overflow = {kind: {node.name: 0 for node in nodes} for kind in ("wraps", "saturations")}

    def step(
        self, name: str, t: int, events: np.ndarray, *, wrapped: np.ndarray, saturated: np.ndarray, **states: np.ndarray
    ) -> None:
        """Store one timestep of one population; all [B, ...]."""
        self.spikes[name][t] = events
        for kind in self.kept:
            self.states[kind][name][t] = states[kind]
        alive = t < self.inputs.length
        for kind, where in (("wraps", wrapped), ("saturations", saturated)):
            self.overflow[kind][name] += int(where[alive].sum())


def finish_trace(
    recording: Recording,
    readouts: Mapping[str, np.ndarray],
    *,
    engine: str,
    device: str,
    events: Mapping[str, np.ndarray] | None = None,
    sha256: str | None = None,
    **meta: Any,
) -> SpikeTrace:
    """Cut everything at each sample's length and name who made it.

    events, sha256: the compacted inputs and the program's digest, where an engine has them already.
    """

    def cut(group: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: within_length(value, recording.inputs.length) for name, value in group.items()}

    return SpikeTrace(
        inputs=cut_inputs(recording.inputs) if events is None else cut(events),
        spikes=cut(recording.spikes),
        readouts=readouts,
        length=recording.inputs.length,
        **{kind: cut(group) for kind, group in recording.states.items()},
        meta={
            "engine": engine,
            "device": device,
            "versions": versions(),
            "program_sha256": sha256 or program_sha256(recording.program),
            "overflow": recording.overflow,
            **meta,
        },
    )


def event_dtype(node: NeuronNode) -> type[np.integer[Any]]:
    """The narrowest of uint8, int8 and int32 that holds a population's events."""
    return dtype_of(*node.event_range)


def dtype_of(low: int, high: int) -> type[np.integer[Any]]:
    """The narrowest of uint8, int8 and int32 that holds events in a range."""
    return np.int8 if low < 0 else np.uint8 if high < 256 else np.int32


def cut_inputs(inputs: InputBatch) -> dict[str, np.ndarray]:
    """The inputs of a trace: nothing beyond each sample's length, compacted."""
    return {name: compact(within_length(value, inputs.length)) for name, value in inputs.by_name.items()}


def compact(events: np.ndarray) -> np.ndarray:
    """Non-negative integers in the narrowest unsigned dtype that holds them."""
    return events.astype(np.min_scalar_type(int(events.max(initial=0))))
