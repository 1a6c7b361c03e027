"""Run programs in Lava, through workers; their traces come back in logical time. Of one program: `lava_parts`."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lavatube.deploy.lava_backend.choose import connections
from lavatube.deploy.lava_backend.schedule import Schedule, schedules
from lavatube.deploy.lava_backend.timing import timing
from lavatube.errors import WorkerError
from lavatube.inputs import InputBatch
from lavatube.program import LoihiProgram, ReadoutNode
from lavatube.program_file import program_sha256, save_program
from lavatube.sim.engine import compact, cut_inputs, event_dtype
from lavatube.sim.lava_worker import run_folder, run_jobs
from lavatube.trace import SpikeTrace, versions, within_length

LAVA = "0.10.0"
# default time limit: a cold environment, and far more than a tick takes, where stock Conv needs 1e-8 s a connection
START_SECONDS, SECONDS_A_TICK, SECONDS_A_CONNECTION = 300.0, 0.25, 1e-7


@dataclass(frozen=True)
class LavaJob:
    """One run of a list that shares a worker."""

    program: LoihiProgram
    inputs: InputBatch
    record: frozenset[str] = frozenset()
    conv: str = "auto"
    stock_only: bool = False
    pad_windows: bool = False

    @property
    def schedules(self) -> list[Schedule]:
        """See `schedule.schedules`."""
        size = self.inputs.num_steps, self.inputs.batch
        return schedules(self.program, *size, conv=self.conv, stock_only=self.stock_only, pad_windows=self.pad_windows)


def run_lava_jobs(
    jobs: list[LavaJob],
    *,
    workers: int | None = None,
    timeout: float | None = None,
    progress: Callable[[int, int, int], None] | None = None,
    finished: Callable[[int, SpikeTrace], None] | None = None,
) -> list[SpikeTrace]:
    """Run jobs one after another in each of some workers; how the samples of a job share its time is in `schedule`.

    workers: side by side, each with its share of the jobs; default one for each core that this process may use.
    timeout: seconds for all; default, for each worker, 300 and far more than its ticks take.
    progress: (job, ticks done, ticks). finished: (job, its trace), at once; each job then has a worker of its own.
    raises:  UnsupportedError for what Lava cannot do exactly; WorkerError if a worker fails, which ends the others.
    """
    seconds = [_seconds(job) for job in jobs]  # what cannot run is refused before an interpreter is started
    count = max(1, min(workers or cores(), len(jobs)))
    step = count if finished is None else max(1, len(jobs))
    shares = [range(first, len(jobs), step) for first in range(step)]
    end, started = threading.Event(), time.monotonic()
    found: dict[int, SpikeTrace] = {}

    def work(share: range) -> None:
        if end.is_set():
            return
        limit, spent = START_SECONDS + sum(seconds[number] for number in share), 0.0
        if timeout is not None:
            limit, spent = timeout, time.monotonic() - started
        note = None if progress is None else (lambda at, done, total: progress(share[at], done, total))
        try:
            with run_folder() as folder:
                rows = [_prepare(jobs[number], folder / f"job{number}") for number in share]
                run_jobs(rows, folder, timeout=limit, spent=spent, progress=note, end=end)
                if end.is_set():
                    return
                found.update({number: _trace(jobs[number], folder / f"job{number}") for number in share})
            if finished is not None:
                for number in share:
                    finished(number, found[number])
        except BaseException:
            end.set()
            raise

    with ThreadPoolExecutor(count) as pool:
        running = [pool.submit(work, share) for share in shares]
        try:
            for each in running:
                each.result()
        finally:
            end.set()  # an interrupt or a failure: nobody waits for the others
    return [found[number] for number in range(len(jobs))]


def _seconds(job: LavaJob) -> float:
    """Far more than the ticks of a job take."""
    stored = sum(connections(synapse) for synapse in job.program.synapses)
    depth = timing(job.program).depth
    return sum(
        (schedule.length + depth) * (SECONDS_A_TICK + SECONDS_A_CONNECTION * stored * schedule.lanes)
        for schedule in job.schedules
    )


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _prepare(job: LavaJob, folder: Path) -> dict[str, Any]:
    folder.mkdir()
    save_program(job.program, folder / "program.safetensors")
    for name, events in job.inputs.by_name.items():
        np.save(folder / f"{name}.events.npy", compact(events))
    return {
        "program": str(folder / "program.safetensors"),
        "events": {name: str(folder / f"{name}.events.npy") for name in job.inputs.by_name},
        "out": str(folder),
        "record": sorted(
            job.record | ({"v"} if any(node.reads == "voltage" for node in job.program.readouts) else set())
        ),
        "conv": job.conv,
        "stock_only": job.stock_only,
        "pad_windows": job.pad_windows,
    }


def _trace(job: LavaJob, folder: Path) -> SpikeTrace:
    length, program = job.inputs.length, job.program

    def load(name: str) -> np.ndarray:
        return within_length(np.load(folder / f"{name}.npy", allow_pickle=False), length)

    report = json.loads((folder / "report.json").read_text())
    if report["versions"]["lava-nc"] != LAVA:
        raise WorkerError("another Lava", where="lava", expected=LAVA, got=str(report["versions"]["lava-nc"]))
    spikes = {node.name: load(f"{node.name}.spikes").astype(event_dtype(node)) for node in program.neurons}
    return SpikeTrace(
        inputs=cut_inputs(job.inputs),
        spikes=spikes,
        readouts={node.name: _read_out(program, node, length, spikes, load) for node in program.readouts},
        length=length,
        meta={
            "engine": "lava",
            "device": "cpu",
            "versions": {**versions(), **report["versions"]},
            "program_sha256": program_sha256(program),
            "processes": report["processes"],
            "samples_in_lava": report["samples"],
        },
        **{
            state: {node.name: load(f"{node.name}.{state}") for node in program.neurons} for state in sorted(job.record)
        },
    )


def _read_out(
    program: LoihiProgram,
    node: ReadoutNode,
    length: np.ndarray,
    spikes: Mapping[str, np.ndarray],
    load: Callable[[str], np.ndarray],
) -> np.ndarray:
    """What the host makes of what Lava recorded: [B, classes] int64. length: [B]."""
    if node.reads == "voltage":
        v = load(f"{program.read_by(node).name}.v")
        last = v.reshape(*v.shape[:2], -1)[np.maximum(length - 1, 0), np.arange(len(length))].astype(np.int64)
        return np.asarray(last * (length > 0)[:, None] + node.bias)
    each = spikes[program.read_by(node).name] if node.reads == "spikes" else load(f"{node.name}.readout")
    summed = each.reshape(*each.shape[:2], -1).astype(np.int64).sum(0)
    return np.asarray(summed + np.minimum(length, len(each))[:, None] * node.bias)
