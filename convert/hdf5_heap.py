"""Strings, before HDF5 reads them: on a damaged heap it turns for ever; for a length that says so it takes 4 GiB."""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from lavatube.errors import LavatubeError

START = re.compile(rb"GCOL\x01")  # signature and version; HDF5 itself refuses others
HEADER = 16  # signature 4, version 1, reserved 3, size 8; and of each object: index 2, references 2, reserved 4, size 8

POINTER = np.dtype([("length", "<u4"), ("heap", "<u8"), ("index", "<u4")])  # how a string is stored in a data set


def string_bytes(data: h5py.Dataset, path: Path, refuse: Callable[[str, object], Exception]) -> int:
    """Bytes of all strings of a data set together, from what is stored in place of each.

    Source: HDF5 file format specification 3.0, IV.B, variable-length strings.
    """
    count, offset = int(data.size), data.id.get_offset()
    if data.chunks is not None or (offset is None and count):
        raise refuse("strings in chunks, in the object header or not stored", f"{count} strings")
    with path.open("rb") as file:
        file.seek(offset or 0)
        raw = file.read(count * POINTER.itemsize)
    if len(raw) != count * POINTER.itemsize:
        raise refuse("strings outside the file", f"{count} strings at byte {offset}")
    return int(np.frombuffer(raw, POINTER)["length"].sum(dtype=np.uint64))


def check_heaps(path: Path) -> None:
    """Follow the objects of each global heap as HDF5 does (lengths of 8 bytes) and refuse where that does not end.

    HDF5 2.0 goes on by the size that each object states: with free space of size 0 it stays where it is, and a size
    near 2^64 leads it back. Source: HDF5 file format specification 3.0, III.E; H5HGcache.c.
    raises: LavatubeError.
    """
    if not path.stat().st_size:
        raise LavatubeError("damaged or foreign file", where=str(path), expected="HDF5", got="an empty file")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for found in START.finditer(data):
            start = found.start()
            if start + HEADER > len(data):
                continue
            end = start + struct.unpack_from("<Q", data, start + 8)[0]
            if end > len(data):  # HDF5 refuses it
                continue
            at = start + HEADER
            while at + HEADER <= end:
                index, size = struct.unpack_from("<H6xQ", data, at)
                step = HEADER + -(-size // 8) * 8 if index else size
                if step < HEADER or at + step > end:
                    where = f"{path}: byte {at}"
                    raise LavatubeError("damaged heap of strings", where=where, expected="HDF5", got=f"size {size}")
                at += step
