"""The few samples that the page runs itself, with the fast engine: predictions, and a small trace with u and v."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lavatube.inputs import InputBatch
from lavatube.sim.compare import keyed
from lavatube.sim.report.artifacts import Artifacts
from lavatube.sim.run import run
from lavatube.trace import SpikeTrace

SHOWN = 3  # samples with rasters and membranes
NEURON_STEPS = 1 << 27  # at most, for predictions


@dataclass(frozen=True)
class Watched:
    """trace: of the first samples, u and v recorded. others: {engine: trace} of the same samples, for membranes.

    predicted, label: [B] of all samples that were run and have a label that is a class; None where none has.
    foreign: samples whose label is no class of the read-out.
    """

    trace: SpikeTrace
    others: dict[str, SpikeTrace]
    predicted: np.ndarray | None
    label: np.ndarray | None
    foreign: int = 0


def watch(found: Artifacts) -> Watched | None:
    """Run; None where the folder has no program or no samples are at hand. raises: LavatubeError if it cannot run."""
    program, batch = found.program, found.batch
    if program is None or batch is None:
        return None
    few = batch.samples(SHOWN)
    trace = run(program, few, backend="fast", record=("u", "v"))
    others = {"reference": run(program, batch.samples(1), backend="reference", record=("u", "v"))}
    predicted, label, foreign = _predictions(found, batch)
    others |= {name: stored for name, stored in found.traces.items() if stored.v and _same_input(stored, trace)}
    return Watched(trace, others, predicted, label, foreign)


def _predictions(found: Artifacts, batch: InputBatch) -> tuple[np.ndarray | None, np.ndarray | None, int]:
    if batch.label is None or found.program is None or len(found.program.readouts) > 1:
        return None, None, 0
    neurons = sum(int(np.prod(node.shape)) for node in found.program.neurons)
    part = batch.samples(max(1, NEURON_STEPS // max(neurons * batch.num_steps, 1)))
    assert part.label is not None
    known = (part.label >= 0) & (part.label < int(np.prod(found.program.readouts[0].shape)))
    foreign = int((~known).sum())
    if not known.any():
        return None, None, foreign
    return run(found.program, part, backend="fast").prediction[known], part.label[known], foreign


def _same_input(stored: SpikeTrace, trace: SpikeTrace) -> bool:
    """Whether a stored trace starts with the first sample that is shown."""
    there, here = keyed("input", stored.inputs), keyed("input", trace.inputs)
    same = stored.num_steps == trace.num_steps and set(there) == set(here)
    return same and all(np.array_equal(there[key][:, 0], here[key][:, 0]) for key in here)
