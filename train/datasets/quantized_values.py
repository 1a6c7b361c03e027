"""Real-valued features as 8-bit samples."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CENTRE, PER_DEVIATION = 128, 40


def to_uint8(
    values: NDArray[np.floating], mean: NDArray[np.floating], deviation: NDArray[np.floating]
) -> NDArray[np.uint8]:
    """clip(round(128 + 40 z)), z the standardised value: three standard deviations each way fit. Features are last."""
    z = (values - mean) / np.maximum(deviation, 1e-12)
    clipped: NDArray[np.uint8] = np.clip(np.rint(CENTRE + PER_DEVIATION * z), 0, 255).astype(np.uint8)
    return clipped


def packed(sequences: list[NDArray[np.uint8]], num_steps: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """([N, T, F], length [N]): each sequence [t, F] cut to num_steps, or followed by zeros."""
    out = np.zeros((len(sequences), num_steps, sequences[0].shape[1]), np.uint8)
    for row, sequence in zip(out, sequences, strict=True):
        row[: len(sequence)] = sequence[:num_steps]
    return out, np.array([min(len(sequence), num_steps) for sequence in sequences], np.int64)
