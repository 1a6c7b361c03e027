"""How many words of synapse memory connections take, in the formats that a chip has."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lavatube import fixed_point as fp
from lavatube.deploy.mapping.limits import SynapseFormat
from lavatube.program import Synapse

WORD = 64


def fewest_weight_bits(synapses: Sequence[Synapse], offered: Sequence[int]) -> int:
    """The fewest bits that hold all weights of synapses of one exponent, with a common exponent that the chip has.

    Lossless: W = q * 2^k with the largest k is written as q * 2^(9 - b) (or q * 2^(8 - b), all of one sign), and the
    exponent takes the rest, as lava-nc's `optimize_weight_bits` does.
    """
    weights = np.concatenate([synapse.weight.reshape(-1) for synapse in synapses]).astype(np.int64)
    low, high = min(int(weights.min()), 0), max(int(weights.max()), 0)
    if low == high:
        return min(offered)
    common = int(np.bitwise_or.reduce(np.abs(weights)))
    k = (common & -common).bit_length() - 1
    mixed = low < 0 < high
    low, high = low >> k, high >> k
    least = max((~low).bit_length(), high.bit_length()) + 1 if mixed else max(-low, high).bit_length()
    full = fp.WEIGHT_BITS_MAX + mixed
    exponent = synapses[0].weight_exp
    given = max(synapse.num_weight_bits for synapse in synapses)
    for bits in sorted(offered):
        if bits >= least and (exponent + k - (full - bits) >= fp.WEIGHT_EXPONENT_MIN or bits >= given):
            return bits
    return max(offered)


def list_words(form: SynapseFormat, entries: np.ndarray, *, weight_bits: int, delay: int, reach: int) -> np.ndarray:
    """Words of 64 bits of lists with so many entries each; 0 for an empty list. int64, shape of `entries`.

    delay: the longest of the entries, in timesteps; reach: neurons of the core, which an index tells apart.
    """
    each = (
        weight_bits
        + _fitting(form.delay_bits, delay)
        + (_fitting(form.index_bits, reach - 1) if form.index_bits else 0)
    )
    if not form.block:
        return _words(form.header_bits, entries, each)
    whole, rest = np.divmod(entries, form.block)
    full = _words(form.header_bits, np.array(form.block), each)
    return np.asarray(whole * full + _words(form.header_bits, rest, each))


def _words(header: int, entries: np.ndarray, each: int) -> np.ndarray:
    return np.where(entries > 0, -(-(header + entries * each) // WORD), 0)


def _fitting(offered: tuple[int, ...], highest: int) -> int:
    """The fewest bits that hold 0..highest, or the most that there are."""
    return next((bits for bits in sorted(offered) if bits >= highest.bit_length()), max(offered))
