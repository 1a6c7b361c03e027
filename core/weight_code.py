"""How many bits a synapse's weights need: read off the integers themselves, whatever method trained them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Code = Literal["free", "ternary", "binary", "codebook"]
PATTERN_MAX = 62  # places of a kernel that fit one integer


@dataclass(frozen=True)
class WeightCode:
    """The shortest of four ways to write weights down without loss. bits: in all; per_weight: of `weights` weights.

    "free":     each weight for itself.
    "binary":   a sign per weight and a magnitude per output channel, or per layer, whichever is shorter.
    "ternary":  the same with 2 bits per weight, as some weights are zero.
    "codebook": the sign patterns that kernels have, one index per kernel, a magnitude with its sign per channel.
    """

    code: Code
    bits: int
    weights: int

    @property
    def per_weight(self) -> float:
        return self.bits / self.weights

    def __str__(self) -> str:
        """Words behind "weights of N bits": nothing where N says it all."""
        return "" if self.code == "free" else f" ({self.code}: {self.per_weight:.2f} bits each)"


def weight_code(integers: np.ndarray, bits: int) -> WeightCode:
    """Of weights [O, ...] of `bits` bits with their sign. Chips store what their synapse format has, often more."""
    size = integers.size
    codes = [WeightCode("free", size * bits, size)]
    flat = np.abs(integers.astype(np.int64).reshape(len(integers), -1))
    magnitude = flat.max(1)
    if flat.shape[1] > 1 and ((flat == 0) | (flat == magnitude[:, None])).all():
        magnitudes = 1 if (magnitude == magnitude[0]).all() else len(magnitude)
        is_binary = bool((flat[magnitude > 0] > 0).all())  # a channel that rounding made zero has a magnitude of 0
        signs = size * (1 if is_binary else 2)
        codes.append(WeightCode("binary" if is_binary else "ternary", signs + magnitudes * (bits - 1), size))
        if integers.ndim == 4 and is_binary and 1 < flat.shape[1] // integers.shape[1] <= PATTERN_MAX:
            codes.append(_codebook(integers, magnitudes * (bits - 1)))
    return min(codes, key=lambda code: code.bits)


def _codebook(integers: np.ndarray, magnitudes: int) -> WeightCode:
    """integers: [O, I, h, w] of one magnitude per channel. A channel may be written with the opposite sign."""
    area = int(np.prod(integers.shape[2:]))
    place = np.int64(1) << np.arange(area)
    patterns = ((integers.reshape(*integers.shape[:2], area) > 0) * place).sum(2)
    book = set[int]()
    for row in patterns:  # whichever sign needs fewer new codewords
        kept, flipped = set(row.tolist()), set(((1 << area) - 1 - row).tolist())
        book |= kept if len(kept - book) <= len(flipped - book) else flipped
    index = max(1, (len(book) - 1).bit_length())
    bits = patterns.size * index + len(book) * area + magnitudes + len(patterns)
    return WeightCode("codebook", bits, integers.size)
