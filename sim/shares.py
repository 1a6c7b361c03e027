"""Shares and relative differences of samples, with 95 % intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

RESAMPLES = 1000
NORMAL_95 = 1.959963984540054  # quantile of the normal distribution for 95 %


@dataclass(frozen=True)
class Share:
    """A share, or a relative difference, and its 95 % interval; low and high are None where it has none."""

    value: float
    low: float | None
    high: float | None


def ratio(wrong: np.ndarray, total: np.ndarray) -> Share:
    """Sum over sum, with a seeded bootstrap over the samples. Without any spike to count against, 0 or 1."""

    def of(a: Any, b: Any) -> Any:
        return np.where(b > 0, a / np.maximum(b, 1), np.minimum(a, 1))

    value = float(of(wrong.sum(), total.sum()))
    if len(wrong) < 2:
        return Share(value, None, None)
    drawn = np.random.default_rng(0).integers(0, len(wrong), (RESAMPLES, len(wrong)))
    low, high = np.quantile(of(wrong[drawn].sum(1), total[drawn].sum(1)), [0.025, 0.975])
    return Share(value, float(low), float(high))


def wilson(successes: int, trials: int) -> Share:
    """A share with its 95 % interval.

    source: Wilson, Journal of the American Statistical Association 22 (1927), 209-212.
    """
    share, z = successes / trials, NORMAL_95
    middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials**2)) / (1 + z * z / trials)
    return Share(share, max(0.0, middle - half), min(1.0, middle + half))
