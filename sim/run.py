"""Run a program, or a checkpoint's own forward, on one of the engines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lavatube.bounds import prove_no_overflow
from lavatube.convert.lineage import refuse_stale
from lavatube.deploy.lava_backend.choose import CONV_CHOICES
from lavatube.errors import LavatubeError
from lavatube.files import refuse_same_file, require_writable_file
from lavatube.inputs import InputBatch, Nodes, load_inputs, make_inputs
from lavatube.program import InputNode, LoihiProgram, Overflow
from lavatube.program_file import load_program
from lavatube.sim.counts import count, save_counts
from lavatube.sim.kept_parts import KeptParts
from lavatube.sim.trace_file import write_trace
from lavatube.trace import SpikeTrace
from lavatube.trained import load_quantized

Progress = Callable[[int, int], None]
Inputs = InputBatch | np.ndarray | Mapping[str, np.ndarray] | Path | str
BACKENDS = ("reference", "fast", "lava", "torch", "onnx")
RECORDABLE = frozenset({"u", "v"})


def run(
    source: LoihiProgram | Path | str,
    inputs: Inputs,
    *,
    backend: str = "fast",
    out: Path | str | None = None,
    counts: Path | str | None = None,
    steps: int | None = None,
    record: Iterable[str] = (),
    device: str = "cpu",
    conv: str = "auto",
    stock_only: bool = False,
    pad_windows: bool = False,
    timeout: float | None = None,
    workers: int | None = None,
    keep: KeptParts | None = None,
    overflow: Overflow | None = None,
    packed: bool = False,
    progress: Progress | None = None,
) -> SpikeTrace:
    """Run and return the trace; write it to `out` if given. A large run in Lava goes on where it was interrupted.

    source:  a LoihiProgram, its file, or a run folder (which `torch` needs: it runs the quantized checkpoint itself).
             For `onnx` also a file of `write_onnx`.
    inputs:  X.npz, an array [T, B, ...] or static [B, ...], {input name: array}, or an InputBatch.
    record:  any of "u", "v".
    conv, stock_only: see `choose_processes`; pad_windows: see `schedules`; timeout: seconds; workers: at most so many
             side by side; keep: for finished parts, by default beside `out` until it is written. All Lava only.
    packed:  write binary spikes with one bit each.
    counts:  counts.json to write, too; the fast engine makes them while it runs.
    raises:  LavatubeError for bad input, an unknown backend, one file to write and read (or twice to write), or when
             `overflow` is strict and an overflow is possible.
    """
    if backend not in BACKENDS:
        raise LavatubeError("unknown backend", expected=", ".join(BACKENDS), got=backend)
    kept = frozenset(record)
    if not kept <= RECORDABLE:
        raise LavatubeError("--record", expected="u and v", got=", ".join(sorted(kept - RECORDABLE)))
    if conv not in CONV_CHOICES:
        raise LavatubeError("--conv", expected=", ".join(CONV_CHOICES), got=conv)
    if timeout is not None and not timeout > 0:
        raise LavatubeError("--timeout", expected="seconds above 0", got=str(timeout))
    program_file = None if isinstance(source, LoihiProgram) else program_path(source)
    if workers is not None and workers < 1:
        raise LavatubeError("--workers", expected="at least 1", got=str(workers))
    refuse_same_file(program=program_file, input=inputs, out=out, counts=counts)
    for path in (out, counts):
        if path is not None:
            require_writable_file(Path(path))
    if counts is not None and backend in ("torch", "onnx"):
        raise LavatubeError("--counts", expected="an engine that runs a program", got=f"--backend {backend}")
    own = None if out is None or keep is not None else KeptParts(Path(out))
    if backend == "torch":
        trace = _run_checkpoint(source, inputs, steps, kept, device, overflow, progress)
    elif backend == "onnx" and not isinstance(source, LoihiProgram) and Path(source).suffix == ".onnx":
        trace = _run_onnx_file(Path(source), inputs, steps, kept, progress)
    else:
        program = source if isinstance(source, LoihiProgram) else load_program(program_path(source))
        if overflow is not None:
            program = replace(program, overflow=overflow)
        batch = as_batch(inputs, program.inputs, program.num_steps, steps)
        prove_no_overflow(program, num_steps=batch.num_steps)
        if counts is not None and backend == "fast":
            from lavatube.sim.fast import FastEngine

            trace, counted = FastEngine(program, device=device).run_counted(batch, record=kept, progress=progress)
            save_counts(counted, Path(counts))
        else:
            lava = {"conv": conv, "stock_only": stock_only, "pad_windows": pad_windows, "timeout": timeout}
            lava |= {"workers": workers, "keep": keep or own}
            trace = _run_program(program, batch, backend, kept, device, lava, progress)
            if counts is not None:
                save_counts(count(program, trace), Path(counts))
    if out is not None:
        write_trace(trace, Path(out), packed=packed)
    if own is not None:
        own.forget()
    return trace


def program_path(source: Path | str) -> Path:
    """The program file itself, or the one in a run folder.

    raises: LavatubeError where the files of the folder were not made from one another.
    """
    path = Path(source)
    if not path.is_dir():
        return path
    refuse_stale(path)
    return path / "program.safetensors"


def as_batch(inputs: Inputs, nodes: Nodes, default_steps: int, steps: int | None) -> InputBatch:
    """Check inputs of any accepted form against the encodings of a program's inputs."""
    if isinstance(inputs, InputBatch):
        events, length, label = inputs.by_name, inputs.length, inputs.label
        return make_inputs(events, nodes, default_steps=default_steps, steps=steps, length=length, label=label)
    if isinstance(inputs, (np.ndarray, Mapping)):
        return make_inputs(inputs, nodes, default_steps=default_steps, steps=steps)
    if not isinstance(inputs, (str, Path)):
        expected = "X.npz, an array, {input name: array} or an InputBatch"
        raise LavatubeError("inputs", expected=expected, got=type(inputs).__name__)
    return load_inputs(Path(inputs), nodes, default_steps=default_steps, steps=steps)


