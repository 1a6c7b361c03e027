"""Level 0 parity: run every engine on the same samples and compare each with the reference."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lavatube.errors import LavatubeError
from lavatube.files import refuse_same_file, require_writable_file
from lavatube.inputs import InputBatch
from lavatube.program import LoihiProgram
from lavatube.program_file import load_program, program_sha256
from lavatube.sim.compare import TraceComparison, compare, joined
from lavatube.sim.counts import Counts, count
from lavatube.sim.explain.again import explain_traces, explained
from lavatube.sim.kept_parts import KeptParts
from lavatube.sim.parity_report import INDEPENDENCE, EngineParity, ParityReport, save_parity
from lavatube.sim.parity_samples import is_post_training, lava_takes_every, sampled_words, samples_for
from lavatube.sim.parity_tally import Tally, energy_parity, independence_of
from lavatube.sim.run import program_path, run
from lavatube.sim.trace_file import OpenTrace, WholeTrace, open_trace, read_trace

Progress = Callable[[int, int, str], None]
NEURON_STEPS_AT_ONCE = 1 << 27  # of the samples that are compared together; bounds the memory


def parity(
    source: Path | str,
    *,
    data: str | Path | None = None,
    against: Iterable[str] | None = None,
    samples: int | None = None,
    out: Path | str | None = None,
    record: Iterable[str] = (),
    conv: str = "auto",
    stock_only: bool = False,
    timeout: float | None = None,
    workers: int | None = None,
    device: str = "cpu",
    explain: bool = False,
    data_dir: Path | None = None,
    progress: Progress | None = None,
) -> ParityReport:
    """Compare engines with the reference, tolerance zero; write parity.json to `out`.

    A run folder's parity.json is written when all engines and samples were compared; else give `out`.

    source:  a program file or a run folder.  data: a data set name (its test split) or X.npz; by default the data
             that the run folder was trained on, or, of `quantize FILE.nir`, was calibrated on.  against: by default
             fast, lava, and torch for a run folder with a checkpoint.
    samples: only the first so many; without, Lava takes of a large set evenly spaced ones, and the report says so
             (`lava_takes_every`).
    explain: say why, where an engine differs (its samples are run again).
    conv, stock_only, timeout (seconds for each part of the samples), workers: for Lava, see `run`. An interrupted
             comparison that ends in a file goes on with what Lava had done.
    raises:  LavatubeError for bad input, an unknown engine, an engine that cannot run, or a folder whose files were not
             made from one another.
    """
    folder = Path(source) if Path(source).is_dir() else None
    file = program_path(source)
    program = load_program(file)
    after_training = folder is not None and is_post_training(folder)
    if samples is not None and samples < 1:
        raise LavatubeError("--samples", expected="at least 1", got=str(samples))
    engines = list(against) if against else ["fast", "lava", *(["torch"] if folder and not after_training else [])]
    unknown = [name for name in engines if name not in INDEPENDENCE]
    if unknown:
        raise LavatubeError("unknown engine", expected=", ".join(INDEPENDENCE), got=", ".join(unknown))
    if "torch" in engines and folder is None:
        expected = "a run folder: this engine runs the quantized checkpoint itself"
        raise LavatubeError("--against torch", where=str(source), expected=expected, got="a program")
    refuse_same_file(program=file, data=data, out=out)
    if out is not None:
        require_writable_file(Path(out))
    batch = samples_for(program, folder, data, data_dir, samples)
    starts = range(0, batch.batch, _chunk(program, batch))
    tallies = {name: Tally() for name in engines}
    every = dict.fromkeys(engines, 1)
    if "lava" in every and samples is None:
        every["lava"] = lava_takes_every(program, batch.num_steps, batch.length)
    # a partial comparison does not replace the full one
    target = folder / "parity.json" if folder is not None and against is None and samples is None else None
    target = target if out is None else Path(out)
    keep = None if target is None else KeptParts(target)
    labelled = batch.label is not None and len(program.readouts) == 1
    correct = 0
    stages = len(starts) * (len(engines) + 1)
    for number, start in enumerate(starts):
        part = batch.samples(start + starts.step, start)
        if batch.length.any() and not part.length.any():
            continue  # nothing in it to compare
        done, which = number * (len(engines) + 1), f"samples {start}..{start + part.batch - 1}, "
        note = partial(_inner, progress, stages, which if len(starts) > 1 else "")
        note(done, "reference", 0, 1)
        reference = run(program, part, backend="reference", record=record, progress=partial(note, done, "reference"))
        counts = count(program, reference)
        correct += int((reference.prediction == part.label).sum()) if labelled else 0
        for index, name in enumerate(engines, start=done + 1):
            note(index, name, 0, 1)
            origin: Any = folder if name == "torch" else program
            which_of = range(-(-start // every[name]) * every[name], start + part.batch, every[name])
            taken, theirs, their_counts = part, reference, counts
            if every[name] > 1:
                taken = part.samples(part.batch, which_of.start - start, every[name])
                if not taken.length.any():
                    continue
                theirs = WholeTrace(reference).part(slice(which_of.start - start, part.batch, every[name]))
                their_counts = count(program, theirs)
            started = time.perf_counter()
            trace = run(
                origin,
                taken,
                backend=name,
                record=record,
                conv=conv,
                stock_only=stock_only,
                timeout=timeout,
                workers=workers,
                keep=keep,
                overflow=program.overflow,
                device=_device(name, device),
                progress=partial(note, index, name),
            )
            comparison = compare(theirs, trace, names=("reference", name))
            seconds = time.perf_counter() - started
            tallies[name].add(which_of, comparison, count(program, trace), their_counts, trace.meta, seconds)
    accuracy = 100.0 * correct / batch.batch if labelled else None
    report = ParityReport(
        "reference",
        tuple(tally.result(name, sampled_words(batch.batch, every[name])) for name, tally in tallies.items()),
        batch.batch,
        batch.num_steps,
        program_sha256(program),
        accuracy,
    )
    if explain and not report.equal:
        report = explained(
            report,
            program,
            batch,
            lambda name, part: run(
                folder if name == "torch" and folder is not None else program,
                part,
                backend=name,
                record=("u", "v"),
                conv=conv,
                stock_only=stock_only,
                timeout=timeout,
                workers=workers,
                overflow=program.overflow,
                device=_device(name, device),
            ),
        )
    if target is not None and keep is not None:
        save_parity(report.to_json(), target)
        keep.forget()
    return report


def parity_of_traces(
    a: Path | str,
    b: Path | str | None,
    *,
    program: Path | str | None = None,
    explain: bool = False,
    out: Path | str | None = None,
) -> ParityReport:
    """Compare two trace files, wherever they were made; with their program their counts and joules, too, and why.

    raises: LavatubeError if they are not comparable, or not of that program.
    """
    if explain and program is None:
        raise LavatubeError("--explain of two traces needs their program", remedy="give --program FILE")
    if b is None:
        raise LavatubeError("one trace", where=str(a), expected="two traces: A.npz B.npz")
    for trace in (a, b):
        refuse_same_file(trace=trace, out=out)
    loaded = None if program is None else load_program(program_path(program))
    with open_trace(Path(a)) as left, open_trace(Path(b)) as right:
        comparison, counts = _by_samples(left, right, (Path(a).name, Path(b).name), loaded)
    hashes = [str(trace.meta["program_sha256"]) for trace in (left, right) if "program_sha256" in trace.meta]
    name = str(right.meta.get("engine", Path(b).name))
    independence = "made by two programs" if len(set(hashes)) > 1 else independence_of(name, right.meta)
    equal = joules = why = None
    if counts is not None:
        hashes = [counts[0].program_sha256]
        equal, joules = counts[0] == counts[1], energy_parity(*counts)
    if explain and program is not None and loaded is not None and not comparison.equal:
        folder = Path(program) if Path(program).is_dir() else None
        names = Path(a).name, Path(b).name
        found = explain_traces(loaded, read_trace(Path(a)), read_trace(Path(b)), folder=folder, names=names)
        why = None if found is None else found.to_json()
    engine = EngineParity(name, comparison, equal, independence, right.meta, 0.0, joules, why)
    reference = str(left.meta.get("engine", Path(a).name))
    report = ParityReport(reference, (engine,), left.batch, left.num_steps, hashes[0] if hashes else "")
    if out is not None:
        save_parity(report.to_json(), Path(out))
    return report


def _by_samples(
    left: OpenTrace, right: OpenTrace, names: tuple[str, str], program: LoihiProgram | None
) -> tuple[TraceComparison, tuple[Counts, Counts] | None]:
    """Compare some samples at a time where a file allows that: (comparison, counts of both, given their program)."""
    size = max(1, NEURON_STEPS_AT_ONCE // max(1, left.neurons * left.num_steps))
    if (left.batch, left.num_steps) != (right.batch, right.num_steps) or not left.length.any():
        size = max(left.batch, right.batch)  # which is refused as a whole
    parts, counts = [], None
    for start in range(0, left.batch, size):
        pair = [trace.part(slice(start, min(start + size, trace.batch))) for trace in (left, right)]
        if pair[0].length.any() or not left.length.any() or pair[1].length.any():
            numbers = range(start, min(start + size, left.batch))
            parts.append((numbers, compare(pair[0], pair[1], names=names)))
        if program is not None:
            a, b = (count(program, trace) for trace in pair)
            counts = (a, b) if counts is None else (counts[0] + a, counts[1] + b)
    return joined(parts), counts


def _chunk(program: LoihiProgram, batch: InputBatch) -> int:
    """Samples to compare at once; the reference engine holds some ten int64 per neuron and the traces one byte."""
    neurons = sum(int(np.prod(synapse.out_shape)) for synapse in program.synapses)
    return max(1, NEURON_STEPS_AT_ONCE // (neurons * batch.num_steps))


def _inner(progress: Progress | None, stages: int, which: str, stage: int, name: str, done: int, total: int) -> None:
    """Progress inside one engine's run, as a share of that stage."""
    if progress is not None:
        progress(stage, stages, f"{which}{name} {100 * done // max(total, 1)} %")


def _device(engine: str, device: str) -> str:
    return device if engine in ("torch", "fast") else "cpu"
