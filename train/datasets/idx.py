"""IDX, the file format of MNIST: two zero bytes, a type (8: uint8), a rank, big-endian sizes, then the bytes."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lavatube.errors import LavatubeError

BYTES_MAX = 1 << 30
UINT8 = 8


def read_idx(path: Path, *, rank: int) -> NDArray[np.uint8]:
    """A uint8 array from an IDX file, plain or gzip. raises: LavatubeError if it is anything else, cut or too large."""
    where = str(path)
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            header = file.read(4 + 4 * rank)
            if len(header) < 4 + 4 * rank or header[:3] != bytes([0, 0, UINT8]) or header[3] != rank:
                expected = f"an IDX header of uint8 and rank {rank}"
                raise LavatubeError("not an IDX file", where=where, expected=expected, got=header[:4].hex())
            shape = [int.from_bytes(header[4 * i + 4 : 4 * i + 8], "big") for i in range(rank)]
            size = math.prod(shape)
            if not 0 < size <= BYTES_MAX:
                raise LavatubeError("size of an IDX file", where=where, expected=f"1..{BYTES_MAX} bytes", got=str(size))
            content = file.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise LavatubeError("not readable", where=where, expected="an IDX file", got=str(error)) from error
    if len(content) != size:
        got = "more" if len(content) > size else f"{len(content)} bytes"
        raise LavatubeError("IDX content", where=where, expected=f"{size} bytes", got=got)
    return np.frombuffer(content, np.uint8).reshape(shape)
