"""Event data sets: files in their authors' formats become frames that hold every event, at its place and time."""

from __future__ import annotations

import struct
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from lavatube.errors import LavatubeError
from lavatube.train.datasets.catalog import load_data
from lavatube.train.datasets.events import read_aedat4

EVENTS = 40  # of each recording that a test writes
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
ARCHIVES = {
    "NMNIST": ("train.zip", "test.zip"),
    "DVSGesture": ("ibmGestureTrain.tar.gz", "ibmGestureTest.tar.gz"),
    "CIFAR10DVS": ("CIFAR10DVS.zip",),
    "SHD": ("shd_train.h5.zip", "shd_test.h5.zip"),
}
STREAMS = """<dv version="2.0"><node name="outInfo" path="/mainloop/Recorder/outInfo/"><node name="0" path="/0/">
<attr key="typeIdentifier" type="string">EVTS</attr><node name="info" path="/0/info/">
<attr key="sizeX" type="int">{width}</attr><attr key="sizeY" type="int">{height}</attr>
</node></node></node></dv>"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with the archives that tonic looks for beside the extracted files, here empty."""
    dataset = pytest.importorskip("tonic.dataset", reason="tonic is not installed").Dataset
    few = dataset._folder_contains_at_least_n_files_of_type
    monkeypatch.setattr(dataset, few.__name__, lambda self, count, suffix: few(self, 1, suffix))
    for name, archives in ARCHIVES.items():
        (tmp_path / name).mkdir()
        for archive in archives:
            (tmp_path / name / archive).touch()
    return tmp_path


def recording(seed: int, size: int, span: int) -> np.ndarray:
    """Columns t, x, y, p, in order of time."""
    rng = np.random.default_rng(seed)
    columns = [np.sort(rng.integers(0, span, EVENTS)), *(rng.integers(0, n, EVENTS) for n in (size, size, 2))]
    return np.stack(columns, 1)


def counted(events: np.ndarray, num_steps: int, size: int, onto: int) -> np.ndarray:
    """Frames [T, 2, onto, onto] of equally many events, one by one."""
    frames = np.zeros((num_steps, 2, onto, onto), np.int64)
    for index, (_, x, y, p) in enumerate(events):
        frames[index * num_steps // len(events), p, y * onto // size, x * onto // size] += 1
    return frames


def same_samples(loaded: list[np.ndarray], expected: list[np.ndarray]) -> bool:
    return sorted(frames.astype(np.uint8).tobytes() for frames in loaded) == sorted(
        frames.astype(np.uint8).tobytes() for frames in expected
    )


def flatbuffer(identifier: bytes, vtable: tuple[int, ...], table: bytes, tail: bytes) -> bytes:
    """Size, offset of the table, identifier, padding, vtable, table, and what the table points to."""
    layout = struct.pack(f"<{len(vtable)}H", *vtable)
    padding = -(8 + len(layout)) % 8
    head = struct.pack("<I4s", 8 + padding + len(layout), identifier) + bytes(padding) + layout
    body = head + struct.pack("<i", len(layout)) + table + tail
    return struct.pack("<I", len(body)) + body


def aedat4(events: np.ndarray, height: int, width: int) -> bytes:
    """An AEDAT 4.0 file of one uncompressed packet. events: columns t, x, y, p."""
    streams = STREAMS.format(height=height, width=width).encode()
    text = struct.pack("<I", len(streams)) + streams + bytes(4 - len(streams) % 4)
    header = flatbuffer(b"IOHE", (10, 12, 4, 0, 8), struct.pack("<iI", 0, 4), text)
    elements = b"".join(struct.pack("<qhh?3x", int(t), int(x), int(y), bool(p)) for t, x, y, p in events)
    content = struct.pack("<I", len(events)) + elements
    packet = flatbuffer(b"EVTS", (6, 8, 4), struct.pack("<I", 4), content)
    return b"#!AER-DAT4.0\r\n" + header + struct.pack("<ii", 0, len(packet)) + packet


def write_n_mnist(folder: Path, digits: int = 10) -> dict[str, list[np.ndarray]]:
    """Five-byte records; returns the frames of five timesteps."""
    expected: dict[str, list[np.ndarray]] = {"Train": [], "Test": []}
    for seed, (part, digit) in enumerate((part, digit) for part in expected for digit in range(digits)):
        events = recording(seed, 34, 300_000)
        path = folder / "NMNIST" / part / str(digit) / "00001.bin"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"".join(bytes([x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255]) for t, x, y, p in events))
        expected[part].append(counted(events, 5, 34, 34))
    return expected


