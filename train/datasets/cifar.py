"""CIFAR-10 and CIFAR-100 by torchvision, which downloads them where they are absent and checks their MD5."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lavatube.errors import LavatubeError
from lavatube.train.datasets.dataset import Dataset, Split

VALIDATION, SPLIT_SEED = 5000, 0


def load_cifar(folder: Path | None, num_steps: int, *, classes: int) -> Dataset:
    """32 x 32 colour images [N, 3, 32, 32]: 45,000 for training, 5,000 for validation (a fixed draw), 10,000 to test.

    The authors' files are Python pickles; torchvision reads them, and only if their MD5 is the published one.
    raises: LavatubeError if torchvision or the files are absent or damaged.
    """
    if folder is None:
        remedy = "name a data folder by --data-dir or LAVATUBE_DATA; torchvision downloads into it"
        raise LavatubeError("no data folder", where=f"data cifar{classes}", remedy=remedy)
    try:
        from torchvision import datasets
    except ImportError as error:
        raise LavatubeError("CIFAR needs a package", where="data", remedy="pip install torchvision") from error
    make = datasets.CIFAR10 if classes == 10 else datasets.CIFAR100
    root = folder / f"cifar{classes}"
    try:
        train, test = (make(str(root), train=part, download=not _is_there(root, make)) for part in (True, False))
    except (OSError, RuntimeError) as error:
        raise LavatubeError("CIFAR is not readable", where=str(root), got=str(error).splitlines()[0]) from error
    order = np.random.default_rng(SPLIT_SEED).permutation(len(train.targets))
    count = min(VALIDATION, len(order) // 10)
    labels = np.asarray(train.targets)
    return Dataset(
        f"cifar{classes}",
        classes,
        False,
        _images(train.data[np.sort(order[count:])], labels[np.sort(order[count:])]),
        _images(train.data[np.sort(order[:count])], labels[np.sort(order[:count])]),
        _images(test.data, np.asarray(test.targets)),
    )


load_cifar10 = partial(load_cifar, classes=10)
load_cifar100 = partial(load_cifar, classes=100)


def _images(images: NDArray[np.uint8], labels: NDArray[np.integer]) -> Split:
    return Split(np.ascontiguousarray(np.transpose(images, (0, 3, 1, 2))), labels.astype(np.int64))


def _is_there(root: Path, make: Any) -> bool:
    return (root / str(make.base_folder)).is_dir()
