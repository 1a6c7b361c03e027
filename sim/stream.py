"""Run recordings that are larger than memory: inputs are read, and the trace is written, part by part.

docs/simulation.md says what is held in memory; every integer is that of `run`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lavatube.bounds import prove_no_overflow
from lavatube.errors import LavatubeError
from lavatube.files import refuse_same_file, require_writable_file
from lavatube.inputs import InputBatch
from lavatube.program import InputNode, LoihiProgram, Overflow
from lavatube.program_file import load_program
from lavatube.sim.counts import Counts, save_counts
from lavatube.sim.engine import dtype_of, event_dtype
from lavatube.sim.fast import FastEngine
from lavatube.sim.fast_kernels.order import seen_as
from lavatube.sim.fast_kernels.populations import Steps
from lavatube.sim.fast_kernels.recording import on_device
from lavatube.sim.input_parts import HDF5, InputParts, open_parts
from lavatube.sim.run import RECORDABLE, Inputs, as_batch, program_path
from lavatube.sim.trace_file import Layout, TraceWriter, trace_writer
from lavatube.trace import versions

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Streamed:
    """What is left without the trace. readouts: {name: [B, classes] int64}; length: [B]; label: [B] or None."""

    readouts: Mapping[str, np.ndarray]
    length: np.ndarray
    label: np.ndarray | None
    counts: Counts
    meta: Mapping[str, Any]

    @property
    def predictions(self) -> dict[str, np.ndarray]:
        """{read-out: [B] int64}, the lowest index of its largest value."""
        return {name: np.asarray(np.argmax(value, axis=1), np.int64) for name, value in self.readouts.items()}


def stream(
    source: LoihiProgram | Path | str,
    inputs: Inputs | Iterator[Inputs],
    *,
    out: Path | str | None = None,
    counts: Path | str | None = None,
    steps: int | None = None,
    record: Iterable[str] = (),
    device: str = "cpu",
    overflow: Overflow | None = None,
    progress: Progress | None = None,
) -> Streamed:
    """Run on the fast engine without ever holding the whole input or trace: counts and read-outs, and files.

    inputs:  X.npy (memory-mapped) or X.h5 (read by slices), what `run` takes, or an iterator of such, which gives
             samples after samples.
    out:     TRACE.h5 to write.  counts: counts.json to write.  record: of "u", "v", into the trace.
    raises:  LavatubeError for bad input, found when it is read; nothing is left of the files then. And before anything
             is run, if a file to write is also another or one that is read.
    """
    kept = frozenset(record)
    if not kept <= RECORDABLE:
        raise LavatubeError("--record", expected="u and v", got=", ".join(sorted(kept - RECORDABLE)))
    program_file = None if isinstance(source, LoihiProgram) else program_path(source)
    refuse_same_file(program=program_file, input=inputs, out=out, counts=counts)
    for path in (out, counts):
        if path is not None:
            require_writable_file(Path(path))
    if out is not None and Path(out).suffix not in HDF5:
        raise LavatubeError("a trace that is written by parts", expected="a name that ends in .h5", got=str(out))
    program = source if isinstance(source, LoihiProgram) else load_program(program_path(source))
    if overflow is not None:
        program = replace(program, overflow=overflow)
    engine = FastEngine(program, device=device)
    run = StreamRun(engine, kept if out is not None else frozenset())
    with ExitStack() as stack:
        several = isinstance(inputs, Iterator)
        for part in inputs if isinstance(inputs, Iterator) else (inputs,):
            refuse_same_file(input=part, out=out, counts=counts)
            with open_parts(_opens(part, program, steps), program.inputs, **_steps(program, steps)) as parts:
                prove_no_overflow(program, num_steps=parts.num_steps)
                if out is not None and run.writer is None:
                    layouts = layouts_of(program, parts, run.kept, once=not several)
                    together = engine.block(parts.num_steps, parts.batch)[1]
                    run.writer = stack.enter_context(trace_writer(Path(out), layouts, parts.num_steps, together))
                run.samples(parts, progress)
        found = run.finish()
    if counts is not None:
        save_counts(found.counts, Path(counts))
    return found


class StreamRun:
    """A run of parts of samples. writer: of the trace, if there is to be one."""

    def __init__(self, engine: FastEngine, kept: frozenset[str]) -> None:
        self.engine, self.kept = engine, kept
        self.writer: TraceWriter | None = None
        names = [node.name for node in engine.program.neurons]
        self.overflow = {kind: dict.fromkeys(names, 0) for kind in ("wraps", "saturations")}
        self.sums: list[np.ndarray] = []
        self.readouts: list[dict[str, np.ndarray]] = []
        self.lengths: list[np.ndarray] = []
        self.labels: list[np.ndarray | None] = []

    def samples(self, parts: InputParts, progress: Progress | None) -> None:
        """Run some samples."""
        keeper = PartKeeper(self.engine.program, parts, self.writer, self.kept, self.overflow)
        readouts, sums = self.engine.through(keeper, counted=True, progress=progress)
        self.sums += sums
        self.readouts.append(readouts)
        self.lengths.append(parts.length)
        self.labels.append(parts.label)

    def finish(self) -> Streamed:
        if not self.lengths:
            raise LavatubeError("input is empty", where="input", expected="at least one part", got="none")
        engine, length = self.engine, np.concatenate(self.lengths)
        readouts = {name: np.concatenate([each[name] for each in self.readouts]) for name in self.readouts[0]}
        labels = [label for label in self.labels if label is not None]
        label = np.concatenate(labels) if len(labels) == len(self.labels) else None
        meta = {
            "engine": "fast", "device": engine.device, "versions": versions(), "program_sha256": engine.sha256,
            "overflow": self.overflow,
        }  # fmt: skip
        if self.writer is not None:
            self.writer.finish(readouts, length, meta)
        return Streamed(readouts, length, label, engine.counts(self.sums), meta)


class PartKeeper:
    """A `Keeper` that reads events when they are wanted, and writes or forgets what was made."""

    def __init__(
        self,
        program: LoihiProgram,
        parts: InputParts,
        writer: TraceWriter | None,
        kept: frozenset[str],
        overflow: dict[str, dict[str, int]],
    ) -> None:
        self.program, self.parts, self.writer, self.kept, self.overflow = program, parts, writer, kept, overflow
        self.num_steps, self.length = parts.num_steps, parts.length
        if writer is not None and writer.num_steps != parts.num_steps:
            expected = f"{writer.num_steps} timesteps, as the first part"
            raise LavatubeError("parts of one trace", where=parts.where, expected=expected, got=str(parts.num_steps))
        self.first = 0 if writer is None else writer.grow(parts.batch)
        self.shapes = {node.name: node.shape for node in program.neurons}

    def input(self, node: InputNode, steps: slice, rows: slice, device: str) -> torch.Tensor:
        """See `Keeper`."""
        events = self.parts.read(node, steps, rows)
        if self.writer is not None:
            self._write(f"input/{node.name}", steps, rows, events.astype(dtype_of(*node.event_range)))
        return on_device(events, node, device)

    def stretch(self, name: str, steps: slice, rows: slice, made: Steps) -> None:
        """See `Keeper`."""
        if self.writer is None:
            return
        for kind, value in (("spikes", made.events), ("u", made.u), ("v", made.v)):
            if value is not None and (kind == "spikes" or kind in self.kept):
                self._write(f"{kind}/{name}", steps, rows, seen_as(value.cpu().numpy(), self.shapes[name]))

    def _write(self, key: str, steps: slice, rows: slice, values: np.ndarray) -> None:
        """Nothing beyond a sample's length."""
        assert self.writer is not None
        alive = np.arange(steps.start, steps.stop)[:, None] < self.length[rows]
        if not alive.all():
            values = values * alive.reshape(*alive.shape, *(1,) * (values.ndim - 2)).astype(values.dtype)
        self.writer.write(key, steps, slice(rows.start + self.first, rows.stop + self.first), values)


def layouts_of(program: LoihiProgram, parts: InputParts, kept: frozenset[str], *, once: bool) -> dict[str, Layout]:
    """Of a trace of this program, by key. once: no other samples follow, so a static input can be written once."""
    found = {}
    for node in program.inputs:
        static = once and node.name in parts.static and bool((parts.length > 0).all())
        found[f"input/{node.name}"] = Layout(node.shape, dtype_of(*node.event_range), node.max_value == 1, static)
    for neurons in program.neurons:
        binary = neurons.event_range == (0, 1)
        found[f"spikes/{neurons.name}"] = Layout(neurons.shape, event_dtype(neurons), binary)
        found |= {f"{kind}/{neurons.name}": Layout(neurons.shape, np.int32) for kind in sorted(kept)}
    return found


def _opens(part: Inputs, program: LoihiProgram, steps: int | None) -> InputBatch | Path:
    return Path(part) if isinstance(part, (Path, str)) else as_batch(part, program.inputs, program.num_steps, steps)


def _steps(program: LoihiProgram, steps: int | None) -> dict[str, Any]:
    return {"default_steps": program.num_steps, "steps": steps}
