"""Data sets with fixed splits, as integers within the input encoding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lavatube.errors import LavatubeError

SPLIT_SEED = 0  # of the split only: the same for every run and every seed


@dataclass(frozen=True)
class Split:
    """events: [N, C, H, W] uint8; label: [N] int64. Both become read-only."""

    events: NDArray[np.uint8]
    label: NDArray[np.int64]

    def __post_init__(self) -> None:
        self.events.setflags(write=False)
        self.label.setflags(write=False)


@dataclass(frozen=True)
class Dataset:
    """Static images of message_bits-bit integers; the float network sees event / 2^message_bits."""

    name: str
    classes: int
    message_bits: int
    train: Split
    validation: Split
    test: Split

    @property
    def input_shape(self) -> tuple[int, ...]:
        return tuple(self.train.events.shape[1:])

    @property
    def input_scale(self) -> float:
        """Float value of one integer step of the input."""
        return 2.0**-self.message_bits


def load_digits(folder: Path | None) -> Dataset:
    """scikit-learn's 1797 handwritten digits, 8 x 8 pixels; value 0..16 times 15. Split 1077, 360, 360, stratified."""
    from sklearn import datasets
    from sklearn.model_selection import train_test_split

    digits = datasets.load_digits()
    events = (digits.images * 15).astype(np.uint8)[:, None]
    label = digits.target.astype(np.int64)
    rest, test = train_test_split(np.arange(len(label)), test_size=360, random_state=SPLIT_SEED, stratify=label)
    train, validation = train_test_split(rest, test_size=360, random_state=SPLIT_SEED, stratify=label[rest])
    splits = [Split(events[np.sort(rows)], label[np.sort(rows)]) for rows in (train, validation, test)]
    return Dataset("digits", 10, 8, *splits)


DATASETS: Mapping[str, Callable[[Path | None], Dataset]] = {"digits": load_digits}


def load_data(name: str, data_dir: Path | None = None) -> Dataset:
    """A data set by name. raises: LavatubeError for an unknown name."""
    if name not in DATASETS:
        raise LavatubeError("unknown data set", where="data", expected=", ".join(DATASETS), got=name)
    return DATASETS[name](data_dir)


def encode(split: Split, input_scale: float, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """What the float network sees: (events * input_scale [N, C, H, W] float32, label [N] int64)."""
    return torch.tensor(split.events, dtype=torch.float32, device=device) * input_scale, torch.tensor(
        split.label, device=device
    )


def shifted(images: torch.Tensor, pixels: int, generator: torch.Generator) -> torch.Tensor:
    """Each image of [B, C, H, W] moved by its own -pixels..pixels in x and y, zero filled. generator: on the CPU."""
    if pixels == 0:
        return images
    height, width = images.shape[2:]
    moves = torch.randint(0, 2 * pixels + 1, (len(images), 2), generator=generator).to(images.device)
    padded = torch.nn.functional.pad(images, (pixels,) * 4).permute(0, 2, 3, 1)
    rows = moves[:, 0, None, None] + torch.arange(height, device=images.device)[None, :, None]
    columns = moves[:, 1, None, None] + torch.arange(width, device=images.device)[None, None, :]
    sample = torch.arange(len(images), device=images.device)[:, None, None]
    return padded[sample, rows, columns].permute(0, 3, 1, 2)
