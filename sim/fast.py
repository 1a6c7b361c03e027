"""The fast engine: the reference's integers from compiled event-driven kernels and exact dense products.

How it is made, and what was measured: docs/simulation.md. The parts are in `fast_kernels/`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch

from lavatube.errors import LavatubeError
from lavatube.inputs import InputBatch
from lavatube.program import LoihiProgram
from lavatube.program_file import program_sha256
from lavatube.sim.engine import finish_trace
from lavatube.sim.fast_kernels.choice import KERNELS, Kernel
from lavatube.sim.fast_kernels.compiled import HAS_NUMBA
from lavatube.sim.fast_kernels.populations import CompiledPopulation, TorchPopulation
from lavatube.sim.fast_kernels.recording import FastRecording
from lavatube.sim.fast_kernels.synapse import ReadySynapse
from lavatube.sim.fast_kernels.walk import Ready, Walk
from lavatube.trace import SpikeTrace
from lavatube.train.device import torch_device

Done = TypeVar("Done")
ELEMENTS_AT_ONCE = 1 << 24  # sums of the widest layer in a block of timesteps and samples, in torch
ELEMENTS_IN_CACHE = 1 << 20  # the same where the kernels are compiled: 4 MB of int32


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
    kernel:   "event", "int8" or "float" for every synapse that it can run; by default chosen for each (choice.py).
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
        self.elements = elements or (ELEMENTS_IN_CACHE if compiled else ELEMENTS_AT_ONCE)
        self.threads = (threads or torch.get_num_threads()) if compiled else 1
        targets = {synapse.name: target for target in program.targets for synapse in program.inbound(target)}
        synapses = {}
        for node in program.synapses:
            source, target = program.source_of(node), targets[node.name]
            ends = source.shape, target.shape, source.event_range
            synapses[node.name] = ReadySynapse(node, *ends, device, kernel)
        self.ready = Ready(program, device, synapses, targets, CompiledPopulation if compiled else TorchPopulation)
        self.sha256 = program_sha256(program)

    def run(
        self,
        inputs: InputBatch,
        *,
        record: frozenset[str] = frozenset(),
        progress: Callable[[int, int], None] | None = None,
    ) -> SpikeTrace:
        """As `run_fast`."""
        recording = FastRecording(self.program, inputs, record)
        readouts = {node.name: np.zeros((inputs.batch, *node.shape), np.int64) for node in self.program.readouts}
        at_once, size = self._block(inputs)
        blocks = [slice(start, min(start + size, inputs.batch)) for start in range(0, inputs.batch, size)]
        done = 0
        for rows, sums, overflows in side_by_side(
            lambda rows: self._run_block(recording, rows, at_once), blocks, self.threads
        ):
            for name, value in sums.items():
                readouts[name][rows] = value
            for name, (wraps, saturations) in overflows.items():
                recording.overflow["wraps"][name] += int(wraps)
                recording.overflow["saturations"][name] += int(saturations)
            done += rows.stop - rows.start
            if progress is not None:
                progress(done, inputs.batch)
        made_by = {"engine": "fast", "device": self.device, "sha256": self.sha256}
        return finish_trace(recording, readouts, events=recording.events, **made_by)

    def _block(self, inputs: InputBatch) -> tuple[int, int]:
        """(timesteps, samples) that are worked on at once."""
        widest = max(int(np.prod(node.out_shape)) for node in self.program.synapses)
        rows = max(1, self.elements // widest)
        at_once = 1 if self.program.is_recurrent else min(inputs.num_steps, rows)
        return at_once, max(1, min(rows // at_once, -(-inputs.batch // self.threads)))

    @torch.no_grad()
    def _run_block(
        self, recording: FastRecording, rows: slice, at_once: int
    ) -> tuple[slice, dict[str, np.ndarray], dict[str, np.ndarray]]:
        """One block of samples through all timesteps: (rows, read-outs, {population: [wraps, saturations]})."""
        inputs = recording.inputs
        length = torch.tensor(inputs.length[rows], device=self.device)
        walk = Walk(self.ready, length, at_once, recording.kept)
        alive = torch.arange(inputs.num_steps, device=self.device)[:, None] < length
        overflows: dict[str, list[torch.Tensor]] = {node.name: [] for node in self.program.neurons}
        for start in range(0, inputs.num_steps, at_once):
            steps = slice(start, min(start + at_once, inputs.num_steps))
            events = {node.name: recording.input(node, steps, rows, self.device) for node in self.program.inputs}
            for name, made in walk.run(events, alive[steps]).items():
                recording.stretch(name, steps, rows, made)
                overflows[name].append(made.overflows)
        counted = {name: (torch.cat(each, 1) * alive).sum((1, 2)).cpu().numpy() for name, each in overflows.items()}
        return rows, {name: value.cpu().numpy() for name, value in walk.readouts.items()}, counted


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
