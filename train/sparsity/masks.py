"""Masks as parametrizations: forward exactly zero, gradient as if nothing was masked."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from lavatube.errors import LavatubeError, UnsupportedError


class MaskStraightThrough(torch.autograd.Function):
    """Zero where not live; the backward is dense, so that schedules see the gradient of what is masked."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, live: torch.Tensor) -> torch.Tensor:
        return value.masked_fill(~live, 0)  # not a product, which would leave -0 and NaN

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradients[0], None


class Mask(nn.Module):
    """live: bool, shape of the tensor that it masks."""

    live: torch.Tensor

    def __init__(self, live: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("live", live)

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        masked: torch.Tensor = MaskStraightThrough.apply(value, self.live)
        return masked


def add_mask(module: nn.Module, name: str, live: torch.Tensor) -> None:
    """Mask a parameter, behind whatever parametrizes it already."""
    parametrize.register_parametrization(module, name, Mask(live.clone()))


def live_of(module: nn.Module, name: str) -> torch.Tensor | None:
    """The mask of a parameter, bool, to be changed in place; None if it has none."""
    if not parametrize.is_parametrized(module, name):
        return None
    return next((each.live for each in module.parametrizations[name] if isinstance(each, Mask)), None)  # type: ignore[index]


def latent_of(module: nn.Module, name: str, method: str) -> nn.Parameter:
    """What the optimizer changes of a parameter. raises: UnsupportedError, naming `method`, if that is several tensors.

    Its shape is that of the parameter: one latent value per masked value.
    """
    value = getattr(module, name)
    if parametrize.is_parametrized(module, name):
        latent = getattr(module.parametrizations[name], "original", None)  # type: ignore[index]
        if latent is None or latent.shape != value.shape:
            what = f"{method} cannot mask a weight that is made of other tensors"
            raise UnsupportedError(what, where=type(module).__name__, expected="one latent value per weight")
        value = latent
    assert isinstance(value, nn.Parameter)
    return value


def dense_gradient(latent: nn.Parameter, name: str, method: str) -> torch.Tensor:
    """Of a masked parameter, masked values included. raises: LavatubeError if the training does not reach it."""
    if latent.grad is None:
        raise LavatubeError(
            f"{method} needs gradients, and none reaches this layer", where=f"{name} (recipe sparsity)",
            remedy="choose an objective and a gradient rule that train every layer",
        )  # fmt: skip
    return latent.grad


def fold_mask(module: nn.Module, name: str) -> None:
    """Replace a masked parameter by its values; no change if it has no mask."""
    if live_of(module, name) is not None:
        parametrize.remove_parametrizations(module, name, leave_parametrized=True)


@torch.no_grad()
def keep_live(latent: nn.Parameter, live: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
    """Clear gradient and optimizer state of what is not live: no momentum moves it, and later it starts afresh."""
    if latent.grad is not None:
        latent.grad.masked_fill_(~live, 0)
    for value in optimizer.state.get(latent, {}).values():
        if isinstance(value, torch.Tensor) and value.shape == live.shape:
            value.masked_fill_(~live, 0)
