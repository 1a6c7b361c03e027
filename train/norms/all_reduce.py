"""Moments of a batch that may be spread over several processes. torch's SyncBatchNorm does not run on CPUs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as differentiable

from lavatube.errors import LavatubeError


def processes() -> int:
    """How many processes share the batch."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def mean_over_processes(value: torch.Tensor) -> torch.Tensor:
    """Differentiable mean over processes; the value itself in a single one."""
    if processes() == 1:
        return value
    total: torch.Tensor = differentiable.all_reduce(value.contiguous())  # type: ignore[no-untyped-call]
    return total / processes()


def mean_and_variance(x: torch.Tensor, axes: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and biased variance over axes and, with equal shares of the batch, over processes. Differentiable."""
    var, mean = torch.var_mean(x, list(axes), correction=0)
    if processes() == 1:
        return mean, var
    overall = mean_over_processes(mean)
    return overall, mean_over_processes(var + (mean - overall) ** 2)


def refuse_single(x: torch.Tensor, where: str, remedy: str) -> None:
    """raises: LavatubeError if x [B, C, ...] has one value a channel over all processes: no variance to divide by."""
    if x.numel() * processes() == x.shape[1]:
        raise LavatubeError(
            "one value per channel has no variance to normalise by", where=where, remedy=remedy,
            expected="a batch of at least 2 samples", got="1",
        )  # fmt: skip
