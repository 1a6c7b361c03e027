"""A stranger's file cannot reach out of itself or grow in memory; the error names the path and the rule."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from lavatube.convert.float_graph.read import read_float_graph
from lavatube.convert.safe_hdf5 import Limits, check_hdf5
from lavatube.errors import LavatubeError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.nir"


def refused(path, words, **limits):
    with pytest.raises(LavatubeError, match=words) as caught:
        check_hdf5(path, Limits(**limits))
    assert "\n" not in str(caught.value)


def test_external_and_soft_links_are_refused(path, tmp_path):
    with h5py.File(path, "w") as f:
        f["node/a"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/x")
    refused(path, r"/node/a: not allowed: links other than hard links, got ExternalLink")
    with h5py.File(path, "w") as f:
        f["b"] = h5py.SoftLink("/a")
    refused(path, "SoftLink")


def test_external_storage_and_virtual_data_sets_are_refused(path, tmp_path):
    (tmp_path / "raw.bin").write_bytes(b"\0" * 80)
    with h5py.File(path, "w") as f:
        f.create_dataset("a", (10,), "f8", external=[(str(tmp_path / "raw.bin"), 0, 80)])
    refused(path, "/a: not allowed: virtual or externally stored data")
    with h5py.File(path, "w") as f:
        layout = h5py.VirtualLayout((4,), "f8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (4,))
        f.create_virtual_dataset("v", layout)
    refused(path, "/v: not allowed: virtual")


def test_a_small_file_that_declares_gigabytes_is_refused_before_reading(path):
    with h5py.File(path, "w") as f:
        f.create_dataset("node/weight", (1 << 20, 1 << 10), "f8", chunks=(1024, 1024), fillvalue=1.0)
    assert path.stat().st_size < 1 << 16
    refused(path, r"/node/weight: not allowed: more than \d+ bytes")


def test_too_many_objects_deep_nesting_odd_filters_and_types_are_refused(path):
    with h5py.File(path, "w") as f:
        for index in range(12):
            f[f"g{index}"] = 1.0
        f.create_group("/".join("abcdefgh"))
    refused(path, "more than 5 objects", objects=5)
    refused(path, "nested deeper than 4", depth=4)
    with h5py.File(path, "w") as f:
        f.create_dataset("z", data=np.zeros(100), compression="lzf")
    refused(path, "filters other than gzip and shuffle")
    with h5py.File(path, "w") as f:
        f["t"] = np.zeros(2, np.dtype([("a", "f8"), ("b", "i4")]))
    refused(path, "types other than numbers and strings")


def test_a_truncated_and_a_foreign_file_are_refused(path):
    with h5py.File(path, "w") as f:
        f["a"] = np.zeros(1000)
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    refused(path, "damaged or foreign file")
    path.write_text("hello")
    refused(path, "damaged or foreign file")
    path.unlink()
    refused(path, "no such file")


def test_an_hdf5_file_that_is_not_nir_is_refused_in_one_line(path):
    with h5py.File(path, "w") as f:
        f["a"] = np.zeros(3)
    with pytest.raises(LavatubeError, match=r"x\.nir: not NIR, expected a group /node"):
        read_float_graph(path)
