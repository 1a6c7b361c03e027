"""Regions: the part of a population that one core holds, as a box of its grid."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from lavatube.node_checks import Shape


@dataclass(frozen=True)
class Region:
    """grid: (neurons,), or (C, H, W) of an image; spans: (start, stop) along each axis of it."""

    grid: Shape
    spans: tuple[tuple[int, int], ...]

    @property
    def shape(self) -> Shape:
        return tuple(stop - start for start, stop in self.spans)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    def flat(self) -> np.ndarray:
        """Flat indexes of its neurons in the population, C order, rising. int64."""
        index = np.zeros(1, np.int64)
        for (start, stop), size in zip(self.spans, self.grid, strict=True):
            index = (index[:, None] * size + np.arange(start, stop)).reshape(-1)
        return index


def tiles(grid: Shape, tile: Shape) -> list[Region]:
    """The grid cut into regions of a size, smaller ones at its ends; in C order."""
    axes = [
        [(start, min(start + step, size)) for start in range(0, size, step)]
        for size, step in zip(grid, tile, strict=True)
    ]
    return [Region(grid, spans) for spans in product(*axes)]


def count_tiles(grid: Shape, tile: Shape) -> int:
    """Regions that `tiles` makes."""
    return int(np.prod([-(-size // step) for size, step in zip(grid, tile, strict=True)]))


def image_tiles(grid: Shape) -> list[Shape]:
    """Sizes of tiles to try, in order: whole channels before cut ones, the fewest regions, then the shortest outline.

    Widths are powers of two, even if wider than the image, channels and rows are halved and halved again. Inferred: it
    is so in every published table of the released compiler (docs/mapping.md).
    """
    channels, height, width = grid
    widths = [1 << n for n in range((width - 1).bit_length() + 1)]
    shapes = {(each, rows, columns) for each in _halves(channels) for rows in _halves(height) for columns in widths}
    return sorted(shapes, key=lambda tile: (-tile[0], count_tiles(grid, tile), tile[1] + tile[2], tile))


def _halves(size: int) -> list[int]:
    return [-(-size // (1 << n)) for n in range((size - 1).bit_length() + 1)]
