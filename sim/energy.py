"""Counts x prices = energy, in integer femtojoules, as an interval over the price tables, with what is unpriced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lavatube.deploy.targets import OFFERS
from lavatube.errors import LavatubeError
from lavatube.files import write_json
from lavatube.sim.counts import Counts, LayerCounts
from lavatube.sim.price_table import DEFAULT_PRICES, PRICED_TERMS, PriceTable, load_prices

KIND = "energy"
EVENTS_OF_TERM = {
    "synop": "synops_stored",
    "neuron_access": "neuron_accesses",
    "neuron_update": "updates",
    "spike": "spikes_out",
}
BOUNDS = ("low", "nominal", "high")
Interval = Mapping[str, int | None]  # low, nominal, high in fJ; None: no such bound was published


@dataclass(frozen=True)
class PricedCounts:
    """One price table on the counts: total and terms over all layers, and each layer's total; femtojoules."""

    prices: PriceTable
    total: Interval
    terms: Mapping[str, Interval]
    layers: Mapping[str, Interval]


@dataclass(frozen=True)
class EnergyEstimate:
    """Dynamic energy of `samples` samples; estimated from simulated counts, not measured.

    low, high: smallest low and largest known bound over the tables, fJ.
    """

    tables: tuple[PricedCounts, ...]
    low: int
    high: int
    samples: int
    program_sha256: str
    labels: tuple[str, ...]

    @property
    def unpriced(self) -> tuple[str, ...]:
        """Terms that some table leaves out, in order, each once."""
        return tuple(dict.fromkeys(item for priced in self.tables for item in priced.prices.unpriced))

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": KIND,
            "unit": "fJ",
            "samples": self.samples,
            "program_sha256": self.program_sha256,
            "interval": {"low": self.low, "high": self.high},
            "interval_joules_per_sample": {
                "low": self.low / self.samples * 1e-15,
                "high": self.high / self.samples * 1e-15,
            },
            "labels": list(self.labels),
            "unpriced": list(self.unpriced),
            "tables": [
                {
                    "name": priced.prices.name,
                    "sha256": priced.prices.sha256,
                    "source": priced.prices.source,
                    "grade": priced.prices.worst_grade,
                    "unpriced": list(priced.prices.unpriced),
                    "total": dict(priced.total),
                    "terms": {name: dict(value) for name, value in priced.terms.items()},
                    "layers": {name: dict(value) for name, value in priced.layers.items()},
                }
                for priced in self.tables
            ],
        }


def energy(
    counts: Counts, prices: Sequence[str | PriceTable] = DEFAULT_PRICES, *, target: str = "loihi2"
) -> EnergyEstimate:
    """Price counts with one or more tables. Every synaptic operation is that of a stored weight (dense format).

    target: the program's; Loihi 1 prices on it are labelled. raises: LavatubeError for a table that is not one.
    """
    if target not in OFFERS:
        raise LavatubeError("unknown target", expected=" or ".join(sorted(OFFERS)), got=target)
    if not prices:
        raise LavatubeError("no price table", expected="at least one")
    tables = [table if isinstance(table, PriceTable) else load_prices(table) for table in prices]
    priced = tuple(_apply(counts, table) for table in tables)
    known = [value for one in priced for value in one.total.values() if value is not None]
    labels = ["dynamic energy only; estimated from simulated counts"]
    if target != "loihi1" and any(table.chip == "Loihi 1" for table in tables):
        labels.append(f"Loihi 1 prices on a {target} program: no per-operation energy of Loihi 2 is public")
    if counts.graded_input:
        labels.append(
            "the first layer's events are graded, which Loihi 1 has not: its operations are priced as binary ones"
        )
    return EnergyEstimate(priced, min(known), max(known), counts.samples, counts.program_sha256, tuple(labels))


def _apply(counts: Counts, table: PriceTable) -> PricedCounts:
    terms = {name: _term(counts.total, name, table) for name in PRICED_TERMS if name in table.terms}
    layers = {layer: _sum([_term(row, name, table) for name in terms]) for layer, row in counts.layers.items()}
    return PricedCounts(table, _sum(list(terms.values())), terms, layers)


def _term(row: LayerCounts, name: str, table: PriceTable) -> dict[str, int | None]:
    events = getattr(row, EVENTS_OF_TERM[name])
    bounds = {bound: getattr(table.terms[name], bound) for bound in BOUNDS}
    return {bound: None if price is None else price * events for bound, price in bounds.items()}


def _sum(intervals: Sequence[Interval]) -> dict[str, int | None]:
    """Bound by bound; a sum with an unpublished bound has none."""
    total: dict[str, int | None] = {}
    for bound in BOUNDS:
        values = [interval[bound] for interval in intervals]
        total[bound] = None if any(value is None for value in values) else sum(v for v in values if v is not None)
    return total


def save_energy(estimate: EnergyEstimate, path: Path) -> None:
    """Write energy.json."""
    write_json(path, estimate.to_json())
