"""Dense synapses in torch: every weight meets every input, in int8 products or in floats that are wide enough.

Events and sums are in the order of `order.py`: [rows, in] and [rows, out].
"""

from __future__ import annotations

from functools import lru_cache

import torch

from lavatube.program import Conv2dNode, SparseNode
from lavatube.train.exact_sums import exact_conv2d


@lru_cache(maxsize=1)
def int8_gemm_is_exact() -> bool:
    """Self-check of `torch._int_mm` on this CPU with the largest products: some older ones saturate in 16 bits."""
    try:
        left = torch.full((33, 66), -128, dtype=torch.int8)
        left[::2, ::3] = 127
        right = torch.full((66, 17), -128, dtype=torch.int8)
        right[:, ::2] = 127
        return bool(torch.equal(torch._int_mm(left, right).long(), left.long() @ right.long()))
    except (RuntimeError, AttributeError):
        return False


def int8_sums(events: torch.Tensor, weight: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """[rows, in] of 8-bit events (int8 or uint8) times int8 weights [in, out]: [rows, out] int32, in `out` if given."""
    if out is None:
        out = torch.empty(len(events), weight.shape[1], dtype=torch.int32)
    if events.dtype == torch.int8:
        return torch._int_mm(events.contiguous(), weight, out=out)
    centred = (events ^ 128).view(torch.int8)  # s - 128
    return torch._int_mm(centred, weight, out=out).add_(128 * weight.sum(0, dtype=torch.int32))


def windows(events: torch.Tensor, conv: Conv2dNode) -> torch.Tensor:
    """What each output place sees: [rows, H * W * C] into [rows * H' * W', kernel height * kernel width * C]."""
    channels, height, width = conv.in_shape
    (up, side), (step_y, step_x), (far_y, far_x) = conv.padding, conv.stride, conv.dilation
    rows = len(events)
    image = events.view(rows, height, width, channels)
    if up or side:
        image = torch.nn.functional.pad(image, (0, 0, side, side, up, up))
    _, out_height, out_width = conv.out_shape
    kernel_y, kernel_x = conv.weight.shape[2:]
    row, y, x, c = image.stride()
    seen = image.as_strided(
        (rows, out_height, out_width, kernel_y, kernel_x, channels),
        (row, y * step_y, x * step_x, y * far_y, x * far_x, c),
    )
    return seen.reshape(rows * out_height * out_width, -1)


def float_sums(synapse: Conv2dNode, events: torch.Tensor, weight: torch.Tensor, largest: int) -> torch.Tensor:
    """A convolution in floats. weight: as in the node; returns [rows, H' * W' * out], int32 or int64."""
    channels, height, width = synapse.in_shape
    image = events.view(len(events), height, width, channels).permute(0, 3, 1, 2)
    window = synapse.stride, synapse.padding
    total = exact_conv2d(image, weight, *window, largest, dilation=synapse.dilation, groups=synapse.groups)
    return total.permute(0, 2, 3, 1).reshape(len(events), -1)


def gathered_sums(synapse: SparseNode, events: torch.Tensor, place: torch.Tensor, to: torch.Tensor) -> torch.Tensor:
    """Stored connections by one gather and one scatter of integers: [rows, out] int64.

    events: [rows, in]; place, to: [connections] int64, where each connection comes from and where it leads.
    """
    weight = torch.tensor(synapse.weight, dtype=torch.int64, device=events.device)
    size = len(synapse.indptr) - 1
    terms = events.to(torch.int64)[:, place] * weight
    return terms.new_zeros(len(events), size).index_add_(1, to, terms)
