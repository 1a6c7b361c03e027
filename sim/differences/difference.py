"""One difference, and the ways to find some."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

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


def differences_of_arrays(part: str, where: str, what: str, a: np.ndarray, b: np.ndarray) -> Iterator[Difference]:
    """Shape and type, or how many elements differ; two NaN are the same."""
    if (a.shape, a.dtype) != (b.shape, b.dtype):
        yield Difference(part, where, f"{what} shape".strip(), f"{a.shape} {a.dtype}", f"{b.shape} {b.dtype}")
    elif (different := (a != b) & ((a == a) | (b == b))).any():
        wide: type = np.int64 if a.dtype.kind in "iub" else np.float64
        number, change = int(different.sum()), np.abs(a.astype(wide) - b.astype(wide))[different].max().item()
        up_to = f"{change:,}" if wide is np.int64 else f"{change:.3g}"
        of = f"{what} values" if what else "values"
        told = f"{number:,} of {a.size:,} {of} differ, by up to {up_to}; sums"
        yield Difference(part, where, told, a.sum(dtype=wide).item(), b.sum(dtype=wide).item())


def plain(value: Any) -> Value:
    """As JSON and a table can say it."""
    return value if isinstance(value, int | float | str | bool | None) else str(value)
