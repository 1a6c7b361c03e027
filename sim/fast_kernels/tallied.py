"""Counts from the sums that the fast engine makes while it runs; equal to `count` on the trace."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lavatube.sim.counts.layer import TERMS, LayerCounts
from lavatube.sim.counts.result import Counts
from lavatube.sim.fast_kernels.count_terms import Terms


def counts_of(terms: Terms, sha256: str, parts: Sequence[np.ndarray]) -> Counts:
    """Counts of all parts, in order of the samples. sha256: the program's; parts: [B, sums] int64 each, see `Terms`."""
    sums = parts[0] if len(parts) == 1 else np.concatenate(parts)
    total = sums[0] if len(sums) == 1 else sums.sum(0)
    *flat, bytes_in, bytes_out = (total @ terms.by_layer).tolist()
    rows = [flat[first : first + len(TERMS)] for first in range(0, len(flat), len(TERMS))]
    samples = (sums @ terms.by_sample).T.tolist()
    return Counts(
        {name: LayerCounts(*row) for name, row in zip(terms.layers, rows, strict=True)},
        len(sums),
        int(total[terms.length]),
        sha256,
        terms.graded_input,
        bytes_in,
        bytes_out,
        terms.plan.weight_bits,
        None,
        {term: tuple(row) for term, row in zip(TERMS, samples, strict=True)},
    )
