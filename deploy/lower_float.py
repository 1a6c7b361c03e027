"""A float .nir file of any platform -> LoihiProgram: quantize it under its contract, and accept it for a target."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lavatube.contract import ExecutionContract
from lavatube.contract_presets import with_timestep
from lavatube.convert.float_graph.given import choose_contract, float_inputs
from lavatube.convert.float_graph.raw import RawGraph, raw_from_file
from lavatube.convert.float_graph.read import read_float_graph
from lavatube.convert.post_training.encoding import events_of, negative_of
from lavatube.convert.post_training.quantize_graph import quantize_graph
from lavatube.convert.program_metadata import PROGRAM_KEY, source_of
from lavatube.convert.program_to_nir import program_to_nir
from lavatube.convert.to_nir import METADATA_KEY
from lavatube.deploy.accept import accept
from lavatube.errors import LavatubeError
from lavatube.files import require_writable, sha256_of_file, whole_file, write_json
from lavatube.inputs import InputBatch, labels_of, save_inputs
from lavatube.program import LoihiProgram, Overflow
from lavatube.program_file import save_program
from lavatube.trace import read_npz, within_length

REPORT = "quantization.json"
EVENTS = "input.npz"


def lower_float(
    path: Path | str,
    *,
    contract: ExecutionContract | str | None = None,
    dt: float | None = None,
    data: Mapping[str, np.ndarray] | np.ndarray | Path | str | None = None,
    steps: int | None = None,
    out: Path | str | None = None,
    weight_bits: int = 8,
    target: str = "loihi2",
    overflow: Overflow = "strict",
    strict: bool = False,
    num_steps: int | None = None,
    input_bits: int | None = None,
    stage: str = "lower",
) -> LoihiProgram:
    """Quantize a float NIR file after training; write the program to `out` if given.

    contract: as for `run_float`.  data: X.npz or arrays in the file's units, to choose the units by; `steps`: of a
              static input. Without data the units come from the weights and the bounds.
    strict:   refuse every record of stage "lower": where the program computes something else than the contract, and,
              unless `stage` is "quantize", every rounding.
    raises:   UnsupportedError for what no program computes, LavatubeError for bad input, or what the target lacks.
    """
    graph = read_float_graph(path)
    chosen, noted = choose_contract(graph, contract)
    chosen = with_timestep(chosen, dt, contract)
    values: dict[str, np.ndarray] | None = None
    length = None
    if data is not None:
        values, length = float_inputs(graph, data, steps)
    program = quantize_graph(
        graph, chosen, data=values, length=length, weight_bits=weight_bits, target=target, overflow=overflow,
        num_steps=num_steps, input_bits=input_bits, stage=stage,
    )  # fmt: skip
    records = [{"stage": "read", **record} for record in noted]
    program = replace(program, lossy=(*records, *program.lossy))
    return accept(program, where=str(path), strict=strict, out=out)


def quantize_float(
    path: Path | str,
    *,
    out: Path | str,
    data: Mapping[str, np.ndarray] | np.ndarray | Path | str | None = None,
    steps: int | None = None,
    **settings: Any,
) -> LoihiProgram:
    """Quantize a float NIR file into a folder.

    There: program.safetensors; model.nir, of which `lower` makes the same program, where NIR can draw it; float.nir,
    the file itself; quantization.json; and with data input.npz, the same samples as events of the program.
    settings: as for `lower_float`.
    raises:   as `lower_float`.
    """
    folder = Path(out)
    require_writable(folder)
    program = lower_float(path, data=data, steps=steps, stage="quantize", **settings)
    if Path(path).resolve() != (folder / "float.nir").resolve():
        with whole_file(folder / "float.nir") as temporary:
            temporary.write_bytes(Path(path).read_bytes())
    said: dict[str, Any] = {"unsaid_in_model_nir": [], "no_model_nir": ""}
    try:
        said["unsaid_in_model_nir"] = list(program_to_nir(program, folder / "model.nir", partly=True).unsaid)
        program = replace(program, source=source_of(program, sha256_of_file(folder / "model.nir")))
    except LavatubeError as error:
        (folder / "model.nir").unlink(missing_ok=True)  # of another program
        said["no_model_nir"] = str(error)
    if data is not None:
        save_inputs(encoded_samples(program, path, data, steps), folder / EVENTS)
    write_json(folder / REPORT, report(program) | said)
    save_program(program, folder / "program.safetensors")
    return program


def report(program: LoihiProgram) -> dict[str, Any]:
    """What quantization did, for people and for JSON."""
    return {
        "kind": "post-training quantization",
        "source_sha256": program.source["sha256"],
        "num_steps": program.num_steps,
        "inputs": {
            node.name: {"message_bits": node.message_bits, "scale": program.scales[node.name]}
            for node in program.inputs
        },
        "populations": {
            node.name: {"vth": node.vth, "du": node.du, "dv": node.dv, "reset": node.reset} for node in program.neurons
        },
        "lossy": [dict(record) for record in program.lossy],
    }


def is_float_nir(path: Path | str) -> bool:
    """Whether a .nir file carries no integers of ours. raises: LavatubeError if it is unsafe or no NIR."""
    raw = raw_from_file(Path(path))
    return not isinstance(raw, RawGraph) or not {METADATA_KEY, PROGRAM_KEY} & set(raw.metadata)


def encoded_samples(
    program: LoihiProgram,
    path: Path | str,
    data: Mapping[str, np.ndarray] | np.ndarray | Path | str,
    steps: int | None,
    *,
    default: int | None = None,
) -> InputBatch:
    """Samples in the units of the float file at `path` as events of its program, with their labels.

    raises: as `float_inputs` and `encoded`.
    """
    values, length = float_inputs(read_float_graph(path), data, steps, default=default)
    label = read_npz(Path(data), kind="X.npz").get("label") if isinstance(data, (str, Path)) else None
    batch = encoded(program, values, length)
    return replace(batch, label=labels_of(label, batch.batch, str(data)))


def encoded(program: LoihiProgram, values: Mapping[str, np.ndarray], length: np.ndarray | None) -> InputBatch:
    """Real inputs [T, B, ...] as the events of a program that was quantized from a float file; 0 beyond a length.

    raises: LavatubeError for numbers that its encoding does not reach.
    """
    first = next(iter(values.values()))
    lengths = np.full(first.shape[1], len(first), np.int64) if length is None else np.asarray(length, np.int64)
    scales = {node.name: program.scales.get(node.name, 1.0) for node in program.inputs}
    events = {}
    for node in program.inputs:
        name, scale = float_input(program, node.name, values), scales[node.name]
        value = within_length(np.asarray(values[name], np.float64), lengths)
        with np.errstate(over="ignore"):  # refused
            scaled = np.rint(value / scale)
        signed = scales.get(negative_of(name), 1.0) < 0
        if scaled.max(initial=0) > node.max_value or (scaled.min(initial=0) < 0 and not signed):
            ends = sorted((0.0 if not signed else -node.max_value * scale, node.max_value * scale))
            raise LavatubeError(
                "input values are outside the program's encoding", where=name,
                expected=f"{ends[0]:g}..{ends[1]:g} ({node.message_bits} bits, each worth {scale:g})",
                got=f"{value.min():g}..{value.max():g}",
                remedy="quantize with data that reach as far, or with --input-bits",
            )  # fmt: skip
        events[node.name] = events_of(value, scale, node.message_bits).reshape(*scaled.shape[:2], *node.shape)
    return InputBatch(events, lengths)


def float_input(program: LoihiProgram, name: str, inputs: Iterable[str]) -> str:
    """The input of the float file that an input of the program takes the events of. inputs: those of the file."""
    negative = program.scales.get(name, 1.0) < 0
    return next((each for each in inputs if negative and negative_of(each) == name), name)
