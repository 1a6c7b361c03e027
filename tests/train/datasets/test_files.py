"""Data from files: the formats of their authors, and one clear error for what is damaged or absent."""

from __future__ import annotations

import gzip
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lavatube.errors import LavatubeError
from lavatube.train.datasets.catalog import DATASETS, load_data
from lavatube.train.datasets.dataset import Dataset, Split
from lavatube.train.datasets.events import events_to_frames, read_event_npz
from lavatube.train.datasets.idx import read_idx

DATA = os.environ.get("LAVATUBE_DATA")
needs_data = pytest.mark.skipif(DATA is None, reason="LAVATUBE_DATA names no data folder")


def idx(array: np.ndarray) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


def write_mnist(folder: Path, *, labels: int = 10) -> None:
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for part, count in (("train", 6000), ("t10k", 50)):
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(rng.integers(0, 256, (count, 4, 4))))
        content = idx(np.arange(count) % labels)
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(content))


def test_idx_files_plain_and_compressed_become_splits_without_overlap(tmp_path: Path) -> None:
    write_mnist(tmp_path / "mnist")
    data = load_data("mnist", tmp_path, num_steps=4)
    assert [len(split.label) for split in (data.train, data.validation, data.test)] == [1000, 5000, 50]
    raw = read_idx(tmp_path / "mnist" / "train-images-idx3-ubyte", rank=3)
    joined = np.concatenate([data.train.samples, data.validation.samples])
    assert sorted(map(bytes, joined.reshape(6000, 16))) == sorted(map(bytes, raw.reshape(6000, 16)))


def test_labels_out_of_range_are_named_with_their_split(tmp_path: Path) -> None:
    write_mnist(tmp_path / "mnist", labels=11)
    for name in ("mnist", "mnist-10k"):
        with pytest.raises(LavatubeError, match=r"mnist, train.*labels out of range.*0\.\.9.*0\.\.10"):
            load_data(name, tmp_path, num_steps=4)


def test_an_absent_idx_file_is_fetched_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    utils = pytest.importorskip("torchvision.datasets.utils", reason="torchvision is not installed")
    write_mnist(tmp_path / "mnist")
    files = sorted(path.name for path in (tmp_path / "mnist").iterdir())
    gone = tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz"
    content = gone.read_bytes()
    gone.unlink()

    def fetch(url: str, root: str, name: str, md5: str) -> None:
        assert url.endswith("t10k-labels-idx1-ubyte.gz")
        (Path(root) / name).write_bytes(content if whole else content[:20])
        if not whole:
            raise ConnectionResetError

    monkeypatch.setattr(utils, "download_url", fetch)
    whole = False
    with pytest.raises(LavatubeError, match=r"no files of mnist.*mnist/t10k-labels-idx1-ubyte\.gz"):
        load_data("mnist", tmp_path, num_steps=4)
    assert sorted(path.name for path in (tmp_path / "mnist").iterdir()) == sorted({*files} - {gone.name})
    whole = True
    assert len(load_data("mnist", tmp_path, num_steps=4).test.label) == 50
    assert sorted(path.name for path in (tmp_path / "mnist").iterdir()) == files


@given(st.binary(max_size=64))
def test_bytes_that_are_no_idx_file_are_one_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("idx") / "file"
    path.write_bytes(content)
    with pytest.raises(LavatubeError, match=r"IDX"):
        read_idx(path, rank=3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b[:-1], "IDX content"),
        (lambda b: b + b"x", "IDX content.*got more"),
        (lambda b: b[:4] + b"\xff" * 12 + b[16:], "size of an IDX file"),
        (lambda b: b[:2] + b"\x0d" + b[3:], "not an IDX file"),
    ],
)
def test_a_damaged_idx_file_says_what_is_wrong(tmp_path: Path, change, message: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "file"
    path.write_bytes(change(idx(np.zeros((3, 2, 2)))))
    with pytest.raises(LavatubeError, match=message):
        read_idx(path, rank=3)
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(idx(np.zeros((3, 2, 2))))[:-9])
    with pytest.raises(LavatubeError, match="not readable"):
        read_idx(path, rank=3)


