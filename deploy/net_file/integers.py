"""The file's integers -> Loihi's registers: exact where 8 bits hold them, else clipped as lava-dl does, and listed."""

from __future__ import annotations

from typing import Any

import numpy as np

from lavatube import fixed_point as fp
from lavatube.integer_layer import mantissas
from lavatube.synapse_nodes import Sign

Lossy = list[dict[str, Any]]
Mantissas = tuple[np.ndarray, int, int, Sign]  # weight int16, num_weight_bits, weight_exp, sign


def fit_weight(weight: np.ndarray, where: str, lossy: Lossy) -> Mantissas:
    """Mantissas with (sum of mantissa * s) shifted by weight_exp = sum of weight * s.

    weight: (...) int64. What 8 bits do not hold is clipped to -256..254, as lava-dl's `optimize_weight_bits` does, then
    rounded down to even, as the chip does with weights of both signs; `lossy` gets a record of it.
    """
    exact = exact_mantissas(weight)
    if exact is not None:
        return exact
    clipped = np.clip(weight, -256, 254)
    even = clipped & ~1
    what = "weights that 8 bits do not hold: clipped to -256..254 and rounded down to even numbers"
    lossy.append(
        {
            "stage": "lower",
            "layer": where,
            "what": what,
            "clipped": int((clipped != weight).sum()),
            "rounded": int((even != clipped).sum()),
        }
    )
    fitted = exact_mantissas(even)
    assert fitted is not None, "even numbers in -256..254 fit"
    return fitted


def exact_mantissas(weight: np.ndarray) -> Mantissas | None:
    """The fewest bits that hold the weights exactly; of one sign only where both signs do not do. None if none does."""
    together = int(np.bitwise_or.reduce(np.abs(weight), axis=None))
    zeros = (together & -together).bit_length() - 1 if together else 0  # trailing zero bits that all weights share
    q = weight >> zeros
    low, high = int(q.min()), int(q.max())
    bits = max((~low if low < 0 else low).bit_length(), (~high if high < 0 else high).bit_length()) + 1
    if bits <= fp.WEIGHT_BITS_MAX and zeros + bits - 9 <= fp.WEIGHT_EXPONENT_MAX:
        return *mantissas(q, bits, zeros), "mixed"
    one_sign = low >= 0 or high <= 0
    if one_sign and max(-low, high) <= 255 and zeros <= fp.WEIGHT_EXPONENT_MAX:
        return q.astype(np.int16), fp.WEIGHT_BITS_MAX, zeros, "excitatory" if low >= 0 else "inhibitory"
    return None


def fit_bias(bias: np.ndarray, where: str, lossy: Lossy) -> tuple[np.ndarray, int]:
    """(bias_mant int16, bias_exp) of a bias in weight units. bias: (...) int64; 13 bits at exponent 6, or at 7."""
    low, high = fp.BIAS_MANTISSA_MIN, fp.BIAS_MANTISSA_MAX
    if bias.min(initial=0) >= low and bias.max(initial=0) <= high:
        return bias.astype(np.int16), fp.ACTIVATION_SHIFT
    half = bias >> 1
    if not (bias & 1).any() and half.min() >= low and half.max() <= high:
        return half.astype(np.int16), fp.ACTIVATION_SHIFT + 1
    clipped = np.clip(bias, low, high)
    record = {"stage": "lower", "layer": where, "what": f"bias clipped to {low}..{high}"}
    lossy.append({**record, "clipped": int((clipped != bias).sum())})
    return clipped.astype(np.int16), fp.ACTIVATION_SHIFT
