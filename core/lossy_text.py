"""Records of what changed on the way to a program, as rows and lines for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

APART = ("stage", "node", "layer", "what", "why", "when")
BEFORE, AFTER = "before fine-tuning", "after fine-tuning"  # of a record of rounding, "when"


class RecordRow(NamedTuple):
    """What is to be said of some places at once."""

    stage: str
    places: str
    what: str
    numbers: str


def lasting(records: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those of what is in the program: a rounding before fine-tuning is gone after it."""
    return [record for record in records if record.get("when") != BEFORE]


def record_rows(records: Iterable[Mapping[str, Any]]) -> list[RecordRow]:
    """One row for all places of which the same is to be said."""
    places: dict[tuple[str, str, str], list[str]] = {}
    for record in records:
        what = ": ".join(str(record[key]) for key in ("what", "why") if record.get(key))
        if record.get("when"):
            what += f", {record['when']}"
        numbers = "; ".join(
            f"{key.replace('_', ' ')} {said(value)}" for key, value in record.items() if key not in APART
        )
        place = str(record.get("layer", record.get("node", "")))
        places.setdefault((str(record.get("stage", "?")), what, numbers), []).append(place)
    return [
        RecordRow(stage, ", ".join(dict.fromkeys(filter(None, where))), what, numbers)
        for (stage, what, numbers), where in places.items()
    ]


def record_lines(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """`STAGE: PLACES: what happened: why (numbers)`, a line for each row."""
    return [
        ": ".join(filter(None, (row.stage, row.places, row.what))) + (f" ({row.numbers})" if row.numbers else "")
        for row in record_rows(records)
    ]


def said(value: Any) -> str:
    """A value for people: six digits of a float, a mapping in a line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={said(each)}" for key, each in value.items())
    if isinstance(value, float):
        return f"{value:.6g}"
    return "unknown" if value is None else str(value)
