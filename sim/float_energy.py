"""Level 1 of energy: what the float network's spikes would cost on the program's connections, and the program's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lavatube.errors import LavatubeError
from lavatube.inputs import InputBatch
from lavatube.program import LoihiProgram
from lavatube.sim.counts import count
from lavatube.sim.energy.bootstrap import energy_by_sample
from lavatube.sim.price_table import DEFAULT_PRICES, find_prices
from lavatube.sim.shares import Share, ratio
from lavatube.trace import SpikeTrace

Spikes = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class EnergyAgreement:
    """Dynamic energy of the same samples under one price table, at one of its bounds.

    fj_float, fj_program: of all samples, in fJ. error: (program - float) / float, with the 95 % interval of a bootstrap
    over samples.
    """

    prices: str
    bound: str
    fj_float: float
    fj_program: float
    error: Share
    holds: bool


def energy_agreement(
    program: LoihiProgram,
    batch: InputBatch,
    made: Mapping[str, np.ndarray],
    there: Mapping[str, np.ndarray],
    limit: float,
) -> tuple[tuple[EnergyAgreement, ...], str]:
    """(one row for each default table and bound that it knows; why there is none, or "").

    batch: the program's events. made, there: {population of the program: [T, B, ...]}, its own spikes and those of the
    float network, both on the program's connections; what only the program has (the clock that carries biases) spikes
    the same on both sides. limit: of |error|.
    """
    try:
        left, right = (count(program, _as_trace(program, batch, spikes)) for spikes in ({**made, **there}, made))
    except LavatubeError as refusal:
        return (), str(refusal)
    rows = []
    for table in find_prices(DEFAULT_PRICES):
        of_float, of_program = energy_by_sample(left, table), energy_by_sample(right, table)
        for bound, cost in of_float.items():
            error = ratio(of_program[bound] - cost, cost)
            holds = abs(error.value) <= limit
            rows.append(EnergyAgreement(table.name, bound, cost.sum(), of_program[bound].sum(), error, holds))
    return tuple(rows), ""


def _as_trace(program: LoihiProgram, batch: InputBatch, spikes: Mapping[str, np.ndarray]) -> SpikeTrace:
    """What `count` reads: events, in the program's shapes."""
    shaped = {
        node.name: np.ascontiguousarray(spikes[node.name].reshape(*spikes[node.name].shape[:2], *node.shape), np.int32)
        for node in program.neurons if node.name in spikes
    }  # fmt: skip
    readouts = {node.name: np.zeros((batch.batch, node.bias.size), np.int64) for node in program.readouts}
    return SpikeTrace(batch.by_name, shaped, readouts, batch.length, {})
