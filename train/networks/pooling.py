"""Pooling of spikes before a synapse: linear, so it deploys as part of that synapse."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from lavatube.errors import LavatubeError
from lavatube.pooling import Pool


@dataclass(frozen=True)
class SpikePool(Pool):
    """Averages over square windows, or their sums; a stage of its own where several synapses see them."""

    sums: bool = False

    def __call__(self, events: torch.Tensor) -> torch.Tensor:
        """events: [N, C, H, W]."""
        means = nn.functional.avg_pool2d(events, self.kernel, self.stride)
        return means * self.kernel**2 if self.sums else means

    def checked(self, shape: tuple[int, ...], where: str, padding: int = 0) -> tuple[int, ...]:
        """Its [C, h, w] of events of `shape`. padding: of the convolution behind it.

        raises: LavatubeError if the windows do not fit, or it and that convolution are not one convolution.
        """
        what, got = "sum pooling" if self.sums else "average pooling", f"{self.kernel} every {self.stride} of {shape}"
        if not self.fits(shape):
            expected = "images (C, H, W) whose last window ends at the edge"
            raise LavatubeError(what, where=where, expected=expected, got=got)
        if self.overlaps and padding:
            raise LavatubeError(
                f"{what} by windows that overlap, then a convolution with padding", where=where, got=got,
                expected="one synapse that does the work of both", remedy="padding: 0, or a stride of the kernel",
            )  # fmt: skip
        return self.out_shape(shape)


def square(side: int) -> SpikePool | None:
    """Averages over windows that neither overlap nor leave out; None for a side of 1."""
    return SpikePool(side, side) if side > 1 else None
