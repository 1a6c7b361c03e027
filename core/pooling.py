"""Sums over square windows of events, and the one synapse that does the work of them and of the synapse after them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lavatube.node_checks import Shape


@dataclass(frozen=True)
class Pool:
    """Square windows without padding, one every `stride` places, up to the edges of the image."""

    kernel: int
    stride: int

    def out_shape(self, shape: Shape) -> Shape:
        """[C, h, w] of the sums over events [C, H, W]."""
        height, width = ((size - self.kernel) // self.stride + 1 for size in shape[1:])
        return (shape[0], height, width)

    @property
    def overlaps(self) -> bool:
        return self.kernel > self.stride

    def fits(self, shape: Shape) -> bool:
        """Whether events of `shape` are images [C, H, W] whose last window ends at the edge."""
        return len(shape) == 3 and all(n >= self.kernel and (n - self.kernel) % self.stride == 0 for n in shape[1:])

    def fused_kernel(self, weight: np.ndarray) -> np.ndarray:
        """Kernels [O, I, h, w] on sums as kernels on events, to be used with `stride` times the stride and padding.

        Exact: each weight is repeated over its window, and added up where windows overlap. Not for overlapping windows
        and padding: the zeros around the sums are then no sums of zeros.
        """
        height, width = ((size - 1) * self.stride + self.kernel for size in weight.shape[2:])
        return self._spread(weight, (height, width))

    def fused_columns(self, weight: np.ndarray, shape: Shape) -> np.ndarray:
        """[O, C h w] on flattened sums as [O, C H W] on flattened events of `shape` [C, H, W]. Exact, likewise."""
        maps = weight.reshape(len(weight), *self.out_shape(shape))
        return self._spread(maps, (shape[1], shape[2])).reshape(len(weight), -1)

    def _spread(self, weight: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        height, width = weight.shape[2:]
        result = np.zeros((*weight.shape[:2], *size), weight.dtype)
        for y in range(self.kernel):
            for x in range(self.kernel):
                rows = slice(y, y + (height - 1) * self.stride + 1, self.stride)
                result[:, :, rows, x : x + (width - 1) * self.stride + 1 : self.stride] += weight
        return result
