"""How much the mean over samples may vary: a seeded bootstrap over the samples."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lavatube.sim.counts import Counts
from lavatube.sim.energy.dynamic import OF_TRAFFIC
from lavatube.sim.interval import BOUNDS
from lavatube.sim.price_table import PriceTable

RESAMPLES = 1000
LEVEL = 0.95
Band = Mapping[str, float]  # mean, low, high


def mean_counts(counts: Counts, *, seed: int = 0) -> dict[str, Band]:
    """{term: mean of one sample, and the 95 % interval of that mean}; empty below two samples."""
    return _bands({term: np.array(values, np.float64) for term, values in counts.per_sample.items()}, seed)


def mean_energy(counts: Counts, table: PriceTable, *, seed: int = 0) -> dict[str, Band]:
    """{bound: mean fJ of one sample and its 95 % interval} of what the layers cost, at each bound that is known."""
    return _bands(energy_by_sample(counts, table), seed)


def energy_by_sample(counts: Counts, table: PriceTable) -> dict[str, np.ndarray]:
    """{bound: [B] float64 fJ} of what the layers cost, at each bound that is known.

    Traffic and memories are in it at no price: they are not counted by sample.
    """
    names = {
        "synop": "synops_stored", "neuron_access": "neuron_accesses", "neuron_update": "updates",
        "spike": "spikes_out", "mac": "graded_stored",
    }  # fmt: skip
    if not counts.per_sample or any(name in table.terms for name in ("sram_8k", "sram_32k", "sram_1m", "dram")):
        return {}
    values = {}
    numbers = {term: np.array(row, np.float64) for term, row in counts.per_sample.items()}
    for bound in BOUNDS:
        total = np.zeros(counts.samples)
        for name, price in table.terms.items():
            if name in OF_TRAFFIC:
                continue
            number = numbers["synops_stored"] - numbers["graded_stored"] if name == "ac" else numbers[names[name]]
            each = getattr(price.interval, bound)
            total = total + (number * each if each is not None else np.where(number > 0, np.nan, 0.0))
        if not np.isnan(total).any():
            values[bound] = total
    return values


def _bands(values: Mapping[str, np.ndarray], seed: int) -> dict[str, Band]:
    samples = len(next(iter(values.values()), ()))
    if samples < 2:
        return {}
    table = np.stack(list(values.values()))
    rng = np.random.Generator(np.random.PCG64(seed))
    means = np.stack([table[:, rng.integers(0, samples, samples)].mean(1) for _ in range(RESAMPLES)])
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return {
        name: {"mean": float(table[row].mean()), "low": float(low[row]), "high": float(high[row])}
        for row, name in enumerate(values)
    }
