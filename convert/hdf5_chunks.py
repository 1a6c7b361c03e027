"""How a data set is stored: filters, chunks, and that what is stored gives what is declared, no more and no less."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np

Refuse = Callable[[str, object], Exception]
PIPELINES: tuple[list[int], ...] = (
    [],
    [h5py.h5z.FILTER_DEFLATE],
    [h5py.h5z.FILTER_SHUFFLE],
    [h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE],
)
DEFLATE_RATIO = 1032  # the most that deflate gains
SPARE = 1 << 16  # bytes that may be declared without being stored
SLACK = 1 << 10  # bytes by which a chunk that does not compress may grow, besides a hundredth


def check_storage(data: h5py.Dataset, properties: Any, max_bytes: int, max_chunks: int, refuse: Refuse) -> None:
    """Refuse other filters than gzip after shuffle, and gzip chunks that expand beyond their declared size.

    HDF5 itself inflates a chunk to its end, whatever the size of the chunk: a small chunk fills the memory.
    """
    filters = [properties.get_filter(index)[0] for index in range(properties.get_nfilters())]
    if filters not in PIPELINES:
        raise refuse("filters other than gzip and shuffle", f"filters {filters}")
    declared = int(np.prod(data.shape or (), dtype=object)) * data.dtype.itemsize
    stored = data.id.get_storage_size()
    if declared > stored * DEFLATE_RATIO + SPARE:
        raise refuse("data that is declared and not stored", f"{declared} bytes declared, {stored} stored")
    if data.chunks is None:
        return
    size = int(np.prod(data.chunks, dtype=object)) * data.dtype.itemsize
    if size > max_bytes:
        raise refuse(f"chunks of more than {max_bytes} bytes", f"{size} bytes")
    if (count := data.id.get_num_chunks()) > max_chunks:
        raise refuse(f"more than {max_chunks} chunks", count)
    chunks: list[Any] = []
    data.id.chunk_iter(chunks.append)
    for chunk in chunks:
        if chunk.size > size + size // 100 + SLACK:
            raise refuse("a chunk stored larger than it is", f"{chunk.size} bytes for {size}")
        mask, raw = data.id.read_direct_chunk(chunk.chunk_offset)
        inflated = h5py.h5z.FILTER_DEFLATE in filters and not mask >> filters.index(h5py.h5z.FILTER_DEFLATE) & 1
        if (inflated and not _inflates_to(raw, size)) or (not inflated and len(raw) != size):
            raise refuse("a chunk that is not as large as it says", f"a chunk of {size} bytes at {chunk.chunk_offset}")


def _inflates_to(raw: bytes, size: int) -> bool:
    stream = zlib.decompressobj()
    try:
        return len(stream.decompress(raw, size + 1)) == size and stream.eof
    except zlib.error:
        return False
