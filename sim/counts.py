"""Exact integer counts of what a run did, from the trace of any engine. No prices here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from lavatube.errors import LavatubeError
from lavatube.files import read_json, write_json
from lavatube.program import LoihiProgram, NeuronNode, Synapse, Target
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
    layers = {}
    for target in program.targets:
        inbound = [(synapse, _seen(program, synapse, trace)) for synapse in program.inbound(target)]
        name = " + ".join(synapse.name for synapse, _ in inbound) or target.name
        layers[name] = LayerCounts(**_count_layer(target, inbound, trace))
    graded = any(node.message_bits > 1 for node in program.inputs)
    return Counts(layers, trace.batch, int(trace.length.sum()), program_sha256(program), graded)


def _seen(program: LoihiProgram, synapse: Synapse, trace: SpikeTrace) -> np.ndarray:
    """Events as they arrive at a synapse; what arrives after a sample's end is not counted."""
    source = program.source_of(synapse)
    events = (trace.spikes if isinstance(source, NeuronNode) else trace.inputs)[source.name]
    return within_length(_delayed(within_length(events, trace.length), program.lag(synapse)), trace.length)


def _count_layer(target: Target, inbound: list[tuple[Synapse, np.ndarray]], trace: SpikeTrace) -> dict[str, int]:
    row = dict.fromkeys(TERMS, 0)
    for synapse, seen in inbound:
        stored, nonzero = (part.reshape(seen.shape[2:]) for part in fan_out(synapse))
        active = (seen != 0).sum((0, 1), dtype=np.int64)
        row["events_in"] += int(active.sum())
        row["synops_stored"] += int((active * stored).sum())
        row["synops_nonzero"] += int((active * nonzero).sum())
        row["synop_bits"] += int(
            (_bit_lengths(np.abs(seen.astype(np.int64))).sum((0, 1), dtype=np.int64) * stored).sum()
        )
    sample_steps, size = int(trace.length.sum()), int(np.prod(target.shape))
    if not isinstance(target, NeuronNode):
        return row | {"host_additions": size * sample_steps}
    spikes = within_length(trace.spikes[target.name], trace.length)
    return row | {
        "neuron_accesses": size * sample_steps,
        "updates": _updates(target, inbound, trace.length),
        "spikes_out": int((spikes != 0).sum(dtype=np.int64)),
    }


def _updates(target: NeuronNode, inbound: list[tuple[Synapse, np.ndarray]], length: np.ndarray) -> int:
    biased = target.bias_mant != 0
    steps, batch = inbound[0][1].shape[:2]
    chunk, total = max(1, AT_ONCE // (steps * biased.size)), 0
    for start in range(0, batch, chunk):
        rows = slice(start, start + chunk)
        updated = np.broadcast_to(biased, (steps, len(length[rows]), *target.shape))
        for synapse, seen in inbound:
            part = np.ascontiguousarray(seen[:, rows])
            updated = updated | reached(synapse, part.reshape(-1, *synapse.in_shape)).reshape(updated.shape)
        total += int(within_length(updated, length[rows]).sum(dtype=np.int64))
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
    wanted = {node.name: node.shape for node in program.sources}
    got = {name: value.shape[2:] for group in (trace.inputs, trace.spikes) for name, value in group.items()}
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
