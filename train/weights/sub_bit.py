"""Sub-bit weights: binary kernels out of a small codebook per layer, stored as indices."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn
from torch.nn.utils import parametrize

from lavatube.train.networks.spiking_layer import SpikingLayer
from lavatube.train.plugin import Step
from lavatube.train.recipe_model import Number, Positive
from lavatube.train.weights.binary import Binary, Magnitude

if TYPE_CHECKING:
    from lavatube.train.networks.network import SpikingNetwork

FENCE = 1.5  # Tukey's: outliers lie further than this many interquartile ranges from the quartiles


class CodewordStraightThrough(torch.autograd.Function):
    """Latent kernels [O, I, k, k] to their codewords; the gradient passes where |w| <= 1."""

    @staticmethod
    def forward(ctx: Any, latent: torch.Tensor, codebook: torch.Tensor, outliers: bool) -> torch.Tensor:
        ctx.save_for_backward(latent)
        kernels = scale_outliers(latent) if outliers else latent
        nearest = (kernels.flatten(2) @ codebook.T).argmax(-1)  # all codewords have one norm: nearest = most alike
        return codebook[nearest].reshape(latent.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (latent,) = ctx.saved_tensors
        return gradients[0] * (latent.abs() <= 1), None, None


def scale_outliers(latent: torch.Tensor) -> torch.Tensor:
    """Kernels [O, I, k, k] in units of their interquartile range, outliers divided by Omega (at least 1).

    Omega of a weight: the mean absolute difference to its neighbours above, below, left and right.
    """
    flat = latent.flatten(2)
    low, high = torch.quantile(flat, torch.tensor([0.25, 0.75], dtype=flat.dtype, device=flat.device), dim=2)
    spread = high - low
    outlier = (flat < (low - FENCE * spread).unsqueeze(2)) | (flat > (high + FENCE * spread).unsqueeze(2))
    unit = torch.where(spread > 0, spread, flat.abs().mean(2)).clamp(min=torch.finfo(flat.dtype).tiny)
    scaled = latent / unit[..., None, None]
    down, right = scaled.diff(dim=2).abs(), scaled.diff(dim=3).abs()
    pad = nn.functional.pad
    total = pad(down, (0, 0, 1, 0)) + pad(down, (0, 0, 0, 1)) + pad(right, (1, 0)) + pad(right, (0, 1))
    ones = torch.ones_like(scaled[0, 0])
    rows, columns = torch.ones_like(ones.diff(dim=0)), torch.ones_like(ones.diff(dim=1))
    count = pad(rows, (0, 0, 1, 0)) + pad(rows, (0, 0, 0, 1)) + pad(columns, (1, 0)) + pad(columns, (0, 1))
    omega = (total / count).clamp(min=1)
    return torch.where(outlier.reshape(latent.shape), scaled / omega, scaled)


def most_frequent(latent: torch.Tensor, size: int) -> torch.Tensor:
    """The `size` most frequent sign patterns of kernels [O, I, k, k], as [size, k k] of 1 and -1.

    Of patterns as frequent as each other, those with more weight; then, as fill, the lowest patterns that none has.
    """
    flat = latent.detach().flatten(2).flatten(0, 1).double()
    places = torch.arange(flat.shape[1], device=flat.device)
    pattern = ((flat >= 0).long() << places).sum(1)
    score = torch.zeros(1 << flat.shape[1], dtype=torch.float64, device=flat.device)
    mass = flat.abs().sum(1)
    score.index_add_(0, pattern, 1 + mass / (2 * mass.sum() + 1))
    chosen = score.argsort(descending=True, stable=True)[:size]
    return (((chosen[:, None] >> places) & 1) * 2 - 1).to(latent.dtype)


class SubBitLatent(nn.Module):
    """alpha x the codewords of latent kernels."""

    codebook: torch.Tensor

    def __init__(self, weight: torch.Tensor, magnitude: Magnitude, index_bits: int, *, outliers: bool) -> None:
        super().__init__()
        self.magnitude, self.outliers = magnitude, outliers
        self.register_buffer("codebook", most_frequent(weight, 1 << index_bits))

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        weight: torch.Tensor = self.magnitude(latent) * CodewordStraightThrough.apply(
            latent, self.codebook, self.outliers
        )
        return weight

    def choose(self, latent: torch.Tensor) -> None:
        """A codebook of as many codewords for latent kernels as they are now."""
        self.codebook.copy_(most_frequent(latent, len(self.codebook)))


class SubBit(Binary):
    """w_b = alpha c, c the codeword of C that is nearest to the kernel; C: 2^index_bits of a layer's sign patterns.

    The paper's: a codebook of binary kernels per layer; OS-Quant: before the nearest codeword is looked for, outliers
    by Tukey's fences are divided by Omega, the mean absolute difference to their neighbours; straight-through.
    Our reconstruction: C are the most frequent sign patterns of the latent kernels, chosen anew every `refresh_every`
    steps in the first `refresh_until` of the training; kernels are put in units of their interquartile range and Omega
    is at least 1, without which small outliers would grow. Measured on random kernels with one weight of 50 standard
    deviations: OS-Quant finds the codeword of the kernel without it more often than plain distance with 16 codewords of
    3 x 3 (1497 against 639 of 18,000, where only one of the two does), less often with 128.
    Its membrane distillation is a term of the objective of its own, mpfd.

    Convolutions with kernels of 2 x 2 to 4 x 4 get a codebook if it has fewer codewords than there are patterns; other
    layers become plain binary ones. Stored are index_bits per kernel and a codebook per layer; the chip itself gets
    expanded integers (see the report's bits per weight).

    index_bits: of an index. quantizer: "os", or "l2" without the treatment of outliers.
    """

    kind: Literal["sub_bit"] = "sub_bit"  # type: ignore[assignment]
    source: ClassVar[str] = "S2NN: Sub-bit Spiking Neural Networks, NeurIPS 2025"
    index_bits: Annotated[int, Field(ge=1, le=12)] = 5
    quantizer: Literal["os", "l2"] = "os"
    refresh_every: Positive = 10
    refresh_until: Annotated[Number, Field(ge=0, le=1)] = 0.8

    def parametrization(self, layer: SpikingLayer) -> nn.Module:
        weight = layer.synapse.weight
        area = math.prod(weight.shape[2:])
        if not 4 <= area <= 16 or self.index_bits >= area:
            return super().parametrization(layer)
        magnitude = Magnitude(weight, self.per, self.scale)
        return SubBitLatent(weight, magnitude, self.index_bits, outliers=self.quantizer == "os")

    @torch.no_grad()
    def before_update(self, network: SpikingNetwork, step: Step) -> None:
        if step.number >= self.refresh_until * step.total or step.number % self.refresh_every:
            return
        for module in network.modules():
            if isinstance(module, parametrize.ParametrizationList) and isinstance(module[0], SubBitLatent):
                module[0].choose(module.original)
