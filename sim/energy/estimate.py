"""Counts x prices = energy: intervals over the price tables, with what is unpriced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lavatube.errors import LavatubeError
from lavatube.files import write_json
from lavatube.sim.counts import CoreActivity, Counts
from lavatube.sim.energy.bootstrap import LEVEL, RESAMPLES, mean_counts
from lavatube.sim.energy.definitions import definitions
from lavatube.sim.energy.priced import PricedCounts, apply
from lavatube.sim.energy.step_time import StepTimes
from lavatube.sim.interval import Interval
from lavatube.sim.price_table import DEFAULT_PRICES, PriceTable, find_prices
from lavatube.targets import OFFERS

KIND = "energy"
SEED = 0
ALWAYS_UNPRICED = ("host and its input and output (bytes are counted)", "loading of weights (bits are counted)")


@dataclass(frozen=True)
class EnergyEstimate:
    """Energy of `samples` samples; estimated from simulated counts, not measured.

    low, high: dynamic fJ; smallest known lower and largest known upper bound over the tables of `basis`, that of the
               first table. None where none is known, or another table's numbers lie beyond it.
    """

    tables: tuple[PricedCounts, ...]
    low: int | None
    high: int | None
    basis: str
    samples: int
    program_sha256: str
    labels: tuple[str, ...]
    mean_counts: Mapping[str, Mapping[str, float]]
    definitions: Mapping[str, Any]

    @property
    def unpriced(self) -> tuple[str, ...]:
        """What some table leaves out, in order, each once."""
        found = [item for priced in self.tables for item in priced.unpriced]
        return tuple(dict.fromkeys((*found, *ALWAYS_UNPRICED)))

    @property
    def prices(self) -> dict[str, str]:
        """{table: SHA-256}"""
        return {priced.prices.name: priced.prices.sha256 for priced in self.tables}

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": KIND,
            "unit": "fJ",
            "samples": self.samples,
            "program_sha256": self.program_sha256,
            "interval": {"low": self.low, "high": self.high, "of": f"dynamic energy, tables of {self.basis}"},
            "interval_joules_per_sample": {
                name: None if end is None else end / self.samples * 1e-15
                for name, end in (("low", self.low), ("high", self.high))
            },
            "labels": list(self.labels),
            "unpriced": list(self.unpriced),
            "tables": [priced.to_json(self.samples) for priced in self.tables],
            "sampling": {"seed": SEED, "resamples": RESAMPLES, "level": LEVEL, "mean_counts": dict(self.mean_counts)},
            "definitions": dict(self.definitions),
        }


def energy(
    counts: Counts,
    prices: Sequence[str | Path | PriceTable] = DEFAULT_PRICES,
    *,
    target: str = "loihi2",
    activity: CoreActivity | StepTimes | None = None,
) -> EnergyEstimate:
    """Price counts with one or more tables, names, files or folders of files.

    Every synaptic operation is that of a stored weight (dense format).
    target:   the program's; Loihi 1 prices on it are labelled.
    activity: counts per core and timestep, or the times made of them under these tables, for time, static energy and
              what follows from them.
    raises:   LavatubeError for a table that is not one, or counts of no samples.
    """
    if target not in OFFERS:
        raise LavatubeError("unknown target", expected=" or ".join(sorted(OFFERS)), got=target)
    if counts.samples < 1:
        raise LavatubeError("counts of no samples", where="energy", expected="at least one")
    tables = find_prices(prices)
    times = StepTimes(tables) if isinstance(activity, CoreActivity) else activity
    if isinstance(activity, CoreActivity) and times is not None:
        times.add(activity)
    priced = tuple(apply(counts, table, times, seed=SEED) for table in tables)
    basis = next((one.prices.basis for one in priced if one.prices.terms), tables[0].basis)
    totals = [one.dynamic.total for one in priced if one.prices.basis == basis and one.prices.terms]
    return EnergyEstimate(
        priced,
        *_ends(totals),
        basis,
        counts.samples,
        counts.program_sha256,
        tuple(_labels(counts, tables, target)),
        mean_counts(counts, seed=SEED),
        definitions(counts),
    )


def _ends(totals: Sequence[Interval]) -> tuple[int | None, int | None]:
    """An end that a number of another table lies beyond is not one of both."""
    known = [value for total in totals for value in total.known]
    low = min((total.low for total in totals if total.low is not None), default=None)
    high = max((total.high for total in totals if total.high is not None), default=None)
    return low if low == min(known, default=None) else None, high if high == max(known, default=None) else None


def _labels(counts: Counts, tables: Sequence[PriceTable], target: str) -> list[str]:
    labels = ["estimated from simulated counts, not measured; dynamic energy and totals with static power stand apart"]
    if target != "loihi1" and any(table.chip == "Loihi 1" for table in tables):
        labels.append(f"Loihi 1 prices on a {target} program: no per-operation energy of Loihi 2 is public")
    if counts.total.graded_stored and any(table.basis == "events" for table in tables):
        share = counts.total.graded_stored / max(counts.total.synops_stored, 1)
        labels.append(
            f"{share:.0%} of the operations are of graded events, which Loihi 1 has not: priced as binary ones, "
            "their payload is unpriced"
        )
    if len({table.basis for table in tables if table.terms}) > 1:
        labels.append("tables of chip events and of bare arithmetic operations do not compare: no common interval")
    return labels


def save_energy(estimate: EnergyEstimate, path: Path) -> None:
    """Write energy.json."""
    write_json(path, estimate.to_json())