def _run_program(
    program: LoihiProgram,
    batch: InputBatch,
    backend: str,
    record: frozenset[str],
    device: str,
    lava: Mapping[str, Any],
    progress: Progress | None,
) -> SpikeTrace:
    if backend == "reference":
        from lavatube.sim.reference import run_reference

        return run_reference(program, batch, record=record, progress=progress)
    if backend == "fast":
        from lavatube.sim.fast import run_fast

        return run_fast(program, batch, record=record, device=device, progress=progress)
    if backend == "onnx":
        from lavatube.sim.onnx_run import run_onnx

        return run_onnx(program, batch, record=record, progress=progress)
    from lavatube.sim.lava_parts import run_lava

    return run_lava(program, batch, record=record, progress=progress, **lava)


def _run_onnx_file(
    path: Path,
    inputs: Inputs,
    steps: int | None,
    record: frozenset[str],
    progress: Progress | None,
) -> SpikeTrace:
    from lavatube.sim.onnx_run import load_step, run_onnx

    said = load_step(path)[1]
    node = InputNode(said.input.name, said.input.shape, said.input.message_bits)
    return run_onnx(path, as_batch(inputs, node, said.num_steps, steps), record=record, progress=progress)


def _run_checkpoint(
    source: LoihiProgram | Path | str,
    inputs: Inputs,
    steps: int | None,
    record: frozenset[str],
    device: str,
    overflow: Overflow | None,
    progress: Progress | None,
) -> SpikeTrace:
    from lavatube.convert.quantize import overflow as overflow_of
    from lavatube.sim.torch_run import run_torch
    from lavatube.train.quantized import QuantizedModule

    if isinstance(source, LoihiProgram) or not Path(source).is_dir():
        raise LavatubeError(
            "the torch engine runs the quantized checkpoint itself, not a program",
            where=getattr(source, "name", None) or str(source)[:80],
            expected="a run folder with quantized.safetensors",
        )
    path, program = Path(source) / "quantized.safetensors", Path(source) / "program.safetensors"
    network = load_quantized(path)
    if overflow is None and program.is_file():
        overflow = load_program(program).overflow
    module = QuantizedModule(network.layout, network.tensors)
    layout = module.layout
    node = InputNode("input", tuple(layout["input"]["shape"]), layout["input"]["message_bits"])
    batch = as_batch(inputs, node, layout["num_steps"], steps)
    if overflow != "hardware" and (found := overflow_of(module, batch.num_steps)):
        remedy = "fewer timesteps, train and quantize for more (num_steps), or --overflow hardware"
        raise LavatubeError(found, where=str(path), remedy=remedy)
    return run_torch(path, batch, record=record, device=device, progress=progress)
