"""quantized.safetensors: all of it is under its checksum."""

from __future__ import annotations

import numpy as np
import pytest

from lavatube.errors import LavatubeError
from lavatube.files import read_tensors, write_tensors
from lavatube.trained import QUANTIZED, QuantizedNetwork, _digest, load_quantized, save_quantized

NETWORK = QuantizedNetwork(
    {"seed": 0, "decay": 0.1}, {"num_steps": 4}, {"w": np.ones(3, np.float32)}, ({"what": "rounded"},),
    {"test_accuracy": 97.5},
)  # fmt: skip


@pytest.fixture
def path(tmp_path):
    save_quantized(NETWORK, tmp_path / "q.safetensors")
    return tmp_path / "q.safetensors"


def test_a_network_survives_save_and_load(path):
    loaded = load_quantized(path)
    assert (loaded.recipe, loaded.layout, loaded.lossy) == (NETWORK.recipe, NETWORK.layout, NETWORK.lossy)
    assert loaded.metrics == NETWORK.metrics
    np.testing.assert_array_equal(loaded.tensors["w"], NETWORK.tensors["w"])


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("recipe", {"seed": 1, "decay": 0.1}), ("layout", {"num_steps": 5}), ("lossy", []),
        ("metrics", {"test_accuracy": 99.5}), ("sha256", "0" * 64), ("version", 2), ("more", 1),
    ],
)  # fmt: skip
def test_any_changed_part_of_the_header_is_refused(path, part, value):
    tensors, header = read_tensors(path, kind=QUANTIZED)
    write_tensors(path, tensors, header | {part: value})
    with pytest.raises(LavatubeError, match="header or tensors do not match their checksum; damaged or changed"):
        load_quantized(path)


def test_a_changed_tensor_is_refused(path):
    tensors, header = read_tensors(path, kind=QUANTIZED)
    tensors["w"][1] += 1
    write_tensors(path, tensors, header)
    with pytest.raises(LavatubeError, match="do not match their checksum"):
        load_quantized(path)


def test_files_of_version_2_are_read_and_of_others_refused(path):
    tensors, header = read_tensors(path, kind=QUANTIZED)
    write_tensors(path, tensors, header | {"version": 2, "sha256": _digest(NETWORK.layout, NETWORK.tensors)})
    assert load_quantized(path).metrics == NETWORK.metrics
    for version in (1, 4, None, "3"):
        write_tensors(path, tensors, header | {"version": version})
        with pytest.raises(LavatubeError, match="of another version of lavatube, expected version 3"):
            load_quantized(path)
