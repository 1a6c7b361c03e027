"""Exact integer counts of what a run did, from the trace of any engine. No prices here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from lavatube.errors import LavatubeError
from lavatube.files import read_json, write_json
from lavatube.program import LifNode, LoihiProgram
from lavatube.program_file import program_sha256
from lavatube.sim.connectivity import fan_out, reached
from lavatube.trace import SpikeTrace, within_length

KIND = "counts"
AT_ONCE = 1 << 26  # elements of one chunk of samples


@dataclass(frozen=True)
class LayerCounts:
    """One synapse and what it drives, summed over timesteps and samples; integers.

    events_in:       events that the synapse received (a graded event is one).
    synops_stored:   stored connections that they reached; synops_nonzero: those of non-zero weight.
    synop_bits:      sum over events of the event's bit length times the stored connections (graded payload).
    neuron_accesses: neurons x timesteps; 0 at the read-out, which is host work.
    updates:         neuron-steps that received an event through a stored connection, or have a bias.
    spikes_out:      spikes of these neurons.
    host_additions:  read-out additions on the host.
    """

    events_in: int
    synops_stored: int
    synops_nonzero: int
    synop_bits: int
    neuron_accesses: int
    updates: int
    spikes_out: int
    host_additions: int

    @property
    def idles(self) -> int:
        return self.neuron_accesses - self.updates


TERMS = tuple(field.name for field in fields(LayerCounts))


@dataclass(frozen=True)
class Counts:
    """Per layer, named by its synapse; over `samples` samples and `sample_steps` timesteps of samples in all."""

    layers: Mapping[str, LayerCounts]
    samples: int
    sample_steps: int
    program_sha256: str
    graded_input: bool

    @property
    def total(self) -> LayerCounts:
        return LayerCounts(*(sum(getattr(layer, term) for layer in self.layers.values()) for term in TERMS))

    def to_json(self) -> dict[str, Any]:
        def row(layer: LayerCounts) -> dict[str, int]:
            return {**{term: getattr(layer, term) for term in TERMS}, "idles": layer.idles}

        return {
            "kind": KIND,
            "program_sha256": self.program_sha256,
            "graded_input": self.graded_input,
            "samples": self.samples,
            "sample_steps": self.sample_steps,
            "layers": [{"layer": name, **row(layer)} for name, layer in self.layers.items()],
            "total": row(self.total),
        }


def count(program: LoihiProgram, trace: SpikeTrace) -> Counts:
    """Count a trace of this program, of any engine; beyond a sample's length nothing counts.

    raises: LavatubeError if the trace does not have the program's layers and shapes.
    """
    _check_fits(program, trace)
    layers, events = {}, trace.input
    for synapse, target in program.layers:
        layers[synapse.name] = LayerCounts(**_count_layer(synapse, target, events, trace))
        if isinstance(target, LifNode):
            events = trace.spikes[target.name]
    return Counts(layers, trace.batch, int(trace.length.sum()), program_sha256(program), program.input.message_bits > 1)


def _count_layer(synapse: Any, target: Any, events: np.ndarray, trace: SpikeTrace) -> dict[str, int]:
    stored, nonzero = fan_out(synapse)
    seen = _delayed(within_length(events, trace.length), synapse.delay)
    seen = within_length(seen, trace.length)  # delivered after the sample's end: not counted
    active = (seen != 0).sum((0, 1), dtype=np.int64)
    bits = _bit_lengths(seen).sum((0, 1), dtype=np.int64)
    row = {
        "events_in": int(active.sum()),
        "synops_stored": int((active * stored).sum()),
        "synops_nonzero": int((active * nonzero).sum()),
        "synop_bits": int((bits * stored).sum()),
        "neuron_accesses": 0,
        "updates": 0,
        "spikes_out": 0,
        "host_additions": 0,
    }
    sample_steps = int(trace.length.sum())
    size = int(np.prod(synapse.out_shape))
    if not isinstance(target, LifNode):
        return row | {"host_additions": size * sample_steps}
    return row | {
        "neuron_accesses": size * sample_steps,
        "updates": _updates(synapse, target, seen, trace.length),
        "spikes_out": int(within_length(trace.spikes[target.name], trace.length).sum(dtype=np.int64)),
    }


def _updates(synapse: Any, target: LifNode, seen: np.ndarray, length: np.ndarray) -> int:
    biased = target.bias_mant != 0
    steps, batch = seen.shape[:2]
    chunk, total = max(1, AT_ONCE // (steps * biased.size)), 0
    for start in range(0, batch, chunk):
        part = np.ascontiguousarray(seen[:, start : start + chunk])
        received = reached(synapse, part.reshape(-1, *synapse.in_shape)).reshape(*part.shape[:2], *target.shape)
        total += int(within_length(received | biased, length[start : start + chunk]).sum(dtype=np.int64))
    return total


def _delayed(events: np.ndarray, delay: int) -> np.ndarray:
    if delay == 0:
        return events
    late = np.zeros_like(events)
    late[delay:] = events[: max(len(events) - delay, 0)]
    return late


def _bit_lengths(events: np.ndarray) -> np.ndarray:
    """Bits of each non-negative integer; exact, since frexp's exponent is that of an integer below 2^53."""
    return np.frexp(events.astype(np.float64))[1]


def _check_fits(program: LoihiProgram, trace: SpikeTrace) -> None:
    made_by = trace.meta.get("program_sha256")
    if made_by is not None and made_by != program_sha256(program):
        raise LavatubeError("the trace is not one of this program", where="counts", got=f"program {str(made_by)[:12]}")
    wanted = {node.name: node.shape for node in program.neurons} | {"input": program.input.shape}
    got = {name: value.shape[2:] for name, value in trace.spikes.items()} | {"input": trace.input.shape[2:]}
    if wanted != got:
        raise LavatubeError("the trace is not one of this program", where="counts", expected=str(wanted), got=str(got))


def save_counts(counts: Counts, path: Path) -> None:
    """Write counts.json."""
    write_json(path, counts.to_json())


def load_counts(path: Path) -> Counts:
    """Read counts.json. raises: LavatubeError."""
    value = read_json(path, kind="counts.json")
    try:
        if value["kind"] != KIND:
            raise LavatubeError("wrong kind of file", where=str(path), expected=KIND, got=str(value["kind"]))
        layers = {row["layer"]: LayerCounts(**{term: _natural(row[term]) for term in TERMS}) for row in value["layers"]}
        numbers = _natural(value["samples"]), _natural(value["sample_steps"])
        return Counts(layers, *numbers, str(value["program_sha256"]), bool(value["graded_input"]))
    except (KeyError, TypeError, ValueError) as error:
        raise LavatubeError("malformed counts", where=str(path), got=str(error)) from error


def _natural(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"expected a count, got {value!r}")
    return value
