"""Records of what changed on the way to a program, as lines for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

APART = ("stage", "node", "layer", "what", "why")
BEFORE, AFTER = "before fine-tuning", "after fine-tuning"  # of a record of rounding, "when"


def lasting(records: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those of what is in the program: a rounding before fine-tuning is gone after it."""
    return [record for record in records if record.get("when") != BEFORE]


def record_lines(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """`STAGE: PLACES: what happened: why (numbers)`, one line for all places of which the same is to be said."""
    places: dict[tuple[str, str], list[str]] = {}
    for record in records:
        place = str(record.get("layer", record.get("node", "")))
        places.setdefault((str(record.get("stage", "?")), _said(record)), []).append(place)
    return [
        f"{stage}: {', '.join(dict.fromkeys(where))}: {text}" if any(where) else f"{stage}: {text}"
        for (stage, text), where in places.items()
    ]


def _said(record: Mapping[str, Any]) -> str:
    rest = [f"{key.replace('_', ' ')} {_value(value)}" for key, value in record.items() if key not in APART]
    said = ": ".join(str(record[key]) for key in ("what", "why") if record.get(key))
    return said + (f" ({'; '.join(rest)})" if rest else "")


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={_value(each)}" for key, each in value.items())
    if isinstance(value, float):
        return f"{value:.6g}"
    return "unknown" if value is None else str(value)
