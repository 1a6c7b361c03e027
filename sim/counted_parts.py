"""Traces and their counts, some samples at a time: of a run, or of a trace file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lavatube.errors import LavatubeError
from lavatube.inputs import InputBatch
from lavatube.program import LoihiProgram
from lavatube.sim.counts import Counts, count
from lavatube.sim.fast import FastEngine
from lavatube.sim.input_parts import open_parts
from lavatube.sim.trace_file import open_trace
from lavatube.trace import SpikeTrace

NEURON_STEPS_AT_ONCE = 1 << 28  # of the samples that are held together
MOST_OF_A_SAMPLE = 1 << 31  # of one that is held alone: 2 GB of events


def counted_trace(program: LoihiProgram, path: Path) -> Iterator[tuple[SpikeTrace, Counts]]:
    """Of a trace file, .npz or .h5."""
    with open_trace(path) as opened:
        for rows in _samples(opened.neurons, opened.num_steps, opened.batch):
            part = opened.part(rows)
            yield part, count(program, part)


def counted_run(program: LoihiProgram, path: Path) -> Iterator[tuple[SpikeTrace, Counts]]:
    """Of a run of the fast engine on X.npz, .npy or .h5."""
    engine = FastEngine(program)
    neurons = sum(int(np.prod(node.shape)) for node in program.sources)
    with open_parts(path, program.inputs, default_steps=program.num_steps) as parts:
        for rows in _samples(neurons, parts.num_steps, parts.batch):
            events = {node.name: parts.read(node, slice(0, parts.num_steps), rows) for node in program.inputs}
            yield engine.run_counted(InputBatch(events, parts.length[rows]))


def _samples(neurons: int, num_steps: int, batch: int) -> list[slice]:
    """raises: LavatubeError for samples too large to be held one by one."""
    if neurons * num_steps > MOST_OF_A_SAMPLE:
        raise LavatubeError(
            "a sample too long to be counted by core or timestep",
            expected=f"at most {MOST_OF_A_SAMPLE:,} neurons x timesteps", got=f"{neurons:,} x {num_steps:,}",
            remedy="`lavatube run --counts` sums the same counts without cores, whatever the length; "
            "price them with `lavatube energy --counts`",
        )  # fmt: skip
    size = max(1, NEURON_STEPS_AT_ONCE // max(1, neurons * num_steps))
    return [slice(start, min(start + size, batch)) for start in range(0, batch, size)]
