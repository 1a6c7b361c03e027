"""The heaps in which HDF5 keeps strings, checked before HDF5 walks them: on a damaged one it turns for ever."""

from __future__ import annotations

import mmap
import re
import struct
from pathlib import Path

from lavatube.errors import LavatubeError

START = re.compile(rb"GCOL\x01")  # signature and version; HDF5 itself refuses others
HEADER = 16  # signature 4, version 1, reserved 3, size 8; and of each object: index 2, references 2, reserved 4, size 8


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
