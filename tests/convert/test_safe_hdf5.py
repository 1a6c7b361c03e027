"""A stranger's file cannot reach out of itself or grow in memory; the error names the path and the rule."""

from __future__ import annotations

import struct
import zlib

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


def test_a_gzip_chunk_that_expands_beyond_its_size_is_refused_before_it_fills_the_memory(path):
    for size, fits in ((512, True), (513, False), (256 << 10, False)):
        with h5py.File(path, "w") as f:
            made = f.create_dataset("w", (64,), "f8", chunks=(64,), compression="gzip")
            made.id.write_direct_chunk((0,), zlib.compress(bytes(size)))
        if fits:
            check_hdf5(path)
        else:
            refused(path, "/w: not allowed: a chunk that is not as large as it says")


def test_what_is_declared_and_not_stored_and_huge_chunks_are_refused(path):
    with h5py.File(path, "w") as f:
        f.create_dataset("w", (1 << 20,), "f8", chunks=(1024,), fillvalue=1.0)
    refused(path, "/w: not allowed: data that is declared and not stored, got 8388608 bytes declared, 0 stored")
    with h5py.File(path, "w") as f:
        f.create_dataset("w", (1,), "f8", chunks=(1 << 20,), maxshape=(None,), compression="gzip")[:] = 1
    refused(path, "chunks of more than 1000000 bytes", tensor_bytes=1_000_000)
    with h5py.File(path, "w") as f:
        f.create_dataset("w", (100,), "f8", chunks=(1,))[:] = 1
    refused(path, "more than 50 chunks, got 100", chunks=50)


def test_small_types_count_as_what_they_become(path):
    with h5py.File(path, "w") as f:
        f["w"] = np.zeros(1000, np.int8)
    refused(path, r"more than 4000 bytes a tensor, got 8000 bytes", tensor_bytes=4000)


def test_an_object_linked_twice_is_refused(path):
    with h5py.File(path, "w") as f:
        f["a"] = np.zeros(3)
        f["b"] = f["a"]
    refused(path, "/b: not allowed: an object linked twice")
    with h5py.File(path, "w") as f:
        f["g/h"] = f.create_group("g2")
    refused(path, "an object linked twice")
    with h5py.File(path, "w") as f:
        f["me"] = f
    refused(path, "an object linked twice")


def test_committed_types_enumerations_references_and_ragged_arrays_are_refused(path):
    types = [h5py.enum_dtype({"A": 0}), h5py.ref_dtype, h5py.regionref_dtype, h5py.vlen_dtype("f8")]
    types += [np.dtype("c16"), np.dtype("V3"), np.dtype(("f8", (2,)))]
    for dtype in types:
        with h5py.File(path, "w") as f:
            f.create_dataset("t", (2,), dtype)
        refused(path, "/t: not allowed: types other than numbers and strings")
    with h5py.File(path, "w") as f:
        f["type"] = np.dtype("f8")
    refused(path, "objects other than groups and data sets")
    with h5py.File(path, "w") as f:
        f["type"] = np.dtype("f8")
        f.create_dataset("t", (2,), dtype=f["type"])
        del f["type"]
    refused(path, "/t: not allowed: types other than numbers")


def test_names_strings_and_attributes_are_bounded(path):
    for name in ("a\nb", "x" * 300, "\x7f"):
        with h5py.File(path, "w") as f:
            f[name] = 1.0
        refused(path, "names with control characters, or long")
    with h5py.File(path, "w") as f:
        f[b"\xff\xfe"] = 1.0
    refused(path, "names that are not UTF-8")
    with h5py.File(path, "w") as f:
        f["edges"] = np.array([b"a"] * 30, dtype=object)
    refused(path, "/edges: not allowed: more than 20 strings, got 30", strings=20)
    with h5py.File(path, "w") as f:
        for index in range(10):
            f.attrs[f"a{index}"] = 1
    refused(path, "/: not allowed: more than 5 attributes, got 10", attributes=5)


def test_a_heap_of_strings_on_which_hdf5_would_turn_for_ever_is_refused(path):
    with h5py.File(path, "w") as f:
        f["type"] = "LIF"
    check_hdf5(path)
    raw = path.read_bytes()
    heap = raw.index(b"GCOL") + 16
    for index, size in ((0, 0), (1, 2**64 - 1), (1, 1 << 20), (0, 8)):
        path.write_bytes(raw[:heap] + struct.pack("<HHIQ", index, 1, 0, size) + raw[heap + 16 :])
        refused(path, f"damaged heap of strings, expected HDF5, got size {size}")


def test_a_string_is_as_long_as_it_says_only_if_that_is_not_long(path):
    with h5py.File(path, "w") as f:
        f["type"] = "LIF"
        offset = f["type"].id.get_offset()
    refused(path, "/type: not allowed: more than 2 bytes of strings, got 3", string_bytes=2)
    raw = path.read_bytes()
    path.write_bytes(raw[:offset] + b"\xff\xff\xff\xff" + raw[offset + 4 :])  # HDF5 would take 4 GiB for it
    refused(path, r"/type: not allowed: more than 67108864 bytes of strings, got 4294967295")
    with h5py.File(path, "w") as f:
        f.create_dataset("type", data=np.array([b"a", b"b"], dtype=object), chunks=(1,))
    refused(path, "/type: not allowed: strings in chunks")


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
