"""Run a program in stock Lava, through the worker; the trace comes back in logical time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from lavatube.deploy.lava_backend.choose import choose_processes
from lavatube.inputs import InputBatch
from lavatube.program import LoihiProgram
from lavatube.program_file import program_sha256, save_program
from lavatube.sim.engine import compact
from lavatube.sim.lava_worker import run_folder, run_jobs, worker_command
from lavatube.trace import SpikeTrace, versions, within_length

LAVA = "0.10.0"
START_SECONDS, SECONDS_A_TICK = 300.0, 0.25  # default time limit: a cold environment, and far more than a tick takes


@dataclass(frozen=True)
class LavaJob:
    """One run of a list that shares a worker."""

    program: LoihiProgram
    inputs: InputBatch
    record: frozenset[str] = frozenset()
    conv: str = "auto"


def run_lava(
    program: LoihiProgram,
    inputs: InputBatch,
    *,
    record: frozenset[str] = frozenset(),
    conv: str = "auto",
    timeout: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SpikeTrace:
    """Run one program; see `run_lava_jobs`. progress: (ticks done, ticks)."""
    note = None if progress is None else (lambda _, done, total: progress(done, total))
    return run_lava_jobs([LavaJob(program, inputs, record, conv)], timeout=timeout, progress=note)[0]


def run_lava_jobs(
    jobs: list[LavaJob], *, timeout: float | None = None, progress: Callable[[int, int, int], None] | None = None
) -> list[SpikeTrace]:
    """Run jobs one after another in one worker, all samples of a job streamed through one run in windows of T.

    timeout: seconds for all of them; default 300 and a quarter of a second a tick.
    raises:  UnsupportedError for what stock Lava cannot do exactly; WorkerError if the worker fails.
    """
    for job in jobs:
        choose_processes(job.program, job.conv)  # refuse before an interpreter is started
    ticks = sum(job.inputs.num_steps * job.inputs.batch + len(job.program.layers) for job in jobs)
    limit = timeout if timeout is not None else START_SECONDS + SECONDS_A_TICK * ticks
    with run_folder() as folder:
        rows = [_prepare(job, folder / f"job{number}") for number, job in enumerate(jobs)]
        run_jobs(rows, folder, timeout=limit, progress=progress)
        return [_trace(job, folder / f"job{number}") for number, job in enumerate(jobs)]


def _prepare(job: LavaJob, folder: Path) -> dict[str, Any]:
    folder.mkdir()
    save_program(job.program, folder / "program.safetensors")
    np.save(folder / "events.npy", compact(job.inputs.events))
    return {
        "program": str(folder / "program.safetensors"),
        "events": str(folder / "events.npy"),
        "out": str(folder),
        "record": sorted(job.record),
        "conv": job.conv,
    }


def _trace(job: LavaJob, folder: Path) -> SpikeTrace:
    length, program = job.inputs.length, job.program

    def load(name: str) -> np.ndarray:
        return within_length(np.load(folder / f"{name}.npy", allow_pickle=False), length)

    added = np.minimum(length, job.inputs.num_steps)[:, None] * program.readout.bias  # by the host, every step
    return SpikeTrace(
        input=compact(within_length(job.inputs.events, length)),
        spikes={node.name: load(f"{node.name}.spikes").astype(np.uint8) for node in program.neurons},
        readout=load("readout").astype(np.int64).sum(0) + added,
        length=length,
        meta={
            "engine": "lava",
            "device": "cpu",
            "versions": {**versions(), "lava-nc": LAVA},
            "program_sha256": program_sha256(program),
            "processes": json.loads((folder / "report.json").read_text()),
        },
        **{
            state: {node.name: load(f"{node.name}.{state}") for node in program.neurons} for state in sorted(job.record)
        },
    )


def check_worker() -> dict[str, Any]:
    """Prepare the worker and compare a small run with the reference, for `lavatube doctor`.

    raises: WorkerError if the worker does not work.
    """
    from lavatube.errors import WorkerError
    from lavatube.program import DenseNode, InputNode, LifNode, ReadoutNode
    from lavatube.sim.compare import compare
    from lavatube.sim.reference import run_reference

    weight = (np.arange(-6, 6, dtype=np.int16) * 20).reshape(3, 4)
    nodes = (
        InputNode("input", (4,), 4),
        DenseNode("layer1_dense", (4,), weight, 8, -1),
        LifNode("layer1_lif", (3,), 4095, 400, 300, np.arange(3, dtype=np.int16) * 50, 3),
        DenseNode("layer2_dense", (3,), weight[:, :3].copy(), 8, -1),
        ReadoutNode("output", np.arange(3)),
    )
    names = ["input", "layer1_dense", "layer1_lif", "layer2_dense", "output"]
    edges = tuple(pairwise(names))
    program = LoihiProgram(nodes, edges, 5, {"kind": "doctor", "sha256": ""})
    events = np.random.default_rng(0).integers(0, 16, (5, 3, 4))
    inputs = InputBatch(events, np.full(3, 5))
    started = time.perf_counter()
    comparison = compare(run_reference(program, inputs), run_lava(program, inputs))
    if not comparison.equal:
        raise WorkerError("Lava's spikes differ from the reference's", where="lava", got=str(comparison.first))
    return {
        "lava-nc": LAVA,
        "found": worker_command()[1],
        "seconds": round(time.perf_counter() - started, 1),
        "small program": "equal to the reference",
    }
