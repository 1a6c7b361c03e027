"""Intervals of integers with bounds that may be unknown."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

BOUNDS = ("low", "nominal", "high")


@dataclass(frozen=True)
class Interval:
    """low, nominal, high; None: no such bound was published. The unit is the user's: fJ, ps or mW, always integers."""

    low: int | None = None
    nominal: int | None = None
    high: int | None = None

    def __add__(self, other: Interval) -> Interval:
        """A sum with an unknown bound has none."""
        return self._with(other, lambda a, b: a + b)

    def times(self, number: int) -> Interval:
        """The price of so many events; of none it is 0, known or not."""
        if number == 0:
            return ZERO
        return Interval(*(None if bound is None else bound * number for bound in self.bounds))

    def product(self, other: Interval) -> Interval:
        """Bound by bound, of numbers that are not negative."""
        return self._with(other, lambda a, b: a * b)

    def share(self, part: int, whole: int) -> Interval:
        """part / whole of it, rounded outwards; the nominal to the nearest."""
        low, nominal, high = (None if bound is None else bound * part for bound in self.bounds)
        return Interval(
            None if low is None else low // whole,
            None if nominal is None else (2 * nominal + whole) // (2 * whole),
            None if high is None else -(-high // whole),
        )

    @property
    def bounds(self) -> tuple[int | None, int | None, int | None]:
        return self.low, self.nominal, self.high

    @property
    def known(self) -> tuple[int, ...]:
        """The bounds that are."""
        return tuple(bound for bound in self.bounds if bound is not None)

    def to_json(self) -> dict[str, int | None]:
        return dict(zip(BOUNDS, self.bounds, strict=True))

    def _with(self, other: Interval, of: Callable[[int, int], int]) -> Interval:
        pairs = zip(self.bounds, other.bounds, strict=True)
        return Interval(*(None if a is None or b is None else of(a, b) for a, b in pairs))


ZERO = Interval(0, 0, 0)


def total(intervals: Iterable[Interval]) -> Interval:
    """The sum; of nothing it is 0."""
    return sum(intervals, ZERO)
