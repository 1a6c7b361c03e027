"""The events of a trace, as a synapse sees them."""

from __future__ import annotations

import numpy as np

from lavatube.errors import LavatubeError
from lavatube.program import LoihiProgram, NeuronNode, Source
from lavatube.program_file import program_sha256
from lavatube.trace import SpikeTrace


def check_fits(program: LoihiProgram, trace: SpikeTrace) -> None:
    """raises: LavatubeError if the trace is of another program, or has other layers, shapes or events."""
    made_by = trace.meta.get("program_sha256")
    if made_by is not None and made_by != program_sha256(program):
        raise LavatubeError("the trace is not one of this program", where="counts", got=f"program {str(made_by)[:12]}")
    wanted = {node.name: node.shape for node in program.sources}
    held = {**trace.inputs, **trace.spikes}
    got = {name: value.shape[2:] for name, value in held.items()}
    if wanted != got:
        raise LavatubeError("the trace is not one of this program", where="counts", expected=str(wanted), got=str(got))
    for node in program.sources:
        low, high = node.event_range
        least, most = int(held[node.name].min(initial=0)), int(held[node.name].max(initial=0))
        if least < low or most > high:
            what, got_range = "the trace is not one of this program", f"{least}..{most}"
            raise LavatubeError(what, where=node.name, expected=f"events {low}..{high}", got=got_range)


def events_of(source: Source, trace: SpikeTrace, samples: slice = slice(None)) -> np.ndarray:
    """[T, B, ...] events of an input or a population; what lies beyond a sample's length is still in it."""
    value = trace.spikes[source.name] if isinstance(source, NeuronNode) else trace.inputs[source.name]
    return value[:, samples]


def alive(trace: SpikeTrace, samples: slice = slice(None)) -> np.ndarray:
    """[T, B] bool: the timesteps within each sample's length."""
    return np.arange(trace.num_steps)[:, None] < trace.length[None, samples]


def delayed(values: np.ndarray, lag: int) -> np.ndarray:
    """The same values `lag` timesteps later; zeros before. values: [T, ...]."""
    if lag == 0:
        return values
    late = np.zeros_like(values)
    late[lag:] = values[: max(len(values) - lag, 0)]
    return late


def is_graded(source: Source) -> bool:
    """Whether its events carry more than a sign."""
    return max(source.event_range) > 1


def chunks(batch: int, elements: int, at_once: int) -> list[slice]:
    """Samples to work on together, so that about `at_once` elements are in memory; elements: of one sample."""
    size = max(1, at_once // max(elements, 1))
    return [slice(start, min(start + size, batch)) for start in range(0, batch, size)]