def write_gestures(folder: Path, gestures: Sequence[int] = range(11)) -> dict[str, list[np.ndarray]]:
    """An .npy file per gesture; returns the frames of four timesteps."""
    expected: dict[str, list[np.ndarray]] = {"ibmGestureTrain": [], "ibmGestureTest": []}
    for seed, (part, gesture) in enumerate((part, gesture) for part in expected for gesture in gestures):
        events = recording(seed, 128, 6000)  # milliseconds, as in the files that tonic fetches
        path = folder / "DVSGesture" / part / "user07_fluorescent" / f"{gesture}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, events[:, [1, 2, 3, 0]].astype(np.float64))
        expected[part].append(counted(events, 4, 128, 128))
    return expected


def write_heidelberg_digits(folder: Path, *, channels: int = 700, labels: np.ndarray | None = None) -> np.ndarray:
    """Two HDF5 files; returns the channels of the test file's spikes."""
    h5py = pytest.importorskip("h5py")
    for seed, part in enumerate(("train", "test")):
        units = np.random.default_rng(seed).integers(0, channels, (20, EVENTS)).astype(np.uint16)
        with h5py.File(folder / "SHD" / f"shd_{part}.h5", "w") as file:
            times = file.create_dataset("spikes/times", (20,), dtype=h5py.vlen_dtype(np.float16))
            places = file.create_dataset("spikes/units", (20,), dtype=h5py.vlen_dtype(np.uint16))
            for row in range(20):
                times[row] = np.sort(np.random.default_rng(row).random(EVENTS)).astype(np.float16)
                places[row] = units[row]
            file["labels"] = (np.arange(20) if labels is None else labels).astype(np.uint16)
            file["extra/keys"] = [b"zero"] * 20
            file["extra/speaker"] = np.zeros(20, np.uint16)
    return units


def test_n_mnist_frames_hold_every_event_of_the_five_byte_records(folder: Path) -> None:
    expected = write_n_mnist(folder)
    data = load_data("n-mnist", folder, num_steps=5)
    assert [len(split.label) for split in (data.train, data.validation, data.test)] == [9, 1, 10]
    assert same_samples([*data.train.samples, *data.validation.samples], expected["Train"])
    np.testing.assert_array_equal(data.test.samples, expected["Test"])
    np.testing.assert_array_equal(data.test.label, np.arange(10))


def test_dvs_gesture_frames_hold_every_event_of_the_recordings_of_each_user(folder: Path) -> None:
    expected = write_gestures(folder)
    data = load_data("dvs-gesture", folder, num_steps=4)
    assert data.sample_shape == (2, 128, 128)
    assert same_samples([*data.train.samples, *data.validation.samples], expected["ibmGestureTrain"])
    assert same_samples(list(data.test.samples), expected["ibmGestureTest"])
    for frames, label in zip(data.test.samples, data.test.label, strict=True):
        np.testing.assert_array_equal(frames, expected["ibmGestureTest"][label])


def test_cifar10_dvs_frames_hold_every_event_at_its_place_in_48_pixels(folder: Path) -> None:
    pytest.importorskip("aedat", reason="aedat is not installed")
    expected = []
    for seed, name in enumerate(name for name in CIFAR10 for _ in range(2)):
        events = recording(seed, 128, 1_300_000)
        path = folder / "CIFAR10DVS" / name / f"cifar10_{name}_{seed % 2}.aedat4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(aedat4(events, 128, 128))
        expected.append(counted(events, 5, 128, 48))
    data = load_data("cifar10-dvs", folder, num_steps=5)
    splits = (data.train, data.validation, data.test)
    assert [len(split.label) for split in splits] == [17, 1, 2]
    assert same_samples([frames for split in splits for frames in split.samples], expected)
    for split in splits:
        for frames, label in zip(split.samples, split.label, strict=True):
            assert any(np.array_equal(frames, expected[row]) for row in (2 * label, 2 * label + 1))


