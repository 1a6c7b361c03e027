"""Surrogates: derivatives that stand in for that of the step function H(x), x = voltage minus threshold."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field

from lavatube.train.plugin import Plugin
from lavatube.train.recipe_model import Number

Above0 = Annotated[Number, Field(gt=0)]


class Surrogate(Plugin):
    """A family of derivatives, symmetric and largest at 0."""

    @property
    def integral(self) -> float:
        """Of the derivative over all distances."""
        return 1.0

    def derivative(self, distance: torch.Tensor) -> torch.Tensor:
        """The stand-in for dH/dx. distance: voltage minus threshold, any shape, in units of the current."""
        raise NotImplementedError


class Sigmoid(Surrogate):
    """slope S(slope x) (1 - S(slope x)), S the logistic function; slope / 4 at x = 0."""

    kind: Literal["sigmoid"] = "sigmoid"
    source: ClassVar[str] = "Shrestha, Orchard 2018 (SLAYER) use this family; slope 4: arXiv 2410.11488's code"
    slope: Above0 = 4.0

    def derivative(self, distance: torch.Tensor) -> torch.Tensor:
        s = (self.slope * distance).sigmoid_()
        return torch.addcmul(s, s, s, value=-1).mul_(self.slope)


class Rectangular(Surrogate):
    """1 / width where |x| < width / 2, else 0."""

    kind: Literal["rectangular"] = "rectangular"
    source: ClassVar[str] = "Wu, Deng, Li, Zhu, Shi 2018 (STBP), curve h1"
    width: Above0 = 1.0

    def derivative(self, distance: torch.Tensor) -> torch.Tensor:
        return distance.abs().lt_(self.width / 2).div_(self.width)


class Atan(Surrogate):
    """(slope / 2) / (1 + (pi slope x / 2)^2)."""

    kind: Literal["atan"] = "atan"
    source: ClassVar[str] = "Fang, Yu, Chen, Masquelier, Huang, Tian 2021 (PLIF)"
    slope: Above0 = 2.0

    def derivative(self, distance: torch.Tensor) -> torch.Tensor:
        return (self.slope / 2) / (1 + (math.pi / 2 * self.slope * distance) ** 2)


class Triangular(Surrogate):
    """max(0, 1 - |x| / width) / width."""

    kind: Literal["triangular"] = "triangular"
    source: ClassVar[str] = "Esser et al. 2016 (TrueNorth); Bellec, Salaj, Subramoney, Legenstein, Maass 2018 (LSNN)"
    width: Above0 = 1.0

    def derivative(self, distance: torch.Tensor) -> torch.Tensor:
        return torch.relu(1 - distance.abs() / self.width) / self.width


class SuperSpike(Surrogate):
    """1 / (1 + slope |x|)^2: the square of a fast sigmoid's slope; its integral is 2 / slope, its peak 1."""

    kind: Literal["super_spike"] = "super_spike"
    source: ClassVar[str] = "Zenke, Ganguli 2018 (SuperSpike), eq. for sigma'"
    slope: Above0 = 10.0

    @property
    def integral(self) -> float:
        return 2 / self.slope

    def derivative(self, distance: torch.Tensor) -> torch.Tensor:
        return 1 / (1 + self.slope * distance.abs()) ** 2


class Spike(torch.autograd.Function):
    """1 where distance > 0 (strictly), else 0; backward multiplies by the surrogate's derivative."""

    @staticmethod
    def forward(ctx: Any, distance: torch.Tensor, surrogate: Surrogate) -> torch.Tensor:
        ctx.save_for_backward(distance)
        ctx.surrogate = surrogate
        return (distance > 0).to(distance.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        (distance,) = ctx.saved_tensors
        return gradients[0] * ctx.surrogate.derivative(distance), None
