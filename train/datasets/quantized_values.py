"""Real-valued features as 8-bit samples."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CENTRE, PER_DEVIATION = 128, 40


def to_uint8(
    values: NDArray[np.floating], mean: NDArray[np.floating], deviation: NDArray[np.floating]
) -> tuple[NDArray[np.uint8], int]:
    """(clip(round(128 + 40 z)), how many were clipped), z the standardised value: 3 deviations fit. Features last."""
    scaled = np.rint(CENTRE + PER_DEVIATION * (values - mean) / np.maximum(deviation, 1e-12))
    clipped = np.clip(scaled, 0, 255)
    return clipped.astype(np.uint8), int((clipped != scaled).sum())


def packed(sequences: list[NDArray[np.uint8]], num_steps: int) -> NDArray[np.uint8]:
    """[N, T, F]: each sequence [t, F] cut to num_steps, or followed by its last frame."""
    rows = [np.minimum(np.arange(num_steps), len(sequence) - 1) for sequence in sequences]
    return np.stack([sequence[row] for sequence, row in zip(sequences, rows, strict=True)])
