"""What a parity run found: per engine the comparison with the reference, and whether the counts are equal."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lavatube.errors import LavatubeError
from lavatube.files import read_json, write_json
from lavatube.sim.compare import Mismatch, TraceComparison

KIND = "parity"

INDEPENDENCE: Mapping[str, str] = {
    "lava": "stock Lava 0.10.0",
    "torch": "the checkpoint's own forward; second implementation of the step",
    "fast": "second implementation",
    "onnx": "second implementation, executed by ONNX Runtime",
    "reference": "self-consistent only",
}


@dataclass(frozen=True)
class EngineParity:
    """One engine against the reference.

    counts_equal: every integer count of every layer and sample; None: not counted.
    explanation:  of the first divergence, see `sim.explain`; None: not asked for, or nothing to explain.
    sampled:      which samples it was compared on, in words; "" for all of them.
    energy:       dynamic energy of both sides by the same price tables, see `energy_parity`; None: not counted.
    """

    engine: str
    comparison: TraceComparison
    counts_equal: bool | None
    independence: str
    meta: Mapping[str, Any]
    seconds: float
    energy: Mapping[str, Any] | None = None
    explanation: Mapping[str, Any] | None = None
    sampled: str = ""

    @property
    def equal(self) -> bool:
        joules = self.energy is None or bool(self.energy["equal"])
        return self.comparison.equal and self.counts_equal is not False and joules


@dataclass(frozen=True)
class ParityReport:
    """Level 0, tolerance 0. accuracy: of the reference, in %, None without labels or with several read-outs."""

    reference: str
    engines: tuple[EngineParity, ...]
    samples: int
    num_steps: int
    program_sha256: str
    accuracy: float | None = None
    level: int = 0
    tolerance: int = 0

    @property
    def equal(self) -> bool:
        return all(engine.equal for engine in self.engines)

    @property
    def neuron_steps(self) -> int:
        """Neurons x timesteps that each engine was compared on."""
        return max((engine.comparison.neuron_steps for engine in self.engines), default=0)

    @property
    def first(self) -> Mismatch | None:
        """First divergence of the first engine that has one."""
        return next((e.comparison.first for e in self.engines if e.comparison.first is not None), None)

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": KIND,
            "level": self.level,
            "tolerance": self.tolerance,
            "equal": self.equal,
            "reference": self.reference,
            "samples": self.samples,
            "num_steps": self.num_steps,
            "neuron_steps": self.neuron_steps,
            "accuracy": self.accuracy,
            "program_sha256": self.program_sha256,
            "engines": [
                {
                    "engine": engine.engine,
                    "independence": engine.independence,
                    "sampled": engine.sampled,
                    "counts_equal": engine.counts_equal,
                    "energy": None if engine.energy is None else dict(engine.energy),
                    "explanation": None if engine.explanation is None else dict(engine.explanation),
                    "seconds": engine.seconds,
                    **engine.comparison.to_json(),
                    "meta": dict(engine.meta),
                }
                for engine in self.engines
            ],
        }


def save_parity(value: Mapping[str, Any], path: Path) -> None:
    """Write a report of level 0, or of level 1, which lies under `float` in one of level 0.

    What the file has of the other level stays, if it is about the same program.
    """
    before: Mapping[str, Any] = {}
    with suppress(LavatubeError):  # nothing there, or no report
        before = read_json(path, kind="parity.json")
    parts = [part for part in (before, before.get("float")) if isinstance(part, Mapping)]
    same = [part for part in parts if part.get("program_sha256") == value["program_sha256"]]
    other = next((part for part in same if part.get("level") == 1 - value["level"]), None)
    if other is not None:
        zero, one = (value, other) if value["level"] == 0 else (other, value)
        value = {**zero, "float": dict(one)}
    write_json(path, dict(value))
