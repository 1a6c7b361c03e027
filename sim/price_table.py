"""Price tables: cited energies per event, in integer femtojoules, as data files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lavatube.errors import LavatubeError
from lavatube.files import read_json

SHIPPED = Path(__file__).parent / "prices"
DEFAULT_PRICES = ("loihi1-davies2018", "loihi1-sanafe2025")
PRICED_TERMS = ("synop", "neuron_access", "neuron_update", "spike")
GRADES = ("measured", "calibrated", "simulated", "scaled", "inherited", "assumed")  # best first
KEYS = {"schema", "name", "chip", "process_nm", "voltage", "domain", "source", "terms", "unpriced"}
TERM_KEYS = {"low", "nominal", "high", "unit", "grade", "note"}


@dataclass(frozen=True)
class Price:
    """Femtojoules per event; None where a bound was never published (a one-sided number stays one-sided)."""

    low: int | None
    nominal: int | None
    high: int | None
    grade: str


@dataclass(frozen=True)
class PriceTable:
    """A missing term is unpriced, never zero."""

    name: str
    chip: str
    source: str
    terms: Mapping[str, Price]
    unpriced: tuple[str, ...]
    sha256: str

    @property
    def worst_grade(self) -> str:
        return max((price.grade for price in self.terms.values()), key=GRADES.index)


def list_prices() -> list[str]:
    """Names of the shipped tables."""
    return sorted(path.stem for path in SHIPPED.glob("*.json"))


def load_prices(name: str | Path) -> PriceTable:
    """A shipped table by name, or a file. raises: LavatubeError naming the term and the rule."""
    path = SHIPPED / f"{name}.json" if str(name) in list_prices() else Path(name)
    if not path.is_file():
        raise LavatubeError(
            "no such price table", expected="a JSON file or one of " + ", ".join(list_prices()), got=str(name)
        )
    return parse_prices(read_json(path, kind="a price table"), where=str(path))


def parse_prices(value: Mapping[str, Any], *, where: str) -> PriceTable:
    """Check a price table given as plain values."""
    if set(value) != KEYS or value["schema"] != 1:
        odd = ", ".join(sorted(set(value) ^ KEYS)) or f"schema {value['schema']!r}"
        raise LavatubeError("missing or unknown keys in the price table", where=where, got=odd)
    if not isinstance(value["terms"], dict) or not isinstance(value["unpriced"], list):
        raise LavatubeError("terms and unpriced", where=where, expected="an object and a list")
    terms = {name: _price(name, term, where) for name, term in value["terms"].items()}
    digest = hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
    missing = [name for name in PRICED_TERMS if name not in terms]
    unpriced = tuple(str(item) for item in value["unpriced"]) + tuple(
        f"{name} (no price in this table)" for name in missing
    )
    return PriceTable(str(value["name"]), str(value["chip"]), str(value["source"]), terms, unpriced, digest)


def _price(name: str, term: Any, where: str) -> Price:
    place = f"{where}: term {name}"
    if name not in PRICED_TERMS:
        raise LavatubeError("unknown term", where=place, expected=", ".join(PRICED_TERMS), got=name)
    if not isinstance(term, dict) or set(term) != TERM_KEYS:
        raise LavatubeError("wrong keys", where=place, expected=", ".join(sorted(TERM_KEYS)), got=str(term))
    if term["unit"] != "fJ" or term["grade"] not in GRADES:
        raise LavatubeError(
            "unit or grade", where=place, expected="fJ; " + ", ".join(GRADES), got=f"{term['unit']}, {term['grade']}"
        )
    values = [term[key] for key in ("low", "nominal", "high")]
    known = [value for value in values if value is not None]
    if (
        not known
        or any(not isinstance(v, int) or isinstance(v, bool) or v < 0 for v in known)
        or known != sorted(known)
    ):
        raise LavatubeError(
            "prices", where=place, expected="integers or null, 0 <= low <= nominal <= high", got=str(values)
        )
    return Price(values[0], values[1], values[2], term["grade"])
