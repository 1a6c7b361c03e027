"""The interval that a share of right answers comes from."""

from __future__ import annotations

import math

NORMAL_95 = 1.959963984540054  # quantile of the normal distribution for 95 %


def wilson(right: int, of: int) -> tuple[float, float]:
    """(low, high) of a share, 95 %, in 0..1.

    source: Wilson, Journal of the American Statistical Association 22 (1927), 209-212.
    """
    share, z2 = right / of, NORMAL_95**2
    middle = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = NORMAL_95 / (1 + z2 / of) * math.sqrt(share * (1 - share) / of + z2 / (4 * of * of))
    return max(middle - half, 0.0), min(middle + half, 1.0)
