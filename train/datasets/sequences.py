"""Sequences of real-valued features: spoken digits and movements of a wrist."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lavatube.errors import LavatubeError
from lavatube.trace import read_npz
from lavatube.train.datasets.dataset import Dataset, Split
from lavatube.train.datasets.events import whole_numbers
from lavatube.train.datasets.quantized_values import packed, to_uint8

SPLIT_SEED = 0


def load_spoken_digits(folder: Path | None, num_steps: int) -> Dataset:
    """Free Spoken Digit Dataset as 13 MFCC per frame, 6 to 92 frames (mean 18): [N, T, 13], cut to T
    or followed by the last one.

    Split 2400 / 300 / 300, stratified. There are no speaker ids, so speakers are in all splits: the accuracy is
    speaker-dependent. Standardised by the training split. Data: CC BY-SA 4.0. raises: LavatubeError if it is absent.
    """
    from sklearn.model_selection import train_test_split

    arrays = _read(folder, "spoken-digits/fsdd_mfcc.npz", ("frames", "lengths", "label"))
    sequences, label = _cut(arrays["frames"], arrays["lengths"]), arrays["label"]
    try:
        rest, test = train_test_split(np.arange(len(label)), test_size=300, random_state=SPLIT_SEED, stratify=label)
        train, validation = train_test_split(rest, test_size=300, random_state=SPLIT_SEED, stratify=label[rest])
    except ValueError as error:
        expected = "over 600 sequences, several of every digit"
        raise LavatubeError("no split", where="data spoken-digits", expected=expected, got=str(error)) from error
    splits = [np.sort(rows) for rows in (train, validation, test)]
    return _dataset("spoken-digits", 10, sequences, label, splits, num_steps)


IMU_CLASSES, IMU_SUBJECTS = 7, 5  # SUBJECTS: at least, of which four are held out
IMU_SAMPLES = 200  # of one window, 4 s at 50 Hz, averaged over equal parts to T timesteps


def load_imu(folder: Path | None, num_steps: int) -> Dataset:
    """Seven shoulder exercises by a watch's accelerometer and gyroscope: windows of 200 samples as [N, T, 6].

    Each window is averaged over T equal parts. Subjects are held out: two for validation, two for testing, six for
    training. Standardised by the training split. raises: LavatubeError if the file is absent or T does not divide 200.
    """
    if IMU_SAMPLES % num_steps:
        got = str(num_steps)
        raise LavatubeError("timesteps", where="data imu", expected=f"a divisor of {IMU_SAMPLES}", got=got)
    arrays = _read(folder, "imu-exercises/watch_imu.npz", ("samples", "lengths", "label", "subject"))
    windows, label, subject = list[NDArray[np.floating]](), list[int](), list[int]()
    for recording, kind, who in zip(
        _cut(arrays["samples"], arrays["lengths"]), arrays["label"], arrays["subject"], strict=True
    ):
        for start in range(0, len(recording) - IMU_SAMPLES + 1, IMU_SAMPLES):
            window = recording[start : start + IMU_SAMPLES]
            windows.append(window.reshape(num_steps, -1, window.shape[1]).mean(1))
            label.append(int(kind))
            subject.append(int(who))
    people = np.unique(subject)
    if len(people) < IMU_SUBJECTS:
        expected = f"{IMU_SUBJECTS} or more subjects with windows of {IMU_SAMPLES} samples"
        raise LavatubeError("too few subjects", where="data imu", expected=expected, got=str(len(people)))
    owner = np.array(subject)
    groups = people[:-4], people[-4:-2], people[-2:]
    splits = [np.flatnonzero(np.isin(owner, group)) for group in groups]
    labels = np.array(label, np.int64)
    return _dataset("imu", IMU_CLASSES, windows, labels, splits, num_steps)


def _dataset(
    name: str,
    classes: int,
    sequences: list[NDArray[np.floating]],
    label: NDArray[np.int64],
    splits: list[NDArray[np.int64]],
    num_steps: int,
) -> Dataset:
    seen = np.concatenate([sequences[row] for row in splits[0]])
    mean, deviation, clipped, made = seen.mean(0), seen.std(0), 0, list[Split]()
    for rows in splits:
        values = [to_uint8(sequences[row], mean, deviation) for row in rows]
        clipped += sum(count for _, count in values)
        made.append(Split(packed([value for value, _ in values], num_steps), label[rows]))
    train, validation, test = made
    return Dataset(name, classes, True, train, validation, test, clipped)


def _cut(values: NDArray[np.floating], lengths: NDArray[np.integer]) -> list[NDArray[np.floating]]:
    return np.split(values, np.cumsum(lengths)[:-1])


def _read(folder: Path | None, name: str, keys: tuple[str, ...]) -> dict[str, NDArray]:
    path = None if folder is None else folder / name
    if path is None or not path.is_file():
        remedy = "name the data folder by --data-dir or LAVATUBE_DATA"
        raise LavatubeError("no such data", where=str(path or name), expected="a data folder with it", remedy=remedy)
    arrays = read_npz(path, kind="a data set")
    if missing := [key for key in keys if key not in arrays]:
        raise LavatubeError("not this data set", where=str(path), expected=", ".join(keys), got=f"no {missing[0]}")
    frames = arrays[keys[0]]
    arrays |= {key: whole_numbers(arrays, key, str(path)) for key in keys[1:]}
    lengths = arrays["lengths"]
    fits = frames.dtype.kind in "iuf" and frames.ndim == 2 and 0 not in frames.shape
    if not fits or lengths.min(initial=1) < 1 or lengths.sum() != len(frames):
        got = f"{frames.dtype} {frames.shape}, {len(lengths)} lengths that add up to {lengths.sum()}"
        raise LavatubeError("frames and lengths", where=str(path), expected="[sum of lengths, features]", got=got)
    if any(len(arrays[key]) != len(lengths) for key in keys[2:]) or not np.isfinite(frames).all():
        raise LavatubeError("not this data set", where=str(path), expected="finite frames, one label per sequence")
    return arrays
