"""Counts: the totals of a run, and their file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from lavatube.errors import LavatubeError
from lavatube.files import read_json, write_json
from lavatube.sim.counts.layer import TERMS, LayerCounts
from lavatube.sim.counts.traffic import Traffic

KIND = "counts"
COUNT_MAX = (1 << 63) - 1  # counts are int64
PARTS = (  # of a layer: a term, and one that it cannot exceed
    ("synops_nonzero", "synops_stored"),
    ("synops_stored", "synops_dense"),
    ("graded_stored", "synops_stored"),
    ("graded_nonzero", "graded_stored"),
    ("graded_nonzero", "synops_nonzero"),
    ("updates", "neuron_accesses"),
)


@dataclass(frozen=True)
class Counts:
    """Per layer, over `samples` samples and `sample_steps` timesteps of samples in all.

    graded_input: whether some input's events have more than one bit.
    host_bytes_in, host_bytes_out: traffic with the host, see `host_bytes`.
    weight_bits: of each layer, loaded once; a shared kernel counts once.
    traffic:     messages and hops; None without a placement on cores.
    per_sample:  {term: one number a sample}, over all layers.
    """

    layers: Mapping[str, LayerCounts]
    samples: int
    sample_steps: int
    program_sha256: str
    graded_input: bool
    host_bytes_in: int = 0
    host_bytes_out: int = 0
    weight_bits: Mapping[str, int] = field(default_factory=dict)
    traffic: Traffic | None = None
    per_sample: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def total(self) -> LayerCounts:
        return sum(self.layers.values(), LayerCounts())

    @property
    def barriers(self) -> int:
        """One at the end of every timestep."""
        return self.sample_steps

    def __add__(self, other: Counts) -> Counts:
        """Of both runs together, first these samples. raises: LavatubeError for counts of two programs."""
        if (self.program_sha256, list(self.layers)) != (other.program_sha256, list(other.layers)):
            raise LavatubeError("counts of two programs do not add", where="counts")
        if (self.traffic is None) != (other.traffic is None):
            raise LavatubeError("counts with and without a placement do not add", where="counts")
        return Counts(
            {name: layer + other.layers[name] for name, layer in self.layers.items()},
            self.samples + other.samples,
            self.sample_steps + other.sample_steps,
            self.program_sha256,
            self.graded_input,
            self.host_bytes_in + other.host_bytes_in,
            self.host_bytes_out + other.host_bytes_out,
            self.weight_bits,
            None if self.traffic is None or other.traffic is None else self.traffic + other.traffic,
            {term: values + other.per_sample[term] for term, values in self.per_sample.items()},
        )

    def to_json(self) -> dict[str, Any]:
        def row(layer: LayerCounts) -> dict[str, int]:
            return {**asdict(layer), "idles": layer.idles}

        return {
            "kind": KIND,
            "program_sha256": self.program_sha256,
            "graded_input": self.graded_input,
            "samples": self.samples,
            "sample_steps": self.sample_steps,
            "barriers": self.barriers,
            "host_bytes_in": self.host_bytes_in,
            "host_bytes_out": self.host_bytes_out,
            "weight_bits": dict(self.weight_bits),
            "traffic": None if self.traffic is None else asdict(self.traffic),
            "layers": [{"layer": name, **row(layer)} for name, layer in self.layers.items()],
            "total": row(self.total),
            "per_sample": {term: list(values) for term, values in self.per_sample.items()},
        }


def save_counts(counts: Counts, path: Path) -> None:
    """Write counts.json."""
    write_json(path, counts.to_json())


def load_counts(path: Path) -> Counts:
    """Read counts.json. raises: LavatubeError for one that `save_counts` cannot have written of any run."""
    value = read_json(path, kind="counts.json")
    try:
        if value["kind"] != KIND:
            raise LavatubeError("wrong kind of file", where=str(path), expected=KIND, got=str(value["kind"]))
        layers = {row["layer"]: LayerCounts(**{term: _natural(row[term]) for term in TERMS}) for row in value["layers"]}
        numbers = {
            name: _natural(value[name]) for name in ("samples", "sample_steps", "host_bytes_in", "host_bytes_out")
        }
        traffic = value["traffic"]
        if traffic is not None:
            traffic = Traffic(**{each.name: _natural(traffic[each.name]) for each in fields(Traffic)})
        per_sample = {term: tuple(map(_natural, value["per_sample"][term])) for term in value["per_sample"]}
        bits = {name: _natural(size) for name, size in value["weight_bits"].items()}
        counts = Counts(
            layers, **numbers, weight_bits=bits, program_sha256=value["program_sha256"],
            graded_input=value["graded_input"], traffic=traffic, per_sample=per_sample,
        )  # fmt: skip
        _check_sums(counts)
        _check_same(counts.to_json(), value)
        return counts
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise LavatubeError("malformed counts", where=str(path), got=str(error)) from error


def _natural(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= COUNT_MAX:
        raise ValueError(f"expected a count up to {COUNT_MAX}, got {str(value)[:40]}")
    return value


def _check_sums(counts: Counts) -> None:
    """raises: ValueError where samples do not sum to the total, or a part is larger than its whole."""
    if counts.per_sample and set(counts.per_sample) != set(TERMS):
        raise ValueError(f"per_sample has not all terms: {', '.join(sorted(set(counts.per_sample) ^ set(TERMS)))}")
    for term, values in counts.per_sample.items():
        if len(values) != counts.samples or sum(values) != getattr(counts.total, term):
            raise ValueError(f"per_sample {term} does not sum to the total")
    for name, layer in counts.layers.items():
        for part, whole in PARTS:
            if getattr(layer, part) > getattr(layer, whole):
                raise ValueError(f"layer {name}: more {part} than {whole}")


def _check_same(ours: Mapping[str, Any], value: Mapping[str, Any]) -> None:
    """raises: ValueError where the file says something else than the counts that were read from it."""
    if not isinstance(ours["graded_input"], bool) or not re.fullmatch("[0-9a-f]{64}", ours["program_sha256"]):
        raise ValueError("graded_input is no truth value, or program_sha256 no hash")
    odd = [key for key in sorted({*ours, *value}) if key not in ours or key not in value or ours[key] != value[key]]
    if odd:
        raise ValueError(f"contradicts itself or has unknown keys: {', '.join(odd)}")
