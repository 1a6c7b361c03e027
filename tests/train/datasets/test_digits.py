"""Data: the split is fixed, stratified and complete; shifts move pixels and lose none but at the border."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lavatube.errors import LavatubeError
from lavatube.files import sha256_of_arrays
from lavatube.train.datasets.catalog import load_data
from lavatube.train.encoders import Direct
from lavatube.train.recipe import Data
from lavatube.train.samples import EncodedData

SPLIT_SHA256 = "bf14a33d01d207d8ce14164ab28dd33390d541445865b636770cd89debfd01c9"


def test_the_split_is_the_one_that_every_published_number_used() -> None:
    data = load_data("digits", num_steps=8)
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    arrays = {f"{name}.events": split.samples for name, split in splits.items()}
    arrays |= {f"{name}.label": split.label for name, split in splits.items()}
    assert sha256_of_arrays(arrays) == SPLIT_SHA256


def test_the_split_is_stratified_and_uses_every_sample_once() -> None:
    from sklearn.datasets import load_digits

    data = load_data("digits", num_steps=8)
    assert [len(split.label) for split in (data.train, data.validation, data.test)] == [1077, 360, 360]
    images, labels = load_digits(return_X_y=True)
    for split in (data.train, data.validation, data.test):
        share = np.bincount(split.label, minlength=10) / len(split.label)
        np.testing.assert_allclose(share, np.bincount(labels) / len(labels), atol=0.003)
    ours = np.concatenate([split.samples.reshape(-1, 64) for split in (data.train, data.validation, data.test)])
    assert sorted(map(bytes, ours)) == sorted(map(bytes, (images * 15).astype(np.uint8)))


def test_the_network_sees_integers_over_256() -> None:
    data = EncodedData(load_data("digits", num_steps=8), Direct(), 8)
    [(events, label)] = list(data.batches(data.dataset.test, 400, torch.device("cpu")))
    inputs = data.as_floats(events)
    assert inputs.shape == (1, 360, 1, 8, 8)
    assert torch.equal(inputs[0] * 256, torch.tensor(data.dataset.test.samples, dtype=torch.float32))
    assert label.dtype == torch.int64
    assert data.dataset.test.samples.max() == 240


def test_the_splits_cannot_be_written_to() -> None:
    with pytest.raises(ValueError, match="read-only"):
        load_data("digits", num_steps=8).test.samples[0] = 0


def test_several_processes_share_out_the_batches_of_one() -> None:
    data = EncodedData(load_data("digits", num_steps=8), Direct(), 8)

    def labels(share: tuple[int, int]) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        batches = data.training_batches(Data(name="digits", shift=1), 64, generator, torch.device("cpu"), share)
        return [label for _, label in batches]

    for whole, a, b in zip(labels((0, 1)), labels((0, 2)), labels((1, 2)), strict=True):
        even = len(whole) // 2 * 2
        assert torch.equal(torch.stack([a, b], 1).flatten(), whole[:even])


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("size", [1, 64, 269, 538, 1076, 1077, 2000])
def test_an_epoch_has_as_many_batches_as_it_says_and_every_sample_once(size: int, processes: int) -> None:
    data = EncodedData(load_data("digits", num_steps=8), Direct(), 8)
    generator = torch.Generator().manual_seed(0)
    batches = data.training_batches(Data(name="digits"), size, generator, torch.device("cpu"), (0, processes))
    found = [len(label) for _, label in batches]
    assert found == [each // processes for each in data.batch_sizes(size, processes)]
    assert sum(data.batch_sizes(size, processes)) == len(data.dataset.train.label) == 1077


def test_an_unknown_data_set_lists_the_known_ones() -> None:
    with pytest.raises(LavatubeError, match=r"digits.*got digit"):
        load_data("digit", num_steps=8)
