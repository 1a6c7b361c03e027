"""ImageNet's folders, read on demand."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch

from lavatube.errors import LavatubeError
from lavatube.train.datasets.catalog import load_data
from lavatube.train.datasets.image_files import ImageFiles
from lavatube.train.encoders import Direct, Rate
from lavatube.train.samples import EncodedData

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes, red and blue, of differing sizes; 12 to train, 3 to test each."""
    draw = np.random.default_rng(0)
    for part, count in (("train", 12), ("val", 3)):
        for channel, name in ((0, "n01"), (2, "n02")):
            (tmp_path / "imagenet" / part / name).mkdir(parents=True)
            for index in range(count):
                height, width = draw.integers(180, 400, 2)
                pixels = np.zeros((height, width, 3), np.uint8)
                pixels[..., channel] = 50 + index
                pixels[:, : width // 2, 1] = 200  # the left half, so that crops differ
                Image.fromarray(pixels).save(tmp_path / "imagenet" / part / name / f"{index}.JPEG")
    (tmp_path / "imagenet" / "train" / "n01" / "notes.txt").write_text("not an image")
    return tmp_path


def test_folders_become_splits_that_read_their_images_when_asked(folder: Path) -> None:
    data = load_data("imagenet", folder)
    assert (data.classes, data.sample_shape) == (2, (3, 224, 224))
    assert [len(part.label) for part in (data.train, data.validation, data.test)] == [22, 2, 6]
    for split in (data.train, data.test):
        images = split.take(np.arange(len(split.label)))
        assert images.dtype == np.uint8
        red_or_blue = images.mean((2, 3))[:, [0, 2]].argmax(1)
        assert np.array_equal(red_or_blue, split.label)


def test_evaluation_cuts_the_centre_and_training_a_random_box(folder: Path) -> None:
    split = load_data("imagenet", folder).train
    rows = np.arange(4)
    centre = split.take(rows)
    assert np.array_equal(centre, split.take(rows))
    halves = (centre[:, 1] > 100).mean((1, 2))
    assert np.all(np.abs(halves - 0.5) < 0.02)
    a, b, c = (split.take(rows, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)
    assert not np.array_equal(a, centre)


def test_batches_go_through_encoders_and_augmentation(folder: Path) -> None:
    from lavatube.train.recipe import Data

    data = EncodedData(load_data("imagenet", folder), Direct(), 2)
    settings, device = Data(name="imagenet", flip=True), torch.device("cpu")
    batches = list(data.training_batches(settings, 8, torch.Generator().manual_seed(0), device))
    assert [len(label) for _, label in batches] == [8, 8, 6]
    assert batches[0][0].shape == (1, 8, 3, 224, 224)


def test_random_events_of_a_sample_do_not_depend_on_how_many_are_asked_for(folder: Path) -> None:
    data = EncodedData(load_data("digits"), Rate(), 3)
    few, all_of_them = data.events(data.dataset.train, 20), data.events(data.dataset.train)
    assert len(data.dataset.train.label) > 500
    assert np.array_equal(few, all_of_them[:, :20])
    assert not np.array_equal(all_of_them[:, :20], all_of_them[:, 500:520])


def test_a_file_that_is_no_image_is_named(folder: Path) -> None:
    bad = folder / "imagenet" / "val" / "n01" / "0.JPEG"
    bombs = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(bombs, "PNG")  # few bytes, many pixels
    for content in (b"no image", b"", bad.read_bytes()[:-200], bombs.getvalue()):
        bad.write_bytes(content)
        with pytest.raises(LavatubeError, match=r"n01.*0\.JPEG: not a readable image"):
            ImageFiles([bad]).read(np.array([0]), None)


def test_other_classes_in_val_are_refused(folder: Path) -> None:
    (folder / "imagenet" / "val" / "n02").rename(folder / "imagenet" / "val" / "n03")
    with pytest.raises(LavatubeError, match=r"classes of train and val differ.*n02, n03"):
        load_data("imagenet", folder)


def test_a_class_without_images_is_named(folder: Path) -> None:
    for part in ("train", "val"):
        (folder / "imagenet" / part / "n03").mkdir()
    with pytest.raises(LavatubeError, match=r"train/n03: a class without images, expected files \.jpeg or"):
        load_data("imagenet", folder)


def test_absent_folders_say_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(LavatubeError, match=r"imagenet/train/CLASS.*image-net\.org"):
        load_data("imagenet", tmp_path)
