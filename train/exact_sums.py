"""Integer synaptic sums by floating-point GEMM, exact because every partial sum fits the mantissa."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F

from lavatube.errors import LavatubeError
from lavatube.pooling import Pool

FLOAT32_EXACT = 1 << 24
FLOAT64_EXACT = 1 << 53


@contextmanager
def exact_kernels() -> Iterator[None]:
    """No autocast, no TF32 and no cuDNN (whose Winograd and FFT convolutions are not exact) inside the block."""
    with (
        torch.autocast("cuda", enabled=False),
        torch.autocast("cpu", enabled=False),
        torch.backends.cudnn.flags(enabled=False, allow_tf32=False),
    ):
        tf32 = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = False
        try:
            yield
        finally:
            torch.backends.cuda.matmul.allow_tf32 = tf32


def exact_conv2d(
    events: torch.Tensor,
    weight: torch.Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    max_event: int,
    *,
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> torch.Tensor:
    """Cross-correlation of integer events [N, I, H, W] with integer weights [O, I / groups, h, w].

    max_event: largest |event|. Returns [N, O, ...], int32 if float32 is wide enough for the sums, else int64.
    """
    dtype = exact_dtype(weight, max_event)
    with exact_kernels():
        return _as_integers(_conv2d(events, weight, dtype, stride, padding, dilation, groups))


def _as_integers(total: torch.Tensor) -> torch.Tensor:
    return total.to(torch.int32 if total.dtype == torch.float32 else torch.int64)


def _conv2d(events: torch.Tensor, weight: torch.Tensor, dtype: torch.dtype, *window: Any) -> torch.Tensor:
    """In floats. window: stride, padding, dilation, groups."""
    values = events.to(dtype)
    if values.shape[1] == 1:  # strides that may be of channels last make oneDNN sum something else (torch 2.15)
        values = values.clone(memory_format=torch.contiguous_format)
    return F.conv2d(values, weight.to(dtype), None, *window)


def exact_linear(events: torch.Tensor, weight: torch.Tensor, max_event: int) -> torch.Tensor:
    """Integer events [N, I] times integer weights [O, I]; returns [N, O], of the dtypes of `exact_conv2d`."""
    dtype = exact_dtype(weight, max_event)
    with exact_kernels():
        return _as_integers(F.linear(events.to(dtype), weight.to(dtype)))


def exact_sums(events: torch.Tensor, pool: Pool) -> torch.Tensor:
    """Sums of integer events [N, C, H, W] over windows, int64 [N, C, h, w]."""
    windows = events.unfold(-2, pool.kernel, pool.stride).unfold(-2, pool.kernel, pool.stride)
    return windows.sum((-2, -1), dtype=torch.int64)


def exact_dtype(weight: torch.Tensor, max_event: int) -> torch.dtype:
    """Narrowest float in which sum |W| * max_event, and so every partial sum, is exact on this device.

    raises: LavatubeError if not even float64 is wide enough.
    """
    bound = int(weight.detach().to(torch.int64).abs().flatten(1).sum(1).max()) * max_event
    if bound < FLOAT32_EXACT and float32_is_exact(weight.device.type):
        return torch.float32
    if bound < FLOAT64_EXACT:
        return torch.float64
    raise LavatubeError("synaptic sum does not fit float64 exactly", expected="below 2^53", got=str(bound))


@lru_cache(maxsize=8)
def float32_is_exact(device: str) -> bool:
    """Self-check of this device's float32 kernels against float64, on odd and even sums up to just below 2^24.

    Convolutions of many channels, and of one, whose strides are those of channels last.
    """
    generator = torch.Generator().manual_seed(24)
    events = torch.randint(240, 256, (4, 57, 9, 9), generator=generator).to(device)
    weight = torch.randint(110, 128, (8, 57, 3, 3), generator=generator).to(device)  # 57 x 9 products: below 2^24
    flat, rows = events.flatten(1)[:, :513], torch.randint(110, 128, (32, 513), generator=generator).to(device)
    one = events[:, :1, :4, :4].permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    both = (torch.float32, torch.float64)
    with exact_kernels():
        conv = [_conv2d(events, weight, d, 1, 1).double() for d in both]
        of_one = [_conv2d(one, weight[:, :1], d, (1, 2), (1, 0)).double() for d in both]
        dense = [F.linear(flat.to(d), rows.to(d)).double() for d in both]
    return bool(torch.equal(*conv) and torch.equal(*of_one) and torch.equal(*dense))