@pytest.mark.parametrize(
    "name", [name for name in DATASETS if name not in ("digits", "n-mnist", "dvs-gesture", "cifar10-dvs", "shd")]
)
def test_an_absent_folder_is_one_error_with_the_remedy(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAVATUBE_DATA", raising=False)
    with pytest.raises(LavatubeError, match="--data-dir"):
        load_data(name, None, num_steps=50)


@pytest.mark.parametrize("name", [name for name in DATASETS if name != "digits"])
def test_a_data_folder_that_is_not_there_is_one_error_and_is_not_made(name: str, tmp_path: Path) -> None:
    with pytest.raises(LavatubeError, match=r"typo: no such data folder.*--data-dir or LAVATUBE_DATA"):
        load_data(name, tmp_path / "typo", num_steps=50)
    assert not (tmp_path / "typo").exists()


def sequence_file(folder: Path, name: str, **changes: np.ndarray) -> Path:
    """The file of `spoken-digits` or `imu`, with 1000 or 10 sequences; `changes` replace its arrays."""
    spoken = name == "spoken-digits"
    count, length, features = (1000, 3, 13) if spoken else (10, 200, 6)
    draw = np.random.default_rng(0).normal(size=(count * length, features))
    arrays = {"lengths": np.full(count, length), "label": np.arange(count) % 7, "subject": np.arange(count)}
    path = folder / ("spoken-digits/fsdd_mfcc.npz" if spoken else "imu-exercises/watch_imu.npz")
    path.parent.mkdir(parents=True)
    np.savez(path, **{"frames" if spoken else "samples": draw, **arrays, **changes})  # type: ignore[arg-type]
    return folder


LABELS = np.arange(1000) % 10
HALVES, TEXT, LONE = LABELS + 0.5, np.full(1000, "a"), np.r_[9, np.arange(999) % 9]


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("spoken-digits", {"frames": np.full((3000, 13), "a")}, "frames and lengths"),
        ("spoken-digits", {"frames": np.zeros((3000, 0))}, "frames and lengths"),
        ("spoken-digits", {"frames": np.full((3000, 13), np.nan)}, "finite frames"),
        ("spoken-digits", {"lengths": np.full(1000, 4)}, r"frames and lengths.*add up to 4000"),
        ("spoken-digits", {"label": np.zeros((1000, 2), int)}, "label are no whole numbers"),
        ("spoken-digits", {"label": HALVES}, "label are no whole numbers"),
        ("spoken-digits", {"label": TEXT}, "label are no whole numbers"),
        ("spoken-digits", {"label": np.arange(1000) % 12}, r"labels out of range, expected 0\.\.9, got 0\.\.11"),
        ("spoken-digits", {"label": LABELS[:9]}, "one label per sequence"),
        ("spoken-digits", {"label": LONE}, "no split, expected over 600 sequences, several of every digit"),
        ("imu", {"subject": np.zeros(10, int)}, r"too few subjects, expected 5 or more.*got 1"),
        ("imu", {"lengths": np.full(20, 100), "label": LABELS[:20], "subject": LABELS[:20]}, "too few subjects"),
        ("imu", {"label": LABELS[:10]}, r"labels out of range, expected 0\.\.6"),
        ("imu", {"subject": TEXT[:10]}, "subject are no whole numbers"),
    ],
)
def test_a_damaged_file_of_sequences_says_what_is_wrong(
    tmp_path: Path, name: str, changes: dict[str, np.ndarray], message: str
) -> None:
    load_data(name, sequence_file(tmp_path / "right", name), num_steps=4)
    with pytest.raises(LavatubeError, match=message):
        load_data(name, sequence_file(tmp_path / "wrong", name, **changes), num_steps=4)


