"""scikit-learn's handwritten digits: the default, which needs no download."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lavatube.train.datasets.dataset import Dataset, Split

SPLIT_SEED = 0  # of the split only: the same for every run and every seed


def load_digits(folder: Path | None, num_steps: int) -> Dataset:
    """1797 grey images of 8 x 8 pixels; value 0..16 times 15. Split 1077, 360, 360, stratified."""
    from sklearn import datasets
    from sklearn.model_selection import train_test_split

    digits = datasets.load_digits()
    samples = (digits.images * 15).astype(np.uint8)[:, None]
    label = digits.target.astype(np.int64)
    rest, test = train_test_split(np.arange(len(label)), test_size=360, random_state=SPLIT_SEED, stratify=label)
    train, validation = train_test_split(rest, test_size=360, random_state=SPLIT_SEED, stratify=label[rest])
    parts = (Split(samples[np.sort(rows)], label[np.sort(rows)]) for rows in (train, validation, test))
    learn, validate, final = parts
    return Dataset("digits", 10, False, learn, validate, final)
