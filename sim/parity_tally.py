"""What a parity run has found of one engine so far, part by part of the samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lavatube.sim.compare import TraceComparison, joined
from lavatube.sim.parity_report import INDEPENDENCE, EngineParity


@dataclass
class Tally:
    """parts: (number of the first sample, comparison)."""

    parts: list[tuple[int, TraceComparison]] = field(default_factory=list)
    counts_equal: bool = True
    meta: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def add(
        self, start: int, comparison: TraceComparison, counts_equal: bool, meta: Mapping[str, Any], seconds: float
    ) -> None:
        self.parts.append((start, comparison))
        self.counts_equal, self.seconds = self.counts_equal and counts_equal, self.seconds + seconds
        before = self.meta.get("overflow")
        self.meta = dict(meta)
        if before is not None:
            self.meta["overflow"] = {
                kind: {name: value + before[kind][name] for name, value in layers.items()}
                for kind, layers in meta["overflow"].items()
            }

    def result(self, name: str) -> EngineParity:
        independence = independence_of(name, self.meta)
        comparison, seconds = joined(self.parts), round(self.seconds, 3)
        return EngineParity(name, comparison, self.counts_equal, independence, self.meta, seconds)


def independence_of(engine: str, meta: Mapping[str, Any]) -> str:
    """How independent of the reference this engine's agreement is."""
    rows = list((meta.get("processes") or {}).values())
    own = [row for row in rows if isinstance(row, dict) and row.get("stock") is False]
    known = INDEPENDENCE.get(engine, "unknown")
    return f"{known}, {len(own)} of {len(rows)} processes our own" if own else known