def test_cifar_is_read_from_the_files_of_its_authors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("torchvision.datasets", reason="torchvision is not installed")
    folder = tmp_path / "cifar10" / datasets.CIFAR10.base_folder
    folder.mkdir(parents=True)
    rng, batches = np.random.default_rng(0), {}
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        batches[name] = rng.integers(0, 256, (20, 3072), dtype=np.uint8)
        content = {"data": batches[name], "labels": [int(i) % 10 for i in range(20)]}
        (folder / name).write_bytes(pickle.dumps(content))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    with pytest.raises(
        LavatubeError, match="CIFAR is not readable"
    ):  # the MD5 of foreign files is not the published one
        load_data("cifar10", tmp_path, num_steps=4)
    monkeypatch.setattr(datasets.CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *args: True)
    data = load_data("cifar10", tmp_path, num_steps=4)
    assert data.train.samples.shape == (90, 3, 32, 32)
    assert len(data.validation.label) == 10
    np.testing.assert_array_equal(data.test.samples.reshape(20, -1), batches["test_batch"])


def test_frames_count_every_event_once_and_say_what_saturates() -> None:
    rng = np.random.default_rng(0)
    events = {
        "t": np.sort(rng.integers(0, 1000, 500)),
        **{k: rng.integers(0, n, 500) for k, n in (("x", 5), ("y", 4), ("p", 2))},
    }
    for by in ("time", "count"):
        frames, lost = events_to_frames(events, (4, 5), 8, by=by)  # type: ignore[arg-type]
        assert frames.shape == (8, 2, 4, 5)
        assert int(frames.sum()) == 500
        assert lost == 0
    assert set(events_to_frames(events, (4, 5), 8, by="count")[0].sum((1, 2, 3)).tolist()) <= {62, 63}
    hot = {key: np.zeros(300, np.int64) for key in ("t", "x", "y", "p")}
    frames, lost = events_to_frames(hot, (4, 5), 2)
    assert int(frames.max()) == 255
    assert lost == 45


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("x", 5, "x, expected 0..4"),
        ("y", -1, "y, expected 0..3"),
        ("p", 2, "p, expected 0..1"),
        ("t", 9, "order of time"),
    ],
)
def test_events_outside_the_frame_or_out_of_order_are_refused(key: str, value: int, message: str) -> None:
    events = {name: np.zeros(3, np.int64) for name in ("t", "x", "y", "p")}
    events[key][1] = value
    for resize in (None, (2, 2)):
        with pytest.raises(LavatubeError, match=message.replace(".", r"\.")):
            events_to_frames(events, (4, 5), 2, resize=resize)


def test_a_split_has_a_label_per_sample() -> None:
    with pytest.raises(LavatubeError, match="as many labels as samples"):
        Split(np.zeros((3, 2), np.uint8), np.zeros(2, np.int64))


@needs_data
@pytest.mark.parametrize(
    ("name", "num_steps", "train", "classes"),
    [
        ("mnist", 4, 55000, 10),
        ("fashion-mnist-10k", 4, 10000, 10),
        ("spoken-digits", 32, 2400, 10),
        ("imu", 50, 656, 7),
    ],
)
def test_the_real_files_load(name: str, num_steps: int, train: int, classes: int) -> None:
    data: Dataset = load_data(name, Path(str(DATA)), num_steps=num_steps)
    assert len(data.train.label) == train
    assert data.classes == classes
    for split in (data.train, data.validation, data.test):
        assert set(np.unique(split.label)) == set(range(classes))
        if data.is_sequence:
            assert split.samples.shape[1] == num_steps


@needs_data
def test_a_real_recording_becomes_frames() -> None:
    events = read_event_npz(Path(str(DATA)) / "events" / "davis346_events.npz")
    frames, lost = events_to_frames(events, (260, 346), 20)
    assert int(frames.sum()) + lost == len(events["t"]) == 78830
