"""MNIST and Fashion-MNIST from their IDX files, whole or as a fixed subset for ablations."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from lavatube.errors import LavatubeError
from lavatube.files import whole_file
from lavatube.train.datasets.dataset import Dataset, Split
from lavatube.train.datasets.idx import read_idx

VALIDATION = 5000
SPLIT_SEED = 0
SUBSET = 10000
CLASSES = 10
FILES = tuple(f"{part}-{what}-ubyte" for part in ("train", "t10k") for what in ("images-idx3", "labels-idx1"))


def load_idx_images(folder: Path | None, num_steps: int, *, name: str, subset: bool = False) -> Dataset:
    """28 x 28 grey images, ten classes: 55,000 for training, 5,000 for validation (a fixed draw), 10,000 for testing.

    subset: train on a fixed 10,000 of the 55,000, 1,000 per class where there are as many.
    raises: LavatubeError if the files are not in `folder`/name and torchvision cannot fetch them there, or are damaged.
    """
    folder = _complete(folder, name)
    images, labels = _read(folder / name, "train")
    if labels.max() >= CLASSES:  # a subset by class would leave them out
        expected, got = f"0..{CLASSES - 1}", f"{labels.min()}..{labels.max()}"
        raise LavatubeError("labels out of range", where=f"{name}, train", expected=expected, got=got)
    if len(labels) <= VALIDATION:
        got = f"{len(labels)} images"
        raise LavatubeError("too few images", where=str(folder / name), expected=f"over {VALIDATION}", got=got)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(labels))
    validation, train = np.sort(order[-VALIDATION:]), order[:-VALIDATION]
    if subset:
        per_class = [train[labels[train] == digit][: SUBSET // CLASSES] for digit in range(CLASSES)]
        train = np.concatenate(per_class)
    train = np.sort(train)
    test_images, test_labels = _read(folder / name, "t10k")
    return Dataset(
        f"{name}-10k" if subset else name,
        CLASSES,
        False,
        Split(images[train], labels[train]),
        Split(images[validation], labels[validation]),
        Split(test_images, test_labels),
    )


load_mnist = partial(load_idx_images, name="mnist")
load_fashion_mnist = partial(load_idx_images, name="fashion-mnist")
load_mnist_10k = partial(load_idx_images, name="mnist", subset=True)
load_fashion_mnist_10k = partial(load_idx_images, name="fashion-mnist", subset=True)


def _read(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    images = read_idx(_find(folder, f"{part}-images-idx3-ubyte"), rank=3)
    labels = read_idx(_find(folder, f"{part}-labels-idx1-ubyte"), rank=1)
    if len(images) != len(labels):
        got = f"{len(images)} images, {len(labels)} labels"
        raise LavatubeError("images and labels", where=f"{folder} ({part})", expected="as many", got=got)
    return images[:, None], labels.astype(np.int64)


def _find(folder: Path, name: str) -> Path:
    """The plain file, if it is there, else the compressed one."""
    return folder / name if (folder / name).is_file() else folder / f"{name}.gz"


def _complete(folder: Path | None, name: str) -> Path:
    """The data folder, in which those of the four files that are absent come from torchvision's mirrors.

    Each is checked by its MD5 sum before it takes its name. raises: LavatubeError.
    """
    absent = [] if folder is None else [file for file in FILES if not _find(folder / name, file).is_file()]
    if folder is not None and not absent:
        return folder
    problem = LavatubeError(
        f"no files of {name}",
        where=str(folder / name) if folder else "data",
        expected=f"a data folder with {name}/{absent[0] if absent else FILES[0]}.gz and the other three IDX files",
        remedy="name the folder by --data-dir or LAVATUBE_DATA; with torchvision they are fetched into it",
    )
    if folder is None:
        raise problem
    try:
        from torchvision import datasets
        from torchvision.datasets.utils import download_url
    except ImportError:
        raise problem from None
    source = datasets.FashionMNIST if name.startswith("fashion") else datasets.MNIST
    try:
        for file, md5 in source.resources:
            if file.removesuffix(".gz") in absent:
                with whole_file(folder / name / file) as temporary:
                    download_url(source.mirrors[0] + file, str(temporary.parent), temporary.name, md5)
    except (OSError, RuntimeError, LavatubeError) as error:
        raise problem from error
    return folder
