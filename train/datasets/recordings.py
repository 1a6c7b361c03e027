"""Your own event-camera recordings: a folder per class, a file per recording."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lavatube.errors import LavatubeError
from lavatube.train.datasets.dataset import Dataset, Split
from lavatube.train.datasets.events import events_to_frames, read_aedat4, read_event_npz, whole_numbers

Events = dict[str, NDArray]
READERS: Mapping[str, Callable[[Path], Events]] = {".aedat4": read_aedat4, ".npz": read_event_npz}
SPLIT_SEED = 0
SIDE_MAX = 4096  # pixels; a coordinate beyond is no camera's


def load_recordings(folder: Path | None, num_steps: int) -> Dataset:
    """`folder`/recordings/train and test, a folder per class, of .aedat4 or .npz files (t in microseconds, x, y, p).

    Every recording becomes num_steps frames of equal duration [2, H, W], just large enough to hold every event.
    A tenth of train (a fixed draw) is for validation. raises: LavatubeError for absent or damaged files.
    """
    root = None if folder is None else folder / "recordings"
    if root is None or not (root / "train").is_dir() or not (root / "test").is_dir():
        raise LavatubeError(
            "no recordings",
            where=str(root or "data"),
            expected="recordings/train/CLASS/*.aedat4 (or .npz) and recordings/test/CLASS/... in the data folder",
            remedy="name the folder by --data-dir or LAVATUBE_DATA",
        )
    classes = sorted(entry.name for entry in (root / "train").iterdir() if entry.is_dir())
    read = {part: _read(root / part, classes) for part in ("train", "test")}
    if absent := [name for label, name in enumerate(classes) if label not in read["train"][1]]:
        where, expected = str(root / "train" / absent[0]), "files " + " or ".join(READERS)
        raise LavatubeError("a class without recordings", where=where, expected=expected)
    every = [events for recordings, _ in read.values() for events in recordings.values()]
    size = tuple(1 + max(int(events[axis].max(initial=0)) for events in every) for axis in "yx")
    frames, clipped = {}, 0
    for part, (recordings, _) in read.items():
        made = [
            events_to_frames(events, (size[0], size[1]), num_steps, where=str(file))
            for file, events in recordings.items()
        ]
        frames[part] = np.stack([frame for frame, _ in made])
        clipped += sum(lost for _, lost in made)
    labels = {part: np.asarray(found, np.int64) for part, (_, found) in read.items()}
    order = np.random.default_rng(SPLIT_SEED).permutation(len(labels["train"]))
    count = max(1, len(order) // 10)
    kept, held = np.sort(order[count:]), np.sort(order[:count])
    train, validation = (Split(frames["train"][rows], labels["train"][rows]) for rows in (kept, held))
    test = Split(frames["test"], labels["test"])
    return Dataset("recordings", len(classes), True, train, validation, test, clipped)


def _read(folder: Path, classes: list[str]) -> tuple[dict[Path, Events], list[int]]:
    recordings, labels = dict[Path, Events](), list[int]()
    for label, name in enumerate(classes):
        files = sorted((folder / name).iterdir()) if (folder / name).is_dir() else []
        for file in files:
            if file.suffix in READERS:
                recordings[file] = events = READERS[file.suffix](file)
                labels.append(label)
                for axis in "yx":
                    if whole_numbers(events, axis, str(file)).max(initial=0) >= SIDE_MAX:
                        what, expected = f"events outside any frame, {axis}", f"0..{SIDE_MAX - 1}"
                        raise LavatubeError(what, where=str(file), expected=expected, got=str(events[axis].max()))
    odd = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name not in classes)
    if odd or len(recordings) < 2:
        got = f"{len(recordings)} recordings" + (f", and a class that train does not have: {odd[0]}" if odd else "")
        raise LavatubeError("recordings", where=str(folder), expected=f"two or more, of {', '.join(classes)}", got=got)
    return recordings, labels
