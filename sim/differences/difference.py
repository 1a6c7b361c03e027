"""One difference, and the ways to find some."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

Value = int | float | str | bool | None


@dataclass(frozen=True)
class Difference:
    """part: weights, settings, counts, energy, accuracy, ...; a, b: both values, None where one side has none."""

    part: str
    where: str
    what: str
    a: Value
    b: Value

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def changed(part: str, where: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Difference]:
    """Values of two mappings that are not the same, in order of the first."""
    for key in dict.fromkeys([*a, *b]):
        mine, other = a.get(key), b.get(key)
        if mine != other:
            yield Difference(part, where, key, plain(mine), plain(other))


def plain(value: Any) -> Value:
    """As JSON and a table can say it."""
    return value if isinstance(value, int | float | str | bool | None) else str(value)
