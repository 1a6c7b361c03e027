"""The data sets that a recipe can name."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from lavatube.errors import LavatubeError
from lavatube.train.datasets.cifar import load_cifar10, load_cifar100
from lavatube.train.datasets.dataset import Dataset
from lavatube.train.datasets.digits import load_digits
from lavatube.train.datasets.event_sets import load_cifar10_dvs, load_dvs_gesture, load_nmnist, load_shd
from lavatube.train.datasets.image_files import load_imagenet
from lavatube.train.datasets.mnist import load_fashion_mnist, load_fashion_mnist_10k, load_mnist, load_mnist_10k
from lavatube.train.datasets.recordings import load_recordings
from lavatube.train.datasets.sequences import load_imu, load_spoken_digits

Loader = Callable[[Path | None, int], Dataset]

DATASETS: Mapping[str, Loader] = {
    "digits": load_digits,
    "mnist": load_mnist,
    "mnist-10k": load_mnist_10k,
    "fashion-mnist": load_fashion_mnist,
    "fashion-mnist-10k": load_fashion_mnist_10k,
    "cifar10": load_cifar10,
    "cifar100": load_cifar100,
    "imagenet": load_imagenet,
    "spoken-digits": load_spoken_digits,
    "imu": load_imu,
    "n-mnist": load_nmnist,
    "dvs-gesture": load_dvs_gesture,
    "cifar10-dvs": load_cifar10_dvs,
    "shd": load_shd,
    "recordings": load_recordings,
}


def load_data(name: str, data_dir: Path | str | None = None, *, num_steps: int = 1) -> Dataset:
    """A data set by name. data_dir: default LAVATUBE_DATA; num_steps: timesteps of sequences.

    raises: LavatubeError for an unknown name, a folder that is not there, or files that are absent or damaged.
    """
    if name not in DATASETS:
        remedy = "samples of your own are a file X.npz" if "." in name or "/" in name else ""
        raise LavatubeError("unknown data set", where="data", expected=", ".join(DATASETS), got=name, remedy=remedy)
    if data_dir is None and os.environ.get("LAVATUBE_DATA"):
        data_dir = os.environ["LAVATUBE_DATA"]
    folder = None if data_dir is None else Path(data_dir)
    if folder is not None and not folder.is_dir() and name != "digits":  # those come with scikit-learn
        remedy = "make it, or name another by --data-dir or LAVATUBE_DATA"
        raise LavatubeError("no such data folder", where=str(folder), expected=f"the files of {name}", remedy=remedy)
    return DATASETS[name](folder, num_steps)
