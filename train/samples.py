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

CHUNK = 500  # samples that are encoded together for evaluation
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

    def as_floats(self, events: torch.Tensor) -> torch.Tensor:
        """What the float network sees of events, float32."""
        return events.to(torch.float32) * self.input_scale

    def as_integers(self, events: torch.Tensor) -> torch.Tensor:
        """What the integer network sees of events [T or 1, B, ...]: [T, B, ...] int64."""
        return events.to(torch.int64).expand(self.num_steps, *events.shape[1:])

    def events(self, split: Split, count: int | None = None) -> NDArray[np.uint8]:
        """Events for evaluation of the first `count` samples: [N, ...] if all timesteps are equal, else [T, N, ...].

        What an encoder draws at random depends only on the sample's place in the split.
        """
        stop = len(split.label) if count is None else min(count, len(split.label))
        encoded = torch.cat([self._encode(split, start, stop) for start in range(0, stop, CHUNK)], 1)
        return (encoded[0] if len(encoded) == 1 else encoded).numpy()

    def batches(self, split: Split, size: int, device: torch.device) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """A split in order, in batches of at most `size`: (events [T or 1, B, ...] uint8, labels [B])."""
        for start in range(0, len(split.label), CHUNK):
            events = self._encode(split, start, len(split.label))
            labels = torch.from_numpy(split.label[start : start + CHUNK].copy())
            for x, y in zip(torch.split(events, size, 1), torch.split(labels, size), strict=True):
                yield x.to(device), y.to(device)

    def _encode(self, split: Split, start: int, stop: int) -> torch.Tensor:
        """One chunk of the split, with a generator of its own: [T or 1, N, ...] uint8."""
        rows = np.arange(start, min(start + CHUNK, stop))
        generator = torch.Generator().manual_seed(EVALUATION_SEED + start)
        samples = torch.from_numpy(split.take(rows))
        return self.encoder(samples, self.num_steps, generator, is_sequence=self.dataset.is_sequence)

    def batch_sizes(self, size: int, processes: int = 1) -> list[int]:
        """Of the training batches of an epoch, over all processes: `size`, and what is left over."""
        whole, left = divmod(len(self.dataset.train.label), size)
        sizes = [size] * whole + [left] * (left > 0)
        if len(sizes) > 1 and sizes[-1] < 2 * processes:  # one sample has no variance to normalize by
            sizes[-2:] = [sum(sizes[-2:])]
        return sizes

    def training_batches(
        self,
        settings: Data,
        size: int,
        generator: torch.Generator,
        device: torch.device,
        share: tuple[int, int] = (0, 1),
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The training split in random order, changed at random: as `batches`.

        size: of a batch over all processes; share: (rank, processes), which rows of each batch are ours. What does not
        divide among the processes is left out of that epoch.
        """
        rank, processes = share
        split = self.dataset.train
        labels = torch.from_numpy(split.label.copy())
        for rows in torch.split(torch.randperm(len(labels), generator=generator), self.batch_sizes(size, processes)):
            mine = slice(rank, len(rows) // processes * processes, processes)
            x = settings(torch.from_numpy(split.take(rows.numpy(), generator)), generator)
            events = self.encoder(x, self.num_steps, generator, is_sequence=self.dataset.is_sequence)[:, mine]
            yield events.to(device), labels[rows][mine].to(device)


def prepare(recipe: Recipe, data_dir: Path | None = None) -> EncodedData:
    """The data of a recipe.

    raises: LavatubeError for an unknown or absent data set, or an encoder or augmentation that does not fit it.
    """
    dataset = load_data(recipe.data.name, data_dir, num_steps=recipe.num_steps)
    encoder = recipe.encoder
    if not (encoder.for_sequences if dataset.is_sequence else encoder.for_static):
        kind = "sequences" if dataset.is_sequence else "static samples"
        raise LavatubeError(f"encoder {encoder.kind} is not for {kind}", where=f"data {dataset.name}")
    if encoder.kind == "latency" and recipe.num_steps < 2:
        raise LavatubeError(
            "latency needs timesteps to tell values apart", where="recipe num_steps", expected="2 or more"
        )
    recipe.data.check(dataset.sample_shape, is_sequence=dataset.is_sequence, where=f"data {dataset.name}")
    return EncodedData(dataset, encoder, recipe.num_steps)


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """Randomness of one epoch, the same whether or not the run was interrupted before it, on every device."""
    digest = hashlib.sha256(f"{seed}/{epoch}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
