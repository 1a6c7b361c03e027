"""What a price table may say; each rule has one clear error, which names the term."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lavatube.errors import LavatubeError

SCHEMA = 2
GRADES = ("measured", "calibrated", "simulated", "scaled", "inherited", "assumed")  # best first
TERMS: Mapping[str, tuple[str, ...]] = {  # fJ
    "events": (
        "synop", "neuron_access", "neuron_update", "spike", "message", "message_local", "hop_x", "hop_y", "reset",
    ),
    "operations": ("ac", "mac", "sram_8k", "sram_32k", "sram_1m", "dram"),
}  # fmt: skip
STEP_TERMS = ("synop", "neuron_access", "neuron_update", "spike", "message_out", "message_in", "link")  # ps
KEYS = {
    "schema", "name", "chip", "basis", "process_nm", "voltage", "domain", "source", "terms", "step_time", "barrier",
    "static", "cores_per_chip", "baseline", "unpriced",
}  # fmt: skip
TERM_KEYS = {"low", "nominal", "high", "unit", "grade", "operating_point", "source", "note"}
BARRIER_KEYS = {"tiles", "low", "high", "unit"}
PRICE_MAX = 10**18


def check_table(value: Mapping[str, Any], where: str) -> None:
    """raises: LavatubeError naming the key or term and the rule that it breaks."""
    if set(value) != KEYS or value["schema"] != SCHEMA:
        odd = ", ".join(sorted(set(value) ^ KEYS)) or f"schema {value['schema']!r}"
        raise LavatubeError(
            "missing or unknown keys in the price table", where=where, expected=f"schema {SCHEMA}", got=odd
        )
    for key in ("name", "chip", "domain", "source"):
        _require(isinstance(value[key], str) and value[key].strip(), f"{where}: {key}", "text", value[key])
    known = ", ".join(TERMS)
    _require(isinstance(value["basis"], str) and value["basis"] in TERMS, f"{where}: basis", known, value["basis"])
    for key in ("terms", "step_time"):
        _require(isinstance(value[key], dict), f"{where}: {key}", "an object", value[key])
    for name, term in value["terms"].items():
        _check_term(term, f"{where}: term {name}", name, TERMS[value["basis"]], "fJ")
    for name, term in value["step_time"].items():
        _check_term(term, f"{where}: step_time term {name}", name, STEP_TERMS, "ps")
    for key, unit in (("static", "mW"), ("baseline", "fJ")):
        if value[key] is not None:
            _check_term(value[key], f"{where}: {key}", key, (key,), unit)
    if not value["terms"] and value["baseline"] is None:
        raise LavatubeError("nothing is priced", where=where, expected="a term or a baseline", got="neither")
    _check_rest(value, where)


def _check_rest(value: Mapping[str, Any], where: str) -> None:
    unpriced = value["unpriced"]
    texts = isinstance(unpriced, list) and all(isinstance(item, str) for item in unpriced)
    _require(texts, f"{where}: unpriced", "a list of texts", unpriced)
    cores = value["cores_per_chip"]
    _require(cores is None or (_natural(cores) and cores > 0), f"{where}: cores_per_chip", "1 or more, or null", cores)
    for key in ("process_nm", "voltage"):
        ok = value[key] is None or (isinstance(value[key], int | float) and not isinstance(value[key], bool))
        _require(ok and (value[key] is None or 0 < value[key] < 1e6), f"{where}: {key}", "a number or null", value[key])
    _check_barrier(value["barrier"], f"{where}: barrier")


def _check_barrier(points: Any, place: str) -> None:
    """Times between the numbers of tiles in use for which they were published."""
    shape = isinstance(points, list) and all(isinstance(p, dict) and set(p) == BARRIER_KEYS for p in points)
    _require(shape, place, "a list of {tiles, low, high, unit}", points)
    _require(all(p["unit"] == "ps" for p in points), place, "unit ps", points)
    rows = [(p["tiles"], p["low"], p["high"]) for p in points]
    numbers = all(_natural(number) for row in rows for number in row)
    rising = numbers and all(list(column) == sorted(column) for column in zip(*rows, strict=True))
    rising = rising and len({row[0] for row in rows}) == len(rows) and all(low <= high for _, low, high in rows)
    _require(rising, place, "integers, low <= high, rising with the tiles", rows)


def _check_term(term: Any, place: str, name: str, known: tuple[str, ...], unit: str) -> None:
    if name not in known:
        raise LavatubeError("unknown term", where=place, expected=", ".join(known), got=name)
    if not isinstance(term, dict) or set(term) != TERM_KEYS:
        got = ", ".join(sorted(set(term) ^ TERM_KEYS)) if isinstance(term, dict) else str(term)
        raise LavatubeError("wrong keys", where=place, expected=", ".join(sorted(TERM_KEYS)), got=got)
    _require(term["unit"] == unit, f"{place}: unit", unit, term["unit"])
    grade = term["grade"]
    _require(isinstance(grade, str) and grade in GRADES, f"{place}: grade", "one of " + ", ".join(GRADES), grade)
    cited = isinstance(term["source"], str) and term["source"].strip()
    _require(cited, f"{place}: source", "where the number is from", term["source"])
    for key in ("operating_point", "note"):
        _require(term[key] is None or isinstance(term[key], str), f"{place}: {key}", "text or null", term[key])
    values = [term[key] for key in ("low", "nominal", "high")]
    published = [value for value in values if value is not None]
    ok = bool(published) and all(_natural(value) for value in published) and published == sorted(published)
    _require(ok, f"{place}: prices", "integers or null, not all null, 0 <= low <= nominal <= high", values)


def _natural(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= PRICE_MAX


def _require(ok: Any, place: str, expected: str, got: Any) -> None:
    if not ok:
        where, what = place.rsplit(": ", 1)
        raise LavatubeError(what, where=where, expected=expected, got=str(got))
