"""A stranger's HDF5 file, checked before anything of it is read: bounded in memory, no way out of the file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lavatube.errors import LavatubeError
from lavatube.files import require_file


@dataclass(frozen=True)
class Limits:
    """Caps that a .nir or .net file must keep."""

    objects: int = 20_000
    depth: int = 16
    rank: int = 8
    tensor_bytes: int = 1 << 30
    total_bytes: int = 2 << 30


FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE}


def check_hdf5(path: Path, limits: Limits = Limits(), *, kind: str = "a .nir file (HDF5)") -> None:
    """Refuse soft and external links, external storage, virtual data sets, odd filters and types, and large tensors.

    kind:   what the file should be, for the error.
    raises: LavatubeError naming the HDF5 path and the rule.
    """
    require_file(path, kind=kind)
    try:
        with h5py.File(path, "r") as opened:
            _Walk(str(path), limits).group(opened, 0)
    except LavatubeError:
        raise
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise LavatubeError("damaged or foreign file", where=str(path), expected="HDF5", got=str(error)) from error


class _Walk:
    def __init__(self, path: str, limits: Limits) -> None:
        self.path, self.limits, self.objects, self.bytes = path, limits, 0, 0
        self.seen: set[Any] = set()

    def refuse(self, where: str, rule: str, got: object) -> LavatubeError:
        return LavatubeError(f"not allowed: {rule}", where=f"{self.path}:{where}", got=str(got))

    def group(self, group: h5py.Group, depth: int) -> None:
        if depth > self.limits.depth:
            raise self.refuse(group.name, f"groups nested deeper than {self.limits.depth}", depth)
        address = h5py.h5o.get_info(group.id).addr
        if address in self.seen:
            raise self.refuse(group.name, "a group linked twice", "a cycle or a second link")
        self.seen.add(address)
        for name in group:
            where = f"{group.name.rstrip('/')}/{name}"
            self.objects += 1
            if self.objects > self.limits.objects:
                raise self.refuse(where, f"more than {self.limits.objects} objects", self.objects)
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise self.refuse(where, "links other than hard links", type(link).__name__)
            item = group[name]
            if isinstance(item, h5py.Group):
                self.group(item, depth + 1)
            elif isinstance(item, h5py.Dataset):
                self.dataset(where, item)
            else:
                raise self.refuse(where, "objects other than groups and data sets", type(item).__name__)

    def dataset(self, where: str, data: h5py.Dataset) -> None:
        properties = data.id.get_create_plist()
        if data.is_virtual or properties.get_external_count():
            raise self.refuse(where, "virtual or externally stored data", "data outside this file")
        for index in range(properties.get_nfilters()):
            code = properties.get_filter(index)[0]
            if code not in FILTERS:
                raise self.refuse(where, "filters other than gzip and shuffle", f"filter {code}")
        if data.dtype.kind not in "iufbS" and h5py.check_string_dtype(data.dtype) is None:
            raise self.refuse(where, "types other than numbers and strings", data.dtype)
        if len(data.shape or ()) > self.limits.rank:
            raise self.refuse(where, f"rank above {self.limits.rank}", data.shape)
        size = int(np.prod(data.shape or (), dtype=object)) * data.dtype.itemsize
        self.bytes += size
        if size > self.limits.tensor_bytes or self.bytes > self.limits.total_bytes:
            raise self.refuse(where, f"more than {self.limits.tensor_bytes} bytes a tensor", f"{size} bytes")
