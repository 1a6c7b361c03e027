"""A stranger's HDF5 file, checked before anything of it is read: bounded in memory and time, no way out of the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lavatube.convert.hdf5_chunks import check_storage
from lavatube.convert.hdf5_heap import check_heaps, string_bytes
from lavatube.errors import LavatubeError
from lavatube.files import require_file


@dataclass(frozen=True)
class Limits:
    """Caps that a .nir or .net file must keep. Numbers count as 8 bytes at least: they are computed with as float64."""

    objects: int = 20_000
    depth: int = 32
    rank: int = 8
    tensor_bytes: int = 1 << 30
    total_bytes: int = 2 << 30
    strings: int = 100_000
    string_bytes: int = 64 << 20
    name_length: int = 200
    chunks: int = 100_000
    attributes: int = 64


FAULTS = (OSError, RuntimeError, ValueError, KeyError, TypeError, IndexError, OverflowError, MemoryError)


@contextmanager
def opened_hdf5(path: Path, limits: Limits = Limits(), *, kind: str) -> Iterator[h5py.File]:
    """Open a file, check all of it as `check_hdf5` does, and give it to the block.

    raises: LavatubeError; also where HDF5 fails inside the block.
    """
    path = Path(path)
    require_file(path, kind=kind)
    try:
        check_heaps(path)
        with h5py.File(path, "r") as opened:
            if opened.id.get_create_plist().get_sizes() != (8, 8) or opened.userblock_size:
                rule = "not allowed: a user block, or addresses and lengths of other than 8 bytes"
                raise LavatubeError(rule, where=str(path))
            _Walk(path, limits).group(opened, 0)
            yield opened
    except LavatubeError:
        raise
    except FAULTS as error:
        raise LavatubeError("damaged or foreign file", where=str(path), expected="HDF5", got=str(error)) from error


def check_hdf5(path: Path, limits: Limits = Limits(), *, kind: str = "a .nir file (HDF5)") -> None:
    """Refuse soft and external links, external storage, virtual data sets, odd filters and types, and large tensors.

    kind:   what the file should be, for the error.
    raises: LavatubeError naming the HDF5 path and the rule.
    """
    with opened_hdf5(path, limits, kind=kind):
        pass


class _Walk:
    def __init__(self, path: Path, limits: Limits) -> None:
        self.path, self.limits, self.objects, self.bytes, self.strings = path, limits, 0, 0, 0
        self.text_bytes = 0
        self.seen: set[Any] = set()

    def refuse(self, where: str, rule: str, got: object) -> LavatubeError:
        return LavatubeError(f"not allowed: {rule}", where=f"{self.path}:{where}", got=str(got)[:200])

    def once(self, where: str, item: h5py.HLObject) -> None:
        """Hard links make a tree: what is linked twice multiplies, or never ends."""
        address = h5py.h5o.get_info(item.id).addr
        if address in self.seen:
            raise self.refuse(where, "an object linked twice", "a cycle or a second link")
        self.seen.add(address)
        if (count := h5py.h5a.get_num_attrs(item.id)) > self.limits.attributes:
            raise self.refuse(where, f"more than {self.limits.attributes} attributes", count)

    def group(self, group: h5py.Group, depth: int) -> None:
        if depth > self.limits.depth:
            raise self.refuse(group.name, f"groups nested deeper than {self.limits.depth}", depth)
        self.once(group.name, group)
        self.objects += len(group)
        if self.objects > self.limits.objects:
            raise self.refuse(group.name, f"more than {self.limits.objects} objects", self.objects)
        for name in group:
            if not isinstance(name, str):
                raise self.refuse(group.name, "names that are not UTF-8", ascii(name))
            where = f"{group.name.rstrip('/')}/{name}"
            if len(name) > self.limits.name_length or not name.isprintable():
                raise self.refuse(
                    ascii(where)[1:-1][:300], "names with control characters, or long", f"{len(name)} long"
                )
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise self.refuse(where, "links other than hard links", type(link).__name__)
            item = group[name]
            if isinstance(item, h5py.Group):
                self.group(item, depth + 1)
            elif isinstance(item, h5py.Dataset):
                self.once(where, item)
                self.dataset(where, item)
            else:
                raise self.refuse(where, "objects other than groups and data sets", type(item).__name__)

    def dataset(self, where: str, data: h5py.Dataset) -> None:
        properties, limits = data.id.get_create_plist(), self.limits
        if data.is_virtual or properties.get_external_count():
            raise self.refuse(where, "virtual or externally stored data", "data outside this file")
        text = h5py.check_string_dtype(data.dtype)
        odd_enum = h5py.check_enum_dtype(data.dtype) is not None
        if (data.dtype.kind not in "iufbS" and text is None) or odd_enum or data.id.get_type().committed():
            raise self.refuse(where, "types other than numbers and strings", data.dtype)
        if len(data.shape or ()) > limits.rank:
            raise self.refuse(where, f"rank above {limits.rank}", data.shape)
        count = int(np.prod(data.shape or (), dtype=object))
        self.strings += count if text is not None else 0
        if self.strings > limits.strings:
            raise self.refuse(where, f"more than {limits.strings} strings", self.strings)
        size = count * (data.dtype.itemsize if text is not None else max(8, data.dtype.itemsize))
        self.bytes += size
        if size > limits.tensor_bytes or self.bytes > limits.total_bytes:
            raise self.refuse(where, f"more than {limits.tensor_bytes} bytes a tensor", f"{size} bytes")
        if text is not None and text.length is None and data.shape is not None:
            self.text_bytes += string_bytes(data, self.path, lambda rule, got: self.refuse(where, rule, got))
            if self.text_bytes > limits.string_bytes:
                raise self.refuse(where, f"more than {limits.string_bytes} bytes of strings", self.text_bytes)
        check_storage(
            data, properties, limits.tensor_bytes, limits.chunks, lambda rule, got: self.refuse(where, rule, got)
        )
