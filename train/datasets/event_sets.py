"""Labelled event data sets, read by the package tonic from the files of their authors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lavatube.errors import LavatubeError
from lavatube.train.datasets.dataset import Dataset, Split
from lavatube.train.datasets.events import code_of_others, events_to_frames

SPLIT_SEED = 0
DVS_SIZE = (48, 48)  # CIFAR10-DVS is resized from 128 x 128, as in arXiv 2410.11488's code
SHD_CHANNELS, SHD_GROUP = 700, 5
SHD_WINDOW = 1_400_000  # microseconds, the same for every digit: how long it takes is part of it


def load_nmnist(folder: Path | None, num_steps: int) -> Dataset:
    """N-MNIST (Orchard et al. 2015): frames [T, 2, 34, 34] of equally many events. A tenth of training validates."""
    make = _tonic("NMNIST", folder)
    return _split("n-mnist", 10, num_steps, make(train=True), make(train=False), partial(_frames, size=(34, 34)))


def load_dvs_gesture(folder: Path | None, num_steps: int) -> Dataset:
    """DVS128 Gesture (Amir et al. 2017): frames [T, 2, 128, 128] of equally many events, 11 classes.

    Test users are unseen; a tenth of the training samples validates, of users that also train.
    """
    make = _tonic("DVSGesture", folder)
    return _split("dvs-gesture", 11, num_steps, make(train=True), make(train=False), partial(_frames, size=(128, 128)))


def load_cifar10_dvs(folder: Path | None, num_steps: int) -> Dataset:
    """CIFAR10-DVS (Li et al. 2017): frames [T, 2, 48, 48] of equally many events. Every tenth sample tests."""
    everything = _tonic("CIFAR10DVS", folder)()
    rows = np.arange(len(everything))
    train, test = _Subset(everything, rows[rows % 10 != 0]), _Subset(everything, rows[rows % 10 == 0])
    return _split("cifar10-dvs", 10, num_steps, train, test, partial(_frames, size=(128, 128), resize=DVS_SIZE))


def load_shd(folder: Path | None, num_steps: int) -> Dataset:
    """Spiking Heidelberg Digits (Cramer et al. 2020): counts [T, 140], five channels added up, 20 classes."""
    make = _tonic("SHD", folder)
    return _split("shd", 20, num_steps, make(train=True), make(train=False), _channels)


Convert = Callable[[Any, int, str], tuple[NDArray[np.uint8], int]]  # events, timesteps, where: frames, clipped events


class _Subset:
    def __init__(self, whole: Any, rows: NDArray[np.int64]) -> None:
        self.whole, self.rows = whole, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        return self.whole[int(self.rows[index])]

    def where(self, index: int) -> str:
        """The file of a sample, or what else tells which one it is."""
        row = int(self.rows[index])
        if isinstance(self.whole, _Subset):
            return self.whole.where(row)
        return str(self.whole.data[row]) if self.whole.data else f"{type(self.whole).__name__}, sample {row}"


def _tonic(name: str, folder: Path | None) -> Callable[..., Any]:
    try:
        from tonic import datasets
    except ImportError as error:
        raise LavatubeError(
            "event data sets need a package", where=f"data {name}", remedy="pip install tonic"
        ) from error
    if folder is None:
        remedy = "name a data folder by --data-dir or LAVATUBE_DATA; tonic downloads into it"
        raise LavatubeError("no data folder", where=f"data {name}", remedy=remedy)

    def make(**options: Any) -> Any:
        with code_of_others(f"{folder} ({name})"):
            found = getattr(datasets, name)(save_to=str(folder), **options)
        in_order = sorted(range(len(found)), key=lambda row: str(found.data[row])) if found.data else range(len(found))
        return _Subset(found, np.array(in_order, np.int64))  # tonic's own order is that of the file system

    return make


def _split(name: str, classes: int, num_steps: int, train: _Subset, test: _Subset, convert: Convert) -> Dataset:
    if len(train) < 2 or len(test) < 1:
        got = f"{len(train)} and {len(test)}"
        raise LavatubeError("too few recordings", where=name, expected="two to train, one to test", got=got)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(train))
    held_out = max(1, len(train) // 10)
    chosen = (_Subset(train, np.sort(order[held_out:])), _Subset(train, np.sort(order[:held_out])), test)
    (learn, a), (validation, b), (final, c) = (_read(part, num_steps, convert) for part in chosen)
    return Dataset(name, classes, True, learn, validation, final, a + b + c)


def _read(part: _Subset, num_steps: int, convert: Convert) -> tuple[Split, int]:
    samples, label, clipped = list[NDArray[np.uint8]](), list[int](), 0
    for index in range(len(part)):
        with code_of_others(part.where(index)):
            events, kind = part[index]
            frames, lost = convert(events, num_steps, part.where(index))
        samples.append(frames)
        label.append(int(kind))
        clipped += lost
    return Split(np.stack(samples), np.array(label, np.int64)), clipped


def _frames(
    events: Any, num_steps: int, where: str, *, size: tuple[int, int], resize: tuple[int, int] | None = None
) -> tuple[NDArray[np.uint8], int]:
    order = np.argsort(events["t"], kind="stable")
    columns = {key: np.asarray(events[key])[order].astype(np.int64) for key in ("t", "x", "y", "p")}
    return events_to_frames(columns, size, num_steps, by="count", resize=resize, where=where)


def _channels(events: Any, num_steps: int, where: str) -> tuple[NDArray[np.uint8], int]:
    order = np.argsort(events["t"], kind="stable")
    zero = np.zeros(len(order), np.int64)
    columns = {"t": np.asarray(events["t"])[order], "x": np.asarray(events["x"])[order], "y": zero, "p": zero}
    size, resize = (1, SHD_CHANNELS), (1, SHD_CHANNELS // SHD_GROUP)
    frames, lost = events_to_frames(columns, size, num_steps, window=SHD_WINDOW, resize=resize, where=where)
    return frames[:, 0, 0], lost
