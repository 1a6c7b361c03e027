"""How the real numbers of a file's input become a program's events: non-negative integers of n bits times a scale.

Events are not negative, so numbers of both signs become two inputs: one of what is above 0, one of what is below, whose
events are worth minus the scale. Exact: at most one of the two has an event at a time, and their synapses add up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lavatube.errors import UnsupportedError
from lavatube.fixed_point import MESSAGE_BITS_MAX

GRADED_BITS = 8  # of real numbers that are on no grid
EXACT_BITS = 16  # at most so many, where the numbers are on one
CLOSE = 1e-6


@dataclass(frozen=True)
class Encoding:
    """float input = event * scale, for each input of the program.

    error: largest on the data, None without data. assumed: data do not say what the numbers are (none, or all 0).
    """

    bits: int
    scale: float
    error: float | None
    signed: bool = False
    assumed: bool = False

    def inputs(self, name: str) -> dict[str, float]:
        """{input of the program: what one of its events is worth}"""
        return {name: self.scale} | ({negative_of(name): -self.scale} if self.signed else {})

    def record(self, name: str, stage: str) -> dict[str, Any] | None:
        """What rounding the input does, if it does; or what was assumed of it."""
        if self.assumed:
            what = "binary spikes" if self.bits == 1 else f"integers 0..{(1 << self.bits) - 1}"
            why = "no data say what its numbers are; --data X.npz with numbers below 0, or on a finer step, changes it"
            return {
                "stage": "read",
                "node": name,
                "what": f"the input is {what}, each worth 1, none below 0",
                "why": why,
            }
        if not self.error:
            return None
        what = f"input rounded to {self.bits} bits"
        return {"stage": stage, "layer": name, "what": what, "scale": self.scale, "largest_error": self.error}


def negative_of(name: str) -> str:
    """The program's input of what is below 0."""
    return f"{name[:95]}.neg"


def events_of(value: np.ndarray, scale: float, bits: int) -> np.ndarray:
    """int64 events of one input of a program: what of the numbers has the sign of `scale`."""
    rounded = np.rint(np.asarray(value, np.float64) / scale)
    return np.asarray(np.clip(rounded, 0, (1 << bits) - 1), np.int64)


def encoding_of(name: str, value: np.ndarray | None, bits: int | None, where: str) -> Encoding:
    """Chosen from data; without any, integers of `bits` bits (binary spikes by default) as they are.

    raises: UnsupportedError for integers that are too large.
    """
    if value is None or not np.any(value):
        return Encoding(bits or 1, 1.0, None if value is None else 0.0, assumed=True)
    value = np.asarray(value, np.float64)
    signed, value = bool(value.min() < 0), np.abs(value)
    scale = _grid(value)
    largest = float(value.max())
    if scale is None or (bits is not None and largest / scale > (1 << bits) - 1):
        scale = largest / ((1 << (bits or GRADED_BITS)) - 1)
    if scale < np.finfo(np.float64).tiny:
        expected = f"numbers above {np.finfo(np.float64).tiny:g}"
        raise UnsupportedError("input values", where=f"{where}:{name}", expected=expected, got=f"{largest:g}")
    needed = max(round(largest / scale), 1).bit_length()
    if (bits or needed) > MESSAGE_BITS_MAX:
        expected = f"integers of {MESSAGE_BITS_MAX} bits"
        raise UnsupportedError("input values", where=f"{where}:{name}", expected=expected, got=f"{largest:g}")
    error = float(np.abs(events_of(value, scale, bits or needed) * scale - value).max())
    return Encoding(bits or needed, scale, error if error > CLOSE * scale else 0.0, signed)


def _grid(value: np.ndarray) -> float | None:
    """The unit that all values are whole multiples of, if there is one."""
    if np.array_equal(value, np.rint(value)):
        return 1.0
    largest = float(value.max())
    for exponent in range(1, EXACT_BITS):
        if largest * 2**exponent < 1 << EXACT_BITS and np.array_equal(
            value * 2**exponent, np.rint(value * 2**exponent)
        ):
            return 2.0**-exponent
    step = float(value[value > 0].min())
    with np.errstate(over="ignore"):
        counted = value / step
    on_it = largest / step < 1 << EXACT_BITS and np.abs(counted - np.rint(counted)).max() < CLOSE
    return step if on_it else None
