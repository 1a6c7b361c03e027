"""The totals of a run."""

from __future__ import annotations

from lavatube.program import LoihiProgram
from lavatube.program_file import program_sha256
from lavatube.sim.counts.cores import count_cores
from lavatube.sim.counts.host import host_bytes, weight_bits
from lavatube.sim.counts.layer import TERMS, LayerCounts
from lavatube.sim.counts.result import Counts
from lavatube.sim.counts.steps import count_steps
from lavatube.sim.counts.traffic import Placed
from lavatube.trace import SpikeTrace


def count(program: LoihiProgram, trace: SpikeTrace, placement: Placed | None = None) -> Counts:
    """Count a trace of this program, of any engine; beyond a sample's length nothing counts.

    Counts of parts of the samples add up (`+`), so a long recording can be counted part by part.
    placement: the cores of the neurons, for messages and hops.
    raises: LavatubeError if the trace does not have the program's layers, shapes and events, or the placement its
    populations.
    """
    steps = count_steps(program, trace)
    layers = {
        name: LayerCounts(**{term: int(values.sum()) for term, values in rows.items()}) for name, rows in steps.items()
    }
    samples = {term: sum(rows[term].sum(0) for rows in steps.values()) for term in TERMS}
    traffic = count_cores(program, trace, placement).traffic if placement is not None else None
    graded = any(node.message_bits > 1 for node in program.inputs)
    return Counts(
        layers,
        trace.batch,
        int(trace.length.sum()),
        program_sha256(program),
        graded,
        *host_bytes(program, trace),
        weight_bits(program),
        traffic,
        {term: tuple(values.tolist()) for term, values in samples.items()},
    )
