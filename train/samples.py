"""A data set behind an encoder: what the network of a recipe sees, as integers and as floats."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lavatube.errors import LavatubeError
from lavatube.train.datasets.catalog import load_data
from lavatube.train.datasets.dataset import Dataset, Split
from lavatube.train.encoders import Encoder
from lavatube.train.recipe import Data, Recipe

EVALUATION_SEED = 0  # of encoders that draw at random: the same events for every evaluation and every engine


@dataclass(frozen=True)
class EncodedData:
    """A data set and its encoder. The float network sees event x input_scale."""

    dataset: Dataset
    encoder: Encoder
    num_steps: int

    @property
    def classes(self) -> int:
        return self.dataset.classes

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the events of one sample at one timestep."""
        return self.encoder.out_shape(self.dataset.sample_shape)

    @property
    def message_bits(self) -> int:
        return self.encoder.message_bits

    @property
    def input_scale(self) -> float:
        """Float value of one integer step of the input: spikes are 1, graded events are below 1."""
        return 1.0 if self.message_bits == 1 else 2.0**-self.message_bits

    def events(self, split: Split) -> NDArray[np.uint8]:
        """Events of a whole split for evaluation: [N, ...] if the same at every timestep, else [T, N, ...]."""
        samples = torch.from_numpy(split.samples.copy())
        generator = torch.Generator().manual_seed(EVALUATION_SEED)
        encoded = self.encoder(samples, self.num_steps, generator, is_sequence=self.dataset.is_sequence)
        return (encoded[0] if len(encoded) == 1 else encoded).numpy()

    def batches(self, split: Split, size: int, device: torch.device) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """A split in order: (inputs [T or 1, B, ...] float32, labels [B])."""
        events = self.events(split)
        steps = events[None] if events.ndim == len(self.shape) + 1 else events
        for start in range(0, len(split.label), size):
            chosen = torch.from_numpy(np.ascontiguousarray(steps[:, start : start + size])).to(device)
            labels = torch.from_numpy(split.label[start : start + size].copy()).to(device)
            yield chosen.to(torch.float32) * self.input_scale, labels

    def training_batches(
        self,
        settings: Data,
        size: int,
        generator: torch.Generator,
        device: torch.device,
        share: tuple[int, int] = (0, 1),
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The training split in random order, moved and mirrored at random: as `batches`.

        size: of a batch over all processes; share: (rank, processes), which rows of each batch are ours. What does not
        divide among the processes is left out of that epoch.
        """
        rank, processes = share
        split = self.dataset.train
        samples, labels = torch.from_numpy(split.samples.copy()), torch.from_numpy(split.label.copy())
        chosen = list(torch.split(torch.randperm(len(labels), generator=generator), size))
        if len(chosen) > 1 and len(chosen[-1]) < 2 * processes:  # one sample has no variance to normalize by
            chosen[-2:] = [torch.cat(chosen[-2:])]
        for rows in chosen:
            x = shifted(samples[rows], settings.shift, generator)
            x = mirrored(x, generator) if settings.flip else x
            mine = slice(rank, len(rows) // processes * processes, processes)
            events = self.encoder(x, self.num_steps, generator, is_sequence=self.dataset.is_sequence)[:, mine]
            yield events.to(device).to(torch.float32) * self.input_scale, labels[rows][mine].to(device)


def prepare(recipe: Recipe, data_dir: Path | None = None) -> EncodedData:
    """The data of a recipe.

    raises: LavatubeError for an unknown or absent data set, or an encoder or augmentation that does not fit it.
    """
    dataset = load_data(recipe.data.name, data_dir, num_steps=recipe.num_steps)
    kind, encoder = ("sequences", recipe.encoder) if dataset.is_sequence else ("static samples", recipe.encoder)
    if not (encoder.for_sequences if dataset.is_sequence else encoder.for_static):
        raise LavatubeError(f"encoder {encoder.kind} is not for {kind}", where=f"data {dataset.name}")
    if len(dataset.sample_shape) < 3 and (recipe.data.shift or recipe.data.flip):
        raise LavatubeError("shift and flip are for images", where="recipe data", got=f"data {dataset.name}")
    return EncodedData(dataset, encoder, recipe.num_steps)


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """Randomness of one epoch, the same whether or not the run was interrupted before it, on every device."""
    digest = hashlib.sha256(f"{seed}/{epoch}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def shifted(images: torch.Tensor, pixels: int, generator: torch.Generator) -> torch.Tensor:
    """Each image (or sequence of images) [B, ..., H, W] moved by its own -pixels..pixels in x and y, zero filled."""
    if pixels == 0:
        return images
    height, width = images.shape[-2:]
    moves = torch.randint(0, 2 * pixels + 1, (len(images), 2), generator=generator)
    flat = torch.nn.functional.pad(images.reshape(len(images), -1, height, width), (pixels,) * 4).permute(0, 2, 3, 1)
    rows = moves[:, 0, None, None] + torch.arange(height)[None, :, None]
    columns = moves[:, 1, None, None] + torch.arange(width)[None, None, :]
    sample = torch.arange(len(images))[:, None, None]
    return flat[sample, rows, columns].permute(0, 3, 1, 2).reshape(images.shape)


def mirrored(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Half of the images [B, ..., H, W], chosen at random, mirrored left to right."""
    chosen = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(chosen.reshape(-1, *(1,) * (images.ndim - 1)), images.flip(-1), images)