def test_spiking_heidelberg_digits_keep_every_spike_of_the_hdf5_files(folder: Path) -> None:
    units = write_heidelberg_digits(folder)
    data = load_data("shd", folder, num_steps=10)
    assert [len(split.label) for split in (data.train, data.validation, data.test)] == [18, 2, 20]
    assert data.sample_shape == (140,)
    expected = np.stack([np.bincount(row // 5, minlength=140) for row in units])
    np.testing.assert_array_equal(data.test.samples.astype(np.int64).sum(1), expected)
    np.testing.assert_array_equal(data.test.label, np.arange(20))


def test_an_aedat4_recording_gives_back_what_was_written(tmp_path: Path) -> None:
    pytest.importorskip("aedat", reason="aedat is not installed")
    written = np.array([(10, 0, 0, 1), (20, 3, 4, 0), (2_359_945, 345, 259, 1)])
    path = tmp_path / "recording.aedat4"
    path.write_bytes(aedat4(written, 260, 346))
    read = read_aedat4(path)
    np.testing.assert_array_equal(np.stack([read[key].astype(np.int64) for key in "txyp"], 1), written)
    for damaged in (b"", b"no recording", aedat4(written, 260, 346)[:-5]):
        path.write_bytes(damaged)
        with pytest.raises(LavatubeError, match=r"recording\.aedat4.*an aedat4 file"):
            read_aedat4(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "at least one, in order of time"),
        (bytes(43), "not readable"),
        (bytes([99, 7, 0, 0, 1]), r"outside the frame, x, expected 0\.\.33, got 99"),
    ],
)
def test_a_damaged_recording_of_n_mnist_is_named(folder: Path, content: bytes, message: str) -> None:
    write_n_mnist(folder, digits=3)
    (folder / "NMNIST" / "Test" / "1" / "00001.bin").write_bytes(content)
    with pytest.raises(LavatubeError, match=rf"NMNIST/Test/1/00001\.bin: .*{message}"):
        load_data("n-mnist", folder, num_steps=5)


def test_a_single_recording_cannot_be_split(folder: Path) -> None:
    write_n_mnist(folder, digits=1)
    with pytest.raises(LavatubeError, match=r"n-mnist: too few recordings.*two to train.*got 1 and 1"):
        load_data("n-mnist", folder, num_steps=5)


@pytest.mark.parametrize("content", [b"", b"no array", None], ids=["empty", "foreign", "cut"])
def test_a_damaged_gesture_is_named(folder: Path, content: bytes | None) -> None:
    write_gestures(folder, range(3))
    path = folder / "DVSGesture" / "ibmGestureTest" / "user07_fluorescent" / "2.npy"
    path.write_bytes(path.read_bytes()[:-7] if content is None else content)
    with pytest.raises(LavatubeError, match=r"user07_fluorescent/2\.npy: not readable"):
        load_data("dvs-gesture", folder, num_steps=4)


@pytest.mark.parametrize("content", [b"", b"no recording", None], ids=["empty", "foreign", "cut"])
def test_a_damaged_recording_of_cifar10_dvs_is_named(folder: Path, content: bytes | None) -> None:
    pytest.importorskip("aedat", reason="aedat is not installed")
    whole = aedat4(recording(0, 128, 1_300_000), 128, 128)
    for index in range(12):  # two of them test
        path = folder / "CIFAR10DVS" / "cat" / f"cifar10_cat_{index:02d}.aedat4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(whole)
    path.write_bytes(whole[:-5] if content is None else content)
    with pytest.raises(LavatubeError, match=r"cifar10_cat_11\.aedat4: not readable"):
        load_data("cifar10-dvs", folder, num_steps=2)


def test_damaged_heidelberg_digits_are_one_error(folder: Path) -> None:
    write_heidelberg_digits(folder, channels=900)
    with pytest.raises(
        LavatubeError, match=r"SHD, sample \d+: events outside the frame, x, expected 0\.\.699, got \d+\.\.[78]\d\d"
    ):
        load_data("shd", folder, num_steps=4)
    path = folder / "SHD" / "shd_train.h5"
    for content in (b"", b"no HDF5", path.read_bytes()[:-2000]):
        path.write_bytes(content)
        with pytest.raises(LavatubeError, match=r"SHD\): not readable"):
            load_data("shd", folder, num_steps=4)


def test_labels_out_of_range_are_refused_in_event_sets(folder: Path) -> None:
    write_heidelberg_digits(folder, labels=np.full(20, 33))
    with pytest.raises(LavatubeError, match=r"shd, train: labels out of range, expected 0\.\.19, got 33"):
        load_data("shd", folder, num_steps=4)
    write_gestures(folder, (0, 1, 17))
    with pytest.raises(LavatubeError, match=r"dvs-gesture, .*: labels out of range, expected 0\.\.10"):
        load_data("dvs-gesture", folder, num_steps=4)


@pytest.mark.parametrize("name", ["n-mnist", "dvs-gesture", "cifar10-dvs", "shd"])
def test_without_tonic_an_event_data_set_names_the_package(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tonic", None)
    with pytest.raises(LavatubeError, match="pip install tonic"):
        load_data(name, tmp_path, num_steps=4)


def test_without_aedat_a_recording_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aedat", None)
    with pytest.raises(LavatubeError, match=r"recording\.aedat4.*pip install aedat"):
        read_aedat4(tmp_path / "recording.aedat4")


def test_own_recordings_become_frames_that_hold_every_event(tmp_path: Path) -> None:
    pytest.importorskip("aedat", reason="aedat is not installed")
    expected: dict[str, list[np.ndarray]] = {"train": [], "test": []}
    for seed, (part, name) in enumerate((part, name) for part in expected for name in ("left", "right") for _ in "abc"):
        events = recording(seed, 20, 50_000)
        events[0, 1:3] = 19, 19  # the last row and column are used
        path = tmp_path / "recordings" / part / name / f"{seed}.{'aedat4' if seed % 2 else 'npz'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if seed % 2:
            path.write_bytes(aedat4(events, 20, 20))
        else:
            np.savez(path, t=events[:, 0], x=events[:, 1], y=events[:, 2], p=events[:, 3])
        frames = np.zeros((4, 2, 20, 20), np.int64)
        start, span = events[0, 0], events[-1, 0] - events[0, 0] + 1
        for t, x, y, p in events:
            frames[(t - start) * 4 // span, p, y, x] += 1
        expected[part].append(frames)
    data = load_data("recordings", tmp_path, num_steps=4)
    assert (data.classes, data.sample_shape, data.is_sequence) == (2, (2, 20, 20), True)
    assert same_samples([*data.train.samples, *data.validation.samples], expected["train"])
    assert same_samples(list(data.test.samples), expected["test"])
    np.testing.assert_array_equal(data.test.label, [0, 0, 0, 1, 1, 1])
    (tmp_path / "recordings" / "test" / "up").mkdir()
    with pytest.raises(LavatubeError, match=r"recordings/test.*left, right.*up"):
        load_data("recordings", tmp_path, num_steps=4)
    with pytest.raises(LavatubeError, match=r"recordings/train/CLASS"):
        load_data("recordings", tmp_path / "recordings", num_steps=4)


def own_recordings(folder: Path, **changes: np.ndarray) -> Path:
    """Two recordings each to train and to test; `changes` replace the columns of one."""
    for seed, (part, name) in enumerate((part, name) for part in ("train", "test") for name in ("left", "right")):
        columns = dict(zip("txyp", recording(seed, 20, 50_000).T, strict=True))
        path = folder / "recordings" / part / name / "a.npz"
        path.parent.mkdir(parents=True)
        np.savez(path, **(columns | changes if seed == 3 else columns))  # type: ignore[arg-type]
    return folder


def test_a_class_without_recordings_is_named(tmp_path: Path) -> None:
    own_recordings(tmp_path)
    (tmp_path / "recordings" / "train" / "up").mkdir()
    with pytest.raises(LavatubeError, match=r"train/up: a class without recordings, expected files \.aedat4 or \.npz"):
        load_data("recordings", tmp_path, num_steps=4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"t": np.zeros((EVENTS, 2))}, "t are no whole numbers"),
        ({"t": np.full(EVENTS, np.nan)}, "t are no whole numbers"),
        ({"x": np.full(EVENTS, 1.5)}, "x are no whole numbers"),
        ({"x": np.full(EVENTS, "a")}, "x are no whole numbers"),
        ({"y": np.zeros(3, int)}, "events, expected at least one, in order of time, with x, y and p"),
        ({key: np.zeros(0, int) for key in "txyp"}, "events, expected at least one"),
        ({"t": np.arange(EVENTS)[::-1]}, "in order of time"),
        ({"x": np.full(EVENTS, -1)}, "outside the frame, x"),
        ({"p": np.full(EVENTS, 2)}, "outside the frame, p"),
        ({"x": np.full(EVENTS, 2**40)}, r"outside any frame, x, expected 0\.\.4095"),
    ],
)
def test_a_damaged_recording_of_ones_own_is_named(tmp_path: Path, changes: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(LavatubeError, match=rf"test/right/a\.npz: .*{message}"):
        load_data("recordings", own_recordings(tmp_path, **changes), num_steps=4)
