"""One run in Lava, by parts of its samples: several workers side by side, and what is done is kept on request."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

import lavatube
from lavatube.deploy.lava_backend.choose import connections
from lavatube.deploy.lava_backend.timing import timing
from lavatube.errors import LavatubeError
from lavatube.inputs import InputBatch
from lavatube.program import LoihiProgram
from lavatube.program_file import program_sha256
from lavatube.sim.kept_parts import KeptParts
from lavatube.sim.lava_run import LavaJob, cores, run_lava_jobs
from lavatube.trace import SpikeTrace, load_trace, save_trace, versions

CONNECTIONS_AT_LEAST = 20_000  # below, a timestep takes as long whatever their number
PART = 1e10  # connection-steps, some 10 s to 20 s: what is lost when a run is interrupted
WORKER_BYTES, CONNECTION_BYTES = 400_000_000, 60  # of a worker, and of each connection that it stores, as measured


def connection_steps(program: LoihiProgram, steps: int, samples: int) -> float:
    """A measure for how long Lava takes, some 1 ns to 3 ns each; borders of convolutions not subtracted."""
    stored = sum(connections(synapse) for synapse in program.synapses)
    return float(max(stored, CONNECTIONS_AT_LEAST)) * steps * samples * timing(program).pace


def run_lava(
    program: LoihiProgram,
    inputs: InputBatch,
    *,
    record: frozenset[str] = frozenset(),
    conv: str = "auto",
    stock_only: bool = False,
    pad_windows: bool = False,
    timeout: float | None = None,
    progress: Callable[[int, int], None] | None = None,
    workers: int | None = None,
    keep: KeptParts | None = None,
) -> SpikeTrace:
    """Run one program; a large run in parts of some seconds each. See `run_lava_jobs`, `choose_processes` and
    `schedules`.

    timeout:  seconds for all of it.  progress: called with (ticks done, ticks).
    workers:  at most so many side by side; default as many as cores and free memory allow.
    keep:     for the parts that are done, from which an interrupted run goes on.
    """
    job = LavaJob(program, inputs, record, conv, stock_only, pad_windows)
    parts = parts_of(job)
    if len(parts) == 1:
        note = None if progress is None else (lambda _, done, total: progress(done, total))
        return run_lava_jobs([job], timeout=timeout, progress=note)[0]
    jobs = [replace(job, inputs=inputs.samples(part.stop, part.start)) for part in parts]
    folder = None if keep is None else keep.of(_digest(job))
    files = [None if folder is None else folder / f"{part.start}-{part.stop - 1}.npz" for part in parts]
    found = {number: trace for number, file in enumerate(files) if file and (trace := _kept(file)) is not None}
    left = [number for number in range(len(parts)) if number not in found]
    ticks = {number: (1 if number in found else 0, 1) for number in range(len(parts))}

    def note_of(at: int, done: int, total: int) -> None:
        ticks[left[at]] = done, total
        if progress is not None:  # parts are alike: those that have not begun count like this one
            share = sum(done / total for done, total in ticks.values()) / len(parts)
            progress(int(share * total * len(parts)), total * len(parts))

    def finished(at: int, trace: SpikeTrace) -> None:
        file, found[left[at]] = files[left[at]], trace
        if file is not None:
            save_trace(trace, file)

    side_by_side = min(workers or side_by_side_at_most(program, job.schedules[0].lanes), max(1, len(left)))
    run_lava_jobs(
        [jobs[number] for number in left], workers=side_by_side, timeout=timeout, progress=note_of, finished=finished
    )
    return _joined([found[number] for number in range(len(parts))], inputs, side_by_side)


def parts_of(job: LavaJob) -> list[range]:
    """The samples of each part: one part if all are at most `PART` connection-steps."""
    batch, steps = job.inputs.batch, job.inputs.num_steps
    count = max(1, math.ceil(connection_steps(job.program, steps, batch) / PART))
    lanes = job.schedules[0].lanes
    size = math.ceil(batch / count / lanes) * lanes if count > 1 else batch
    return [range(start, min(start + size, batch)) for start in range(0, batch, size)]


def side_by_side_at_most(program: LoihiProgram, lanes: int) -> int:
    """Workers for the cores and the free memory of this machine, at least one."""
    each = WORKER_BYTES + CONNECTION_BYTES * lanes * sum(connections(synapse) for synapse in program.synapses)
    return max(1, min(cores(), _free_bytes() // each))


def _free_bytes() -> int:
    """By /proc; no limit where there is none."""
    with suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 1 << 62


def _digest(job: LavaJob) -> str:
    """What decides the trace of a run."""
    facts = [
        program_sha256(job.program),
        sorted(job.record),
        job.conv,
        job.stock_only,
        job.pad_windows,
        PART,
        versions(),
        _code_sha256(),
    ]
    found = hashlib.sha256(json.dumps(facts).encode())
    for name, events in (*job.inputs.by_name.items(), ("length", job.inputs.length)):
        found.update(f"{name} {events.shape}".encode())
        for row in events:
            found.update(np.ascontiguousarray(row, np.int64).tobytes())
    return found.hexdigest()[:32]


@lru_cache(maxsize=1)
def _code_sha256() -> str:
    """Of what a worker runs, and of what starts it: parts of two states of the code are not one run."""
    root = Path(lavatube.__file__).parent
    files = [*root.glob("*.py"), *(root / "deploy").rglob("*.py"), *(root / "sim").glob("lava_*.py")]
    found = hashlib.sha256()
    for file in sorted(files):
        found.update(file.relative_to(root).as_posix().encode() + file.read_bytes())
    return found.hexdigest()


def _kept(file: Path) -> SpikeTrace | None:
    """A part of an earlier run; None if it is not there, or damaged, and runs again."""
    with suppress(LavatubeError):
        return load_trace(file)
    return None


def _joined(parts: Sequence[SpikeTrace], inputs: InputBatch, workers: int) -> SpikeTrace:
    """One trace of the samples of all parts."""

    def over(kind: str, axis: int) -> dict[str, np.ndarray]:
        groups = [getattr(part, kind) for part in parts]
        return {name: np.concatenate([group[name] for group in groups], axis) for name in groups[0]}

    side = [part.meta["samples_in_lava"] for part in parts]
    samples = {**side[0], "runs": sum(each["runs"] for each in side), "parts": len(parts), "workers": workers}
    return SpikeTrace(
        over("inputs", 1), over("spikes", 1), over("readouts", 0), inputs.length,
        {**parts[0].meta, "samples_in_lava": samples}, over("u", 1), over("v", 1),
    )  # fmt: skip
