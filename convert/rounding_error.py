"""What rounding weights, and what rounding down sums, is expected to do to the sums that a neuron gets.

Weights are integers times 2^shift, in units that a population counts in. With a shift below 0 they are finer than that
unit, and a sum is rounded down once (Loihi's weight exponent acts on sums): better where many weights, or large events,
add up, worse where one weight meets one spike.
"""

from __future__ import annotations

import numpy as np


def mean_square(events: tuple[int, int]) -> float:
    """Of events of which nothing is known but the lowest and the highest: all alike."""
    below, above = max(-events[0], 0), max(events[1], 0)
    return sum(n * (n + 1) * (2 * n + 1) / 6 for n in (below, above)) / (below + above + 1)


def squared_error(rounded: np.ndarray, exact: np.ndarray, shift: int, power: float) -> float:
    """Expected in one timestep, summed over the output channels, at one place of each.

    rounded, exact: weights [O, ...] in the population's unit; power: mean square of an event. The roundings of single
    weights are taken as independent.
    """
    driven = int(rounded.reshape(len(rounded), -1).any(1).sum())
    return float(((rounded - exact) ** 2).sum()) * power + lost(shift) * driven


def lost(shift: int) -> float:
    """Mean square of what a sum loses that is a multiple of 2^shift and is rounded down, all fractions alike."""
    parts = 2.0 ** max(-shift, 0)
    return (parts - 1) * (2 * parts - 1) / (6 * parts**2)
