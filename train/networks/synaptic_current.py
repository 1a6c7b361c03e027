"""A convolution as training needs it: on a CPU safe and in the faster layout; no work where its value is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

SMALL = 4  # side of maps up to which the plain layout is the faster one (oneDNN, AVX-512: 20 to 30 %)
BLOCK = 16  # channels that oneDNN copies at once (AVX-512; AVX2: 8)


def in_fast_layout(synapse: nn.Conv2d, events: torch.Tensor) -> torch.Tensor:
    """Events [N, C, H, W] for this convolution: on a CPU with channels last, but for small outputs. Same values."""
    if events.device.type != "cpu":
        return events
    side = (events.shape[-1] + 2 * int(synapse.padding[0]) - synapse.kernel_size[0]) // synapse.stride[0] + 1
    return events.contiguous(memory_format=torch.contiguous_format if side <= SMALL else torch.channels_last)


def convolve(
    events: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    value: torch.Tensor | None = None,
) -> torch.Tensor:
    """The convolution [N, O, H, W] of events [N, C, H, W] with weights [O, C, K, K].

    value: the result, where it is at hand: then the graph alone is added.

    Where a 1x1 window steps over maps of few channels, oneDNN (3.13 and older) writes beyond a buffer on the way to
    the weights' gradient: that crashes, hangs or trains on wrong gradients. So what the stride leaves is picked first.

    source: github.com/uxlfoundation/oneDNN/issues/6035.
    """
    steps = tuple(stride)
    one_by_one = tuple(weight.shape[2:]) == (1, 1) and not any(padding)
    if one_by_one and max(steps) > 1 and events.shape[1] < BLOCK and events.device.type == "cpu":
        events, steps = events[:, :, :: steps[0], :: steps[1]], (1, 1)
    if value is None:
        return F.conv2d(events, weight, bias, steps, tuple(padding))
    known: torch.Tensor = KnownConvolution.apply(events, weight, bias, value, steps, tuple(padding))
    return known


class KnownConvolution(torch.autograd.Function):
    """(events, weight, bias or None, value, stride, padding) -> value, with the derivatives of that convolution.

    The current of mean events is the mean of the currents: who has those need not convolve again.
    """

    @staticmethod
    def forward(
        ctx: Any,
        events: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        value: torch.Tensor,
        stride: Sequence[int],
        padding: Sequence[int],
    ) -> torch.Tensor:
        ctx.save_for_backward(events, weight)
        ctx.window, ctx.bias_sizes = (stride, padding), None if bias is None else list(bias.shape)
        return value

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        events, weight = ctx.saved_tensors
        found = torch.ops.aten.convolution_backward(
            gradients[0], events, weight, ctx.bias_sizes, *ctx.window, (1, 1), False, (0, 0), 1,
            ctx.needs_input_grad[:3],
        )  # fmt: skip
        return *found, None, None, None
