"""Level 0 parity: run every engine on the same samples and compare each with the reference."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from lavatube.errors import LavatubeError
from lavatube.inputs import InputBatch, load_inputs, make_inputs
from lavatube.program import LoihiProgram
from lavatube.program_file import load_program, program_sha256
from lavatube.sim.compare import compare
from lavatube.sim.counts import count
from lavatube.sim.parity_report import INDEPENDENCE, EngineParity, ParityReport, save_parity
from lavatube.sim.run import program_path, run
from lavatube.trace import load_trace
from lavatube.trained import load_quantized

Progress = Callable[[int, int, str], None]


def parity(
    source: Path | str,
    *,
    data: str | Path | None = None,
    against: Iterable[str] | None = None,
    samples: int | None = None,
    out: Path | str | None = None,
    record: Iterable[str] = (),
    conv: str = "auto",
    timeout: float | None = None,
    device: str = "cpu",
    data_dir: Path | None = None,
    progress: Progress | None = None,
) -> ParityReport:
    """Compare engines with the reference, tolerance zero; write parity.json to `out`.

    A run folder's parity.json is written when all engines and samples were compared; else give `out`.

    source:  a program file or a run folder.  data: a data set name (its test split) or X.npz; by default the data
             that the run folder was trained on.  against: by default fast, lava, and torch for a run folder.
    samples: only the first so many.
    raises:  LavatubeError for bad input, an unknown engine, or an engine that cannot run.
    """
    folder = Path(source) if Path(source).is_dir() else None
    program = load_program(program_path(source))
    if samples is not None and samples < 1:
        raise LavatubeError("--samples", expected="at least 1", got=str(samples))
    engines = list(against) if against else ["fast", "lava", *(["torch"] if folder else [])]
    unknown = [name for name in engines if name not in INDEPENDENCE]
    if unknown:
        raise LavatubeError("unknown engine", expected=", ".join(INDEPENDENCE), got=", ".join(unknown))
    batch = samples_for(program, folder, data, data_dir)
    batch = batch if samples is None else batch.samples(samples)
    note = progress or (lambda done, total, what: None)
    note(0, len(engines) + 1, "reference")
    reference = run(program, batch, backend="reference", record=record)
    counts = count(program, reference)
    found = []
    for index, name in enumerate(engines):
        note(index + 1, len(engines) + 1, name)
        origin: Any = folder if name == "torch" else program
        started = time.perf_counter()
        trace = run(
            origin,
            batch,
            backend=name,
            record=record,
            conv=conv,
            timeout=timeout,
            device=_device(name, device),
            progress=partial(_inner, note, index + 1, len(engines) + 1, name),
        )
        comparison = compare(reference, trace, names=("reference", name))
        seconds = round(time.perf_counter() - started, 3)
        equal_counts = count(program, trace).layers == counts.layers
        found.append(EngineParity(name, comparison, equal_counts, _independence(name, trace.meta), trace.meta, seconds))
    report = ParityReport(
        "reference", tuple(found), batch.batch, batch.num_steps, program_sha256(program), _accuracy(reference, batch)
    )
    if out is None and folder is not None and samples is None and against is None:
        out = folder / "parity.json"  # a partial comparison does not replace the full one
    if out is not None:
        save_parity(report, Path(out))
    return report


def parity_of_traces(a: Path | str, b: Path | str | None, *, out: Path | str | None = None) -> ParityReport:
    """Compare two trace files, wherever they were made. raises: LavatubeError if they are not comparable."""
    if b is None:
        raise LavatubeError("one trace", where=str(a), expected="two traces: A.npz B.npz")
    left, right = load_trace(Path(a)), load_trace(Path(b))
    comparison = compare(left, right, names=(Path(a).name, Path(b).name))
    hashes = [str(trace.meta["program_sha256"]) for trace in (left, right) if "program_sha256" in trace.meta]
    name = str(right.meta.get("engine", Path(b).name))
    independence = "made by two programs" if len(set(hashes)) > 1 else _independence(name, right.meta)
    engine = EngineParity(name, comparison, None, independence, right.meta, 0.0)
    reference = str(left.meta.get("engine", Path(a).name))
    report = ParityReport(reference, (engine,), left.batch, left.num_steps, hashes[0] if hashes else "")
    if out is not None:
        save_parity(report, Path(out))
    return report


def _inner(note: Progress, stage: int, stages: int, name: str, done: int, total: int) -> None:
    """Progress inside one engine's run, as a share of that stage."""
    note(stage, stages, f"{name} {100 * done // max(total, 1)} %")


def _device(engine: str, device: str) -> str:
    return device if engine in ("torch", "fast") else "cpu"


def _independence(engine: str, meta: Any) -> str:
    rows = (meta.get("processes") or {}).values()
    own = [row for row in rows if isinstance(row, dict) and row.get("stock") is False]
    return "own Lava processes" if own else INDEPENDENCE.get(engine, "unknown")


def _accuracy(trace: Any, batch: InputBatch) -> float | None:
    return None if batch.label is None else float(100 * (trace.prediction == batch.label).mean())


def samples_for(
    program: LoihiProgram, folder: Path | None, data: str | Path | None = None, data_dir: Path | None = None
) -> InputBatch:
    """Samples to compare on: X.npz, a data set's test split, or the test split that a run folder was trained beside."""
    if data is not None and (str(data).endswith(".npz") or Path(data).is_file()):
        return load_inputs(Path(data), program.input, default_steps=program.num_steps)
    from lavatube.train.datasets.catalog import load_data
    from lavatube.train.encoders import Direct
    from lavatube.train.recipe import parse_recipe
    from lavatube.train.samples import EncodedData, prepare

    if data is not None:
        encoded = EncodedData(load_data(str(data), data_dir, num_steps=program.num_steps), Direct(), program.num_steps)
    elif folder is not None:
        recipe = load_quantized(folder / "quantized.safetensors").recipe
        encoded = prepare(parse_recipe(dict(recipe), where=str(folder)), data_dir)
    else:
        raise LavatubeError("no samples", where="parity", expected="--data NAME or --data X.npz")
    split = encoded.dataset.test
    return make_inputs(
        encoded.events(split),
        program.input,
        default_steps=program.num_steps,
        label=split.label,
        where=f"data {encoded.dataset.name}",
    )
