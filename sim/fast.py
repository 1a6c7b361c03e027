"""The fast engine: the reference's integers from compiled event-driven kernels and exact dense products.

How it is made, and what was measured: docs/simulation.md. The parts are in `fast_kernels/`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch

from lavatube.errors import LavatubeError
from lavatube.inputs import InputBatch
from lavatube.program import LoihiProgram
from lavatube.program_file import program_sha256
from lavatube.sim.counts import Counts
from lavatube.sim.engine import finish_trace
from lavatube.sim.fast_kernels.block import BlockResult, BlockRun
from lavatube.sim.fast_kernels.choice import KERNELS, Kernel
from lavatube.sim.fast_kernels.compiled import HAS_NUMBA
from lavatube.sim.fast_kernels.populations import CompiledPopulation, TorchPopulation
from lavatube.sim.fast_kernels.recording import FastRecording, Keeper
from lavatube.sim.fast_kernels.synapse import ReadySynapse
from lavatube.sim.fast_kernels.tallied import counts_of
from lavatube.sim.fast_kernels.walk import Ready
from lavatube.trace import SpikeTrace
from lavatube.train.device import torch_device

Done = TypeVar("Done")
ELEMENTS_AT_ONCE = 1 << 24  # sums of the widest layer in a block of timesteps and samples, in torch
BYTES_OF_A_SUM = 4  # an event has one
ELEMENTS_IN_CACHE = 1 << 20  # the same where the kernels are compiled: 4 MB of int32
ELEMENTS_IN_PARTS = 1 << 23  # where every population takes its sums part by part (walk.py): 8 MB of events


def run_fast(
    program: LoihiProgram,
    inputs: InputBatch,
    *,
    record: frozenset[str] = frozenset(),
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> SpikeTrace:
    """Run a program; the same trace as `run_reference`. record: of {"u", "v"}; progress: (samples done, samples)."""
    return FastEngine(program, device=device).run(inputs, record=record, progress=progress)


class FastEngine:
    """A program made ready to run many times: weights and kernels are prepared on first use and kept.

    device:   "cpu", "cuda", ...: every device gives the same integers.
    kernel:   "event", "dot", "int8" or "float" for every synapse that it can run; by default chosen for each.
    elements: sums of the widest layer that are worked on at once; bounds memory.
    threads:  blocks of samples side by side, on a CPU with numba; by default torch's number of threads.
    raises:   LavatubeError for an unknown device or kernel.
    """

    def __init__(
        self,
        program: LoihiProgram,
        *,
        device: str = "cpu",
        kernel: Kernel | None = None,
        elements: int | None = None,
        threads: int | None = None,
    ) -> None:
        torch_device(device)
        if kernel is not None and kernel not in KERNELS:
            raise LavatubeError("kernel", expected=", ".join(KERNELS), got=str(kernel))
        self.program, self.device = program, device
        compiled = device == "cpu" and HAS_NUMBA
        self.threads = (threads or torch.get_num_threads()) if compiled else 1
        targets = {synapse.name: target for target in program.targets for synapse in program.inbound(target)}
        synapses = {}
        for node in program.synapses:
            source, target = program.source_of(node), targets[node.name]
            ends = source.shape, target.shape, source.event_range
            synapses[node.name] = ReadySynapse(node, *ends, device, kernel)
        self.ready = Ready(program, device, synapses, targets, CompiledPopulation if compiled else TorchPopulation)
        alone = len(self.ready.alone) == len(program.neurons)
        held = ELEMENTS_IN_PARTS if alone else ELEMENTS_IN_CACHE
        self.elements = elements or (held if compiled else ELEMENTS_AT_ONCE)
        self.sha256 = program_sha256(program)
        sums = max(math.prod(node.out_shape) for node in program.synapses)
        events = max(math.prod(node.shape) for node in program.sources)
        self.largest = max(sums, events // BYTES_OF_A_SUM)

    def run(
        self,
        inputs: InputBatch,
        *,
        record: frozenset[str] = frozenset(),
        progress: Callable[[int, int], None] | None = None,
    ) -> SpikeTrace:
        """As `run_fast`."""
        return self._traced(inputs, record, progress, counted=False)[0]

    def run_counted(
        self,
        inputs: InputBatch,
        *,
        record: frozenset[str] = frozenset(),
        progress: Callable[[int, int], None] | None = None,
    ) -> tuple[SpikeTrace, Counts]:
        """As `run`, and what `count` says of the trace, from sums that are made on the way."""
        trace, counts = self._traced(inputs, record, progress, counted=True)
        assert counts is not None
        return trace, counts

    def _traced(
        self, inputs: InputBatch, record: frozenset[str], progress: Callable[[int, int], None] | None, counted: bool
    ) -> tuple[SpikeTrace, Counts | None]:
        recording = FastRecording(self.program, inputs, record)
        readouts, sums = self.through(recording, counted=counted, progress=progress)
        made_by = {"engine": "fast", "device": self.device, "sha256": self.sha256}
        trace = finish_trace(recording, readouts, events=recording.events, **made_by)
        return trace, self.counts(sums) if counted else None

    def through(
        self, keeper: Keeper, *, counted: bool, progress: Callable[[int, int], None] | None = None
    ) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
        """All samples from and to a keeper, block by block: (read-outs [B, classes], sums of the counts)."""
        batch = len(keeper.length)
        at_once, size = self.block(keeper.num_steps, batch)
        blocks = [slice(start, min(start + size, batch)) for start in range(0, batch, size)]

        def work(rows: slice) -> BlockResult:
            block = BlockRun(self.ready, rows, keeper.length, at_once, keeper.kept, counted)
            block.advance(keeper, keeper.num_steps)
            return block.result()

        results = []
        for rows, result in zip(blocks, side_by_side(work, blocks, self.threads), strict=True):
            results.append(result)
            if progress is not None:
                progress(rows.stop, batch)
        return collected(keeper, results)

    def counts(self, sums: list[np.ndarray]) -> Counts:
        """Of blocks that make up all samples."""
        return counts_of(self.ready.counts.terms, self.sha256, sums)

    def block(self, num_steps: int, batch: int) -> tuple[int, int]:
        """(timesteps, samples) that are worked on at once."""
        rows = max(1, self.elements // self.largest)
        at_once = 1 if self.program.is_recurrent else min(num_steps, rows)
        return at_once, max(1, min(rows // at_once, -(-batch // self.threads)))


def collected(keeper: Keeper, results: list[BlockResult]) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    """(read-outs, sums of the counts) of all blocks; overflows go to the keeper."""
    for result in results:
        for name, found in result.overflows.items():
            for kind, number in zip(("wraps", "saturations"), found, strict=True):
                keeper.overflow[kind][name] += int(number)
    readouts = {name: np.concatenate([result.readouts[name] for result in results]) for name in results[0].readouts}
    return readouts, [result.sums for result in results if result.sums is not None]


def side_by_side(work: Callable[[slice], Done], blocks: list[slice], threads: int) -> Iterator[Done]:
    """Results in order of the blocks. With several threads torch computes with one in each of them meanwhile."""
    threads = min(threads, len(blocks))
    if threads == 1:
        yield from map(work, blocks)
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield from pool.map(work, blocks)
    finally:
        torch.set_num_threads(before)
