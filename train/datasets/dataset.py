"""What a data set is: fixed splits of 8-bit samples."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from lavatube.errors import LavatubeError


class Samples(Protocol):
    """Samples that are not all in memory: `shape` as of the array, `read` gives some of them."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def read(self, rows: NDArray[np.int64], generator: torch.Generator | None) -> NDArray[np.uint8]: ...


@dataclass(frozen=True)
class Split:
    """samples: uint8, images [N, C, H, W] or features [N, F]; sequences [N, T, ...]. label: [N] int64.

    Sequences that are shorter than T repeat their last frame; every timestep counts. The arrays become read-only.
    """

    samples: NDArray[np.uint8] | Samples
    label: NDArray[np.int64]

    def take(self, rows: NDArray[np.int64], generator: torch.Generator | None = None) -> NDArray[np.uint8]:
        """A copy of some samples. generator: for training, where reading may draw at random (crops of image files)."""
        if isinstance(self.samples, np.ndarray):
            return self.samples[rows]
        return self.samples.read(rows, generator)

    def __post_init__(self) -> None:
        if len(self.samples) != len(self.label) or len(self.label) == 0:
            got = f"{len(self.samples)} samples, {len(self.label)} labels"
            raise LavatubeError("a split", where="data", expected="as many labels as samples, at least one", got=got)
        for array in (self.samples, self.label):
            if isinstance(array, np.ndarray):
                array.setflags(write=False)


@dataclass(frozen=True)
class Dataset:
    """clipped: values of all splits that did not fit 8 bits and were clamped. raises: LavatubeError for odd labels."""

    name: str
    classes: int
    is_sequence: bool
    train: Split
    validation: Split
    test: Split
    clipped: int = 0

    def __post_init__(self) -> None:
        for name in ("train", "validation", "test"):
            shape, label = getattr(self, name).samples.shape[1:], getattr(self, name).label
            if shape != self.train.samples.shape[1:]:
                where, expected = f"{self.name}, {name}", str(self.train.samples.shape[1:])
                raise LavatubeError("samples of another shape", where=where, expected=expected, got=str(shape))
            if label.min() < 0 or label.max() >= self.classes:
                raise LavatubeError(
                    "labels out of range",
                    where=f"{self.name}, {name}",
                    expected=f"0..{self.classes - 1}",
                    got=f"{label.min()}..{label.max()}",
                )

    def sha256(self) -> str:
        """Of every label and sample (of samples that are read on demand: of their description), in hex."""
        digest = hashlib.sha256()
        for split in (self.train, self.validation, self.test):
            samples = split.samples if isinstance(split.samples, np.ndarray) else repr(split.samples).encode()
            for part in (samples, split.label):
                digest.update(np.ascontiguousarray(part).data if isinstance(part, np.ndarray) else part)
        return digest.hexdigest()

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Of one sample at one timestep."""
        return tuple(self.train.samples.shape[2 if self.is_sequence else 1 :])
