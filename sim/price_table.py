"""Price tables: cited energies and times per event, in integers, as data files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lavatube.errors import LavatubeError
from lavatube.files import read_json
from lavatube.shipped import find_shipped, list_shipped
from lavatube.sim.interval import Interval
from lavatube.sim.price_rules import GRADES, TERMS, check_table

SHIPPED = Path(__file__).parent / "prices"
DEFAULT_PRICES = ("loihi1-band", "loihi1-davies2018", "loihi1-sanafe2025")


@dataclass(frozen=True)
class Price:
    """An interval in the unit of its group, and where it comes from."""

    interval: Interval
    grade: str
    source: str
    operating_point: str | None


@dataclass(frozen=True)
class PriceTable:
    """A missing term is unpriced, never zero.

    basis:     "events" of a spiking chip, or "operations" of arithmetic alone; totals of the two do not compare.
    terms:     fJ per event.  step_time: ps per event on one core.  static: mW per chip.
    barrier:   {tiles in use: (low, high) ps}.
    baseline:  fJ per multiply-accumulate of one dense pass of the same network.
    """

    name: str
    chip: str
    basis: str
    source: str
    domain: str
    terms: Mapping[str, Price]
    step_time: Mapping[str, Price]
    barrier: Mapping[int, tuple[int, int]]
    static: Price | None
    cores_per_chip: int | None
    baseline: Price | None
    unpriced: tuple[str, ...]
    sha256: str

    @property
    def worst_grade(self) -> str:
        """Of the energies."""
        prices = [*self.terms.values(), *([self.baseline] if self.baseline else [])]
        return max((price.grade for price in prices), key=GRADES.index)


def list_prices() -> list[str]:
    """Names of the shipped tables."""
    return list_shipped(SHIPPED)


def load_prices(name: str | Path) -> PriceTable:
    """A shipped table by name, or a file. raises: LavatubeError naming the term and the rule."""
    path = find_shipped(SHIPPED, name, what="price table")
    return parse_prices(read_json(path, kind="a price table"), where=str(path))


def find_prices(names: Sequence[str | Path | PriceTable]) -> tuple[PriceTable, ...]:
    """Tables by name or file; a folder stands for all JSON files in it, in order of their names.

    raises: LavatubeError for a table that is not one, no table at all, or two different ones of one name.
    """
    tables: list[PriceTable] = []
    for name in names:
        if isinstance(name, PriceTable):
            tables.append(name)
        elif str(name) not in list_prices() and Path(name).is_dir():
            tables += [load_prices(path) for path in sorted(Path(name).glob("*.json"))]
        else:
            tables.append(load_prices(name))
    if not tables:
        raise LavatubeError("no price table", expected="at least one", got=", ".join(map(str, names)))
    hashes = {table.name: table.sha256 for table in tables}
    for table in tables:
        if hashes[table.name] != table.sha256:
            raise LavatubeError("two price tables of one name", got=table.name)
    return tuple({table.name: table for table in tables}.values())


def parse_prices(value: Mapping[str, Any], *, where: str) -> PriceTable:
    """Check a price table given as plain values. raises: LavatubeError naming the term and the rule."""
    check_table(value, where)
    wanted = TERMS[value["basis"]] if value["basis"] == "events" else ("ac", "mac")
    missing = [name for name in wanted if name not in value["terms"]] if value["terms"] else []
    return PriceTable(
        name=value["name"],
        chip=value["chip"],
        basis=value["basis"],
        source=value["source"],
        domain=value["domain"],
        terms={name: _price(term) for name, term in value["terms"].items()},
        step_time={name: _price(term) for name, term in value["step_time"].items()},
        barrier={point["tiles"]: (point["low"], point["high"]) for point in value["barrier"]},
        static=_price(value["static"]) if value["static"] else None,
        cores_per_chip=value["cores_per_chip"],
        baseline=_price(value["baseline"]) if value["baseline"] else None,
        unpriced=tuple(value["unpriced"]) + tuple(f"{name} (no price in this table)" for name in missing),
        sha256=hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest(),
    )


def _price(term: Mapping[str, Any]) -> Price:
    interval = Interval(term["low"], term["nominal"], term["high"])
    return Price(interval, term["grade"], term["source"], term["operating_point"])
