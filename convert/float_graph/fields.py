"""The fields of one node, taken one by one: there, of the right type, finite and in range, or refused by path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lavatube.convert.float_graph.raw import RawNode
from lavatube.errors import LavatubeError, UnsupportedError

Record = Callable[[str, str, str], None]  # (node, what, why)
EXACT_INTEGER = 2**53
SIZE_MAX = 2**31 - 1


class Fields:
    """Takes the fields of a node; `done` refuses what is left over.

    name:   of the node in the flat graph.
    record: called with (node, what, why) for each thing that the file does not say.
    """

    def __init__(self, raw: RawNode, name: str, record: Record) -> None:
        self.kind, self.name, self.where, self._record = raw.kind, name, raw.where, record
        self._left = dict(raw.fields)

    def has(self, field: str) -> bool:
        return field in self._left

    def assume(self, what: str, why: str) -> None:
        self._record(self.name, what, why)

    def refuse(self, field: str, what: str, *, expected: str = "", got: object = "", remedy: str = "") -> LavatubeError:
        text = np.array2string(got, threshold=4) if isinstance(got, np.ndarray) else str(got)
        where = f"{self.where}/{field}" if field else self.where
        return LavatubeError(f"{self.kind}: {what}", where=where, expected=expected, got=text[:120], remedy=remedy)

    def done(self) -> None:
        if self._left:
            field = sorted(self._left)[0]
            raise self.refuse(
                field, "unknown field", remedy="see which version of NIR wrote it: 1.0.8 has no such field"
            )

    def take(self, field: str) -> Any:
        if field not in self._left:
            raise self.refuse(field, "missing field", remedy="write the file again with all fields of this node")
        return self._left.pop(field)

    def text(self, field: str) -> str | None:
        """A field that may be a string; None, and not taken, if it is something else."""
        value = self._left.get(field)
        if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "US" and value.size == 1:
            value = value.item()
        value = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        if not isinstance(value, str):
            return None
        del self._left[field]
        return str(value)

    def floats(self, field: str, *, min_rank: int = 0, rank: int | None = None, booleans: bool = False) -> np.ndarray:
        """A finite float64 array with at least one element, exactly what the file holds."""
        value = np.asarray(self.take(field))
        kind = value.dtype.kind
        if kind == "b" and booleans:
            self.assume(f"{field} is 0 or 1", "it is stored as booleans")
        elif kind not in "iuf" or value.dtype.itemsize > 8:
            remedy = "write it as float64"
            raise self.refuse(
                field, "type", expected="float or integer of up to 64 bits", got=value.dtype, remedy=remedy
            )
        if kind in "iu" and value.dtype.itemsize == 8 and value.size and _magnitude(value) > EXACT_INTEGER:
            raise self.refuse(field, "integers that float64 does not hold", expected="at most 2^53 in size")
        with np.errstate(invalid="ignore"):  # a signalling NaN
            value = value.astype(np.float64, copy=False)
        if not np.isfinite(value).all():
            raise self.refuse(field, "holds NaN or infinity", expected="finite numbers")
        if value.size == 0 or value.ndim < min_rank or (rank is not None and value.ndim != rank):
            ranks = f"{rank} axes" if rank is not None else f"at least {min_rank} axes" if min_rank else "an array"
            raise self.refuse(field, "shape", expected=f"{ranks}, no axis of size 0", got=value.shape)
        return value

    def integers(self, field: str, low: int, high: int = SIZE_MAX) -> tuple[int, ...]:
        """A scalar or a list of integers in low..high, as a tuple."""
        value = np.asarray(self.take(field))
        if value.dtype.kind not in "iu":
            raise self.refuse(
                field, "type", expected="integers", got=repr(value.item())[:60] if value.ndim == 0 else value.dtype
            )
        if value.ndim > 1 or not 1 <= value.size <= 8:
            raise self.refuse(field, "shape", expected="an integer or a short list of them", got=value.shape)
        found = tuple(int(n) for n in value.reshape(-1))
        if min(found) < low or max(found) > high:
            raise self.refuse(field, "value", expected=f"{low}..{high}", got=found)
        return found

    def integer(self, field: str, low: int, high: int = SIZE_MAX) -> int:
        found = self.integers(field, low, high)
        if len(found) != 1:
            raise self.refuse(field, "shape", expected="one integer", got=found)
        return found[0]

    def per_axis(self, field: str, axes: int, low: int) -> tuple[int, ...]:
        """One integer for each spatial axis; one alone counts for all of them."""
        found = self.integers(field, low)
        if len(found) not in (1, axes):
            raise self.refuse(field, "shape", expected=f"1 or {axes} integers", got=found)
        return found * axes if len(found) == 1 else found


def unknown_kind(raw: RawNode, known: str) -> UnsupportedError:
    got = ascii(raw.kind)[1:-1][:60]
    remedy = "express it with these nodes, or leave it out"
    return UnsupportedError("unknown node type", where=raw.where, expected=known, got=got, remedy=remedy)


def _magnitude(value: np.ndarray) -> int:
    return max(int(value.max()), -int(value.min()))
