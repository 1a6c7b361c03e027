"""Folders of image files, one folder per class, read when they are asked for: ImageNet."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lavatube.errors import LavatubeError
from lavatube.train.datasets.dataset import Dataset, Split

SUFFIXES = (".jpeg", ".jpg", ".png")
SIZE = 224  # pixels each way
SHORTER_SIDE = 256  # before the centre is cut out, for evaluation
AREA, ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)  # of the random crop, for training: Szegedy et al. 2015
PIXELS_MAX = 100_000_000  # of one file; more is refused before it is decoded
VALIDATION, SPLIT_SEED = 10_000, 0


Draws = list[list[float]]  # ten times (area, aspect, x, y), each in 0..1
Box = tuple[float, float, float, float]  # left, upper, right, lower


@dataclass(frozen=True)
class ImageFiles:
    """Colour images [N, 3, 224, 224] that are decoded on demand, in threads."""

    files: Sequence[Path]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.files), 3, SIZE, SIZE)

    def __len__(self) -> int:
        return len(self.files)

    def read(self, rows: NDArray[np.int64], generator: torch.Generator | None) -> NDArray[np.uint8]:
        """The images of some rows. With a generator, a random crop of each; else its centre.

        raises: LavatubeError for a file that is not an image.
        """
        draws: list[Draws | None] = [None] * len(rows)
        if generator is not None:
            draws = torch.rand((len(rows), 10, 4), generator=generator).tolist()
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            images = list(pool.map(_read, (self.files[row] for row in rows), draws))
        return np.stack(images)


def load_imagenet(folder: Path | None, num_steps: int) -> Dataset:
    """`folder`/imagenet/train and val, a folder of JPEG files per class; val is to test.

    10,000 of train (a fixed draw; a tenth where there are fewer than 100,000) are for validation.

    raises: LavatubeError if the folders are absent or do not hold the same classes.
    """
    root = None if folder is None else folder / "imagenet"
    if root is None or not (root / "train").is_dir() or not (root / "val").is_dir():
        raise LavatubeError(
            "no ImageNet",
            where=str(root or "data"),
            expected="imagenet/train/CLASS/*.JPEG and imagenet/val/CLASS/*.JPEG in the data folder",
            remedy="name the folder by --data-dir or LAVATUBE_DATA; ILSVRC2012 is to be had from image-net.org",
        )
    classes = sorted(entry.name for entry in (root / "train").iterdir() if entry.is_dir())
    files, labels = _list(root / "train", classes)
    present = np.unique(labels)
    if absent := [name for label, name in enumerate(classes) if label not in present]:
        where, expected = str(root / "train" / absent[0]), "files " + " or ".join(SUFFIXES)
        raise LavatubeError("a class without images", where=where, expected=expected)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(files))
    count = min(VALIDATION, len(files) // 10)
    parts = [np.sort(order[count:]), np.sort(order[:count])]
    train, validation = (Split(ImageFiles([files[row] for row in part]), labels[part]) for part in parts)
    test_files, test_labels = _list(root / "val", classes)
    return Dataset("imagenet", len(classes), False, train, validation, Split(ImageFiles(test_files), test_labels))


def _list(folder: Path, classes: Sequence[str]) -> tuple[list[Path], NDArray[np.int64]]:
    found = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    if found != list(classes) or not classes:
        odd = sorted(set(found) ^ set(classes))[:3]
        raise LavatubeError("classes of train and val differ", where=str(folder), got=", ".join(odd) or "no folders")
    files = [sorted(p for p in (folder / name).iterdir() if p.suffix.lower() in SUFFIXES) for name in classes]
    labels = np.repeat(np.arange(len(classes), dtype=np.int64), [len(part) for part in files])
    return [file for part in files for file in part], labels


def _read(file: Path, draws: Draws | None) -> NDArray[np.uint8]:
    from PIL import Image

    try:
        with Image.open(file) as image:
            width, height = image.size
            if width * height > PIXELS_MAX:
                raise LavatubeError("image is too large", where=str(file), got=f"{width} x {height} pixels")
            box = _centre(width, height) if draws is None else _crop(width, height, draws)
            cut = image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR, box=box)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise LavatubeError("not a readable image", where=str(file), got=str(error).splitlines()[0]) from error
    return np.ascontiguousarray(np.asarray(cut).transpose(2, 0, 1))


def _centre(width: int, height: int) -> Box:
    """The square whose side is 224 where the shorter side is 256."""
    side = min(width, height) * SIZE / SHORTER_SIDE
    left, upper = (width - side) / 2, (height - side) / 2
    return left, upper, left + side, upper + side


def _crop(width: int, height: int, draws: Draws) -> Box:
    """The first of ten random boxes that fits, of 8 to 100 % of the area and aspect 3/4 to 4/3; else the centre."""
    for area, aspect, x, y in draws:
        size = width * height * (AREA[0] + (AREA[1] - AREA[0]) * area)
        ratio = math.exp(math.log(ASPECT[0]) + (math.log(ASPECT[1]) - math.log(ASPECT[0])) * aspect)
        w, h = math.sqrt(size * ratio), math.sqrt(size / ratio)
        if w <= width and h <= height:
            left, upper = x * (width - w), y * (height - h)
            return left, upper, left + w, upper + h
    return _centre(width, height)
