"""What a parity run has found of one engine so far, part by part of the samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lavatube.errors import LavatubeError
from lavatube.sim.compare import TraceComparison, joined
from lavatube.sim.counts import Counts
from lavatube.sim.energy import energy
from lavatube.sim.parity_report import INDEPENDENCE, EngineParity


@dataclass
class Tally:
    """parts: (numbers of the samples, comparison); counts, reference: of this engine and of the reference on them."""

    parts: list[tuple[range, TraceComparison]] = field(default_factory=list)
    counts: Counts | None = None
    reference: Counts | None = None
    counts_equal: bool = True
    meta: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def add(
        self,
        samples: range,
        comparison: TraceComparison,
        counts: Counts,
        reference: Counts,
        meta: Mapping[str, Any],
        seconds: float,
    ) -> None:
        self.parts.append((samples, comparison))
        self.reference = reference if self.reference is None else self.reference + reference
        self.counts = counts if self.counts is None else self.counts + counts
        self.counts_equal, self.seconds = self.counts_equal and counts == reference, self.seconds + seconds
        before = self.meta.get("overflow")
        self.meta = dict(meta)
        if before is not None:
            self.meta["overflow"] = {
                kind: {name: value + before[kind][name] for name, value in layers.items()}
                for kind, layers in meta["overflow"].items()
            }

    def result(self, name: str, sampled: str = "") -> EngineParity:
        """sampled: which of the samples, if not all.  raises: LavatubeError if those had no timestep."""
        if self.counts is None or self.reference is None:
            raise LavatubeError("nothing to compare", where=name, got=sampled, remedy="give --samples")
        independence, joules = independence_of(name, self.meta), energy_parity(self.reference, self.counts)
        comparison, seconds = joined(self.parts), round(self.seconds, 3)
        return EngineParity(
            name, comparison, self.counts_equal, independence, self.meta, seconds, joules, sampled=sampled
        )


def independence_of(engine: str, meta: Mapping[str, Any]) -> str:
    """How independent of the reference this engine's agreement is."""
    rows = list((meta.get("processes") or {}).values())
    own = [row for row in rows if isinstance(row, dict) and row.get("stock") is False]
    known = INDEPENDENCE.get(engine, "unknown")
    return f"{known}, {len(own)} of {len(rows)} processes our own" if own else known


def energy_parity(a: Counts, b: Counts) -> dict[str, Any]:
    """Level 0 of energy: the same price tables (by hash) on both counts, equal to the last femtojoule of every term."""
    left, right = energy(a), energy(b)
    tables = {
        one.prices.name: {
            "prices_sha256": one.prices.sha256,
            "a": one.dynamic.total.to_json(),
            "b": other.dynamic.total.to_json(),
            "equal": (one.prices.sha256, one.dynamic) == (other.prices.sha256, other.dynamic),
        }
        for one, other in zip(left.tables, right.tables, strict=True)
    }
    return {"equal": all(table["equal"] for table in tables.values()), "unit": "fJ", "tables": tables}
