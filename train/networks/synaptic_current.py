"""A convolution on a CPU as training needs it: in the faster memory layout, and once more where its value is known."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

SMALL = 4  # side of maps up to which the plain layout is the faster one (oneDNN, AVX-512: 20 to 30 %)


def in_fast_layout(synapse: nn.Conv2d, events: torch.Tensor) -> torch.Tensor:
    """Events [N, C, H, W] for this convolution: on a CPU with channels last, but for small outputs. Same values."""
    if events.device.type != "cpu":
        return events
    side = (events.shape[-1] + 2 * int(synapse.padding[0]) - synapse.kernel_size[0]) // synapse.stride[0] + 1
    return events.contiguous(memory_format=torch.contiguous_format if side <= SMALL else torch.channels_last)


class KnownConvolution(torch.autograd.Function):
    """(events, weight, bias or None, value, synapse) -> value, with the derivatives of the convolution that gives it.

    The current of mean events is the mean of the currents: who has those need not convolve again.
    """

    @staticmethod
    def forward(
        ctx: Any,
        events: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        value: torch.Tensor,
        synapse: nn.Conv2d,
    ) -> torch.Tensor:
        ctx.save_for_backward(events, weight)
        ctx.synapse, ctx.bias_sizes = synapse, None if bias is None else list(bias.shape)
        return value

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        events, weight = ctx.saved_tensors
        of: nn.Conv2d = ctx.synapse
        found = torch.ops.aten.convolution_backward(
            gradients[0], events, weight, ctx.bias_sizes, of.stride, of.padding, of.dilation, False, [0, 0], of.groups,
            ctx.needs_input_grad[:3],
        )  # fmt: skip
        return *found, None, None
