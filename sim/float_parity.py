"""Level 1 parity: the float network under its contract against its program, within declared bounds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lavatube.contract import ExecutionContract
from lavatube.contract_presets import with_timestep
from lavatube.convert.float_graph.given import choose_contract, float_inputs
from lavatube.convert.float_graph.graph import FloatGraph
from lavatube.convert.float_graph.read import read_float_graph
from lavatube.convert.float_graph.simulate import simulate
from lavatube.convert.post_training.encoding import CLOSE
from lavatube.convert.post_training.network import float_network
from lavatube.convert.post_training.split import Parts, joined, split
from lavatube.deploy.lower_float import encoded, float_input
from lavatube.errors import LavatubeError
from lavatube.files import require_writable_file
from lavatube.float_trace import FloatTrace
from lavatube.inputs import InputBatch
from lavatube.program import LoihiProgram
from lavatube.program_file import load_program, program_sha256
from lavatube.sim.float_energy import EnergyAgreement, energy_agreement
from lavatube.sim.parity_report import save_parity
from lavatube.sim.run import program_path, run
from lavatube.sim.shares import Share, ratio, wilson
from lavatube.trace import SpikeTrace, read_npz, within_length

MAX_COUNT_ERROR, MIN_AGREEMENT, MAX_ENERGY_ERROR = 0.10, 0.90, 0.10  # gates where the user declares none


@dataclass(frozen=True)
class LayerAgreement:
    """count_error: of the spikes of each neuron and sample, sum of differences over the float network's spikes.

    coincidence: spikes that both make in the same timestep, over those that at least one makes.
    """

    layer: str
    spikes_float: int
    spikes_program: int
    count_error: Share
    coincidence: float
    holds: bool


@dataclass(frozen=True)
class ReadoutAgreement:
    """agreement: samples with the same prediction; accuracies in %, None without labels."""

    readout: str
    agreement: Share
    accuracy_float: float | None
    accuracy_program: float | None
    holds: bool


@dataclass(frozen=True)
class FloatParity:
    """Level 1: gates on the measured values; the intervals say how sure they are.

    energy, no_energy: what the float network's spikes would cost on the program's connections, and the program's own;
                  or why that cannot be said.
    input_errors: {input: largest difference between what the float network got and the program's events times their
                  scale}, within the lengths.
    """

    layers: tuple[LayerAgreement, ...]
    readouts: tuple[ReadoutAgreement, ...]
    energy: tuple[EnergyAgreement, ...]
    no_energy: str
    max_count_error: float
    min_agreement: float
    max_energy_error: float
    contract: str
    samples: int
    num_steps: int
    program_sha256: str
    input_errors: Mapping[str, float]
    level: int = 1

    @property
    def holds(self) -> bool:
        rows: tuple[LayerAgreement | ReadoutAgreement | EnergyAgreement, ...] = (
            *self.layers, *self.readouts, *self.energy,
        )  # fmt: skip
        return all(row.holds for row in rows)

    def to_json(self) -> dict[str, Any]:
        return {"kind": "parity", "holds": self.holds, **asdict(self)}


def float_parity(
    source: Path | str,
    *,
    float_file: Path | str | None = None,
    contract: ExecutionContract | str | None = None,
    dt: float | None = None,
    data: Mapping[str, np.ndarray] | np.ndarray | Path | str,
    samples: int | None = None,
    steps: int | None = None,
    max_count_error: float = MAX_COUNT_ERROR,
    min_agreement: float = MIN_AGREEMENT,
    max_energy_error: float = MAX_ENERGY_ERROR,
    out: Path | str | None = None,
    backend: str = "fast",
) -> FloatParity:
    """Run both on the same samples and compare; write the report to `out` (a folder's own parity.json by default).

    source:     a program, or the folder of `lavatube quantize`.  float_file, contract: by default the folder's
                float.nir, and the contract that the program was quantized under.  data: X.npz or arrays in the units
                of the float file.  max_count_error: of each layer; min_agreement: of each read-out's predictions;
                max_energy_error: of the dynamic energy under each default price table.
    raises:     LavatubeError for a program that was made from another file, or bad input.
    """
    folder = Path(source) if Path(source).is_dir() else None
    program = load_program(program_path(source))
    if out is not None:
        require_writable_file(Path(out))
    path = Path(float_file) if float_file is not None else None if folder is None else folder / "float.nir"
    if path is None:
        raise LavatubeError("the float network", where=str(source), expected="--float FILE.nir", got="none")
    graph = read_float_graph(path)
    if graph.sha256 != program.source.get("float_sha256", program.source.get("sha256")):
        remedy = "give the file that it was quantized from"
        raise LavatubeError("the program was not made from this file", where=str(path), remedy=remedy)
    chosen = with_timestep(_contract(program, graph, contract), dt, contract)
    given, length = float_inputs(graph, data, steps)
    values = {name: value[:, :samples] for name, value in given.items()}
    length = None if length is None else length[:samples]
    trace = simulate(graph, chosen, values, length=length, record=["v"])
    batch = encoded(program, values, length)
    made = run(program, batch, backend=backend, record=["v"])
    parts = split(float_network(graph, _contract(program, graph, None)), graph.path)[1]
    spikes = dict(made.spikes) | {
        name: joined(made.spikes, found, tuple(graph.shapes[name]))
        for name, found in parts.items() if all(part.name in made.spikes for part in found)
    }  # fmt: skip
    late = {name: _late(value, chosen.output_lag, trace) for name, value in spikes.items()}
    own = {name: _late(value, chosen.output_lag, trace) for name, value in made.spikes.items()}
    costs, no_costs = energy_agreement(program, batch, own, _by_population(trace, parts), max_energy_error)
    report = FloatParity(
        tuple(_layer(name, trace, late[name], max_count_error) for name in trace.spikes if name in late),
        tuple(_readout(name, program, trace, made, _labels(data, samples), min_agreement) for name in trace.output),
        costs, no_costs, max_count_error, min_agreement, max_energy_error,
        chosen.name, trace.batch, trace.num_steps, program_sha256(program),
        _input_errors(program, values, batch),
    )  # fmt: skip
    if out is None and folder is not None and samples is None:
        out = folder / "parity.json"
    if out is not None:
        save_parity(report.to_json(), Path(out))
    return report


def _contract(program: LoihiProgram, graph: FloatGraph, asked: ExecutionContract | str | None) -> ExecutionContract:
    if asked is None and "contract" in program.source:
        return ExecutionContract.read(json.loads(program.source["contract"]), where="program")
    return choose_contract(graph, asked)[0]


def _input_errors(program: LoihiProgram, values: Mapping[str, np.ndarray], batch: InputBatch) -> dict[str, float]:
    """{input of the float file: the largest difference that its rounding makes; 0 for what is float64's own}"""
    left = {name: within_length(np.asarray(value, np.float64), batch.length) for name, value in values.items()}
    for node, events in batch.by_name.items():
        name = float_input(program, node, values)
        left[name] = left[name] - (events * program.scales.get(node, 1.0)).reshape(left[name].shape)
    found = {name: float(np.abs(value).max(initial=0)) for name, value in left.items()}
    return {name: error if error > CLOSE * abs(program.scales.get(name, 1.0)) else 0.0 for name, error in found.items()}


def _late(made: np.ndarray, lag: int, trace: FloatTrace) -> np.ndarray:
    """The program's spikes at the timestep at which the float network emits them: with a lag, the one after."""
    return within_length(np.concatenate([np.zeros_like(made[:1]), made[:-1]]), trace.length) if lag else made


def _by_population(trace: FloatTrace, parts: Parts) -> dict[str, np.ndarray]:
    """{population of the program: [T, B, ...]}, or [T, B, neurons] of each part of one that became several."""
    found: dict[str, np.ndarray] = {}
    for name, value in trace.spikes.items():
        flat = value.reshape(*value.shape[:2], -1)
        found |= {part.name: flat[:, :, part.index] for part in parts[name]} if name in parts else {name: value}
    return found


def _layer(name: str, trace: FloatTrace, made: np.ndarray, limit: float) -> LayerAgreement:
    there = trace.spikes[name].astype(np.int64)
    here = made.astype(np.int64).reshape(there.shape)
    wrong = np.abs(there.sum(0) - here.sum(0)).reshape(len(trace.length), -1).sum(1)
    total = there.sum(0).reshape(len(trace.length), -1).sum(1)
    error = ratio(wrong, total)
    either = int(np.maximum(there, here).sum())
    same = int(np.minimum(there, here).sum()) / either if either else 1.0
    return LayerAgreement(name, int(there.sum()), int(here.sum()), error, same, error.value <= limit)


def _readout(
    name: str, program: LoihiProgram, trace: FloatTrace, made: SpikeTrace, label: np.ndarray | None, least: float
) -> ReadoutAgreement:
    node = next(node for node in program.readouts if node.name == name)
    value = trace.output[name].reshape(trace.num_steps, trace.batch, -1)
    if node.reads == "voltage":  # after the last timestep of each sample
        read = value[np.maximum(trace.length - 1, 0), np.arange(trace.batch)]
    else:
        read = value.sum(0, dtype=np.float64)
    there, here = np.argmax(read, axis=1), made.predictions[name]
    agreement = wilson(int((there == here).sum()), trace.batch)
    holds = agreement.value >= least
    return ReadoutAgreement(name, agreement, _accuracy(there, label), _accuracy(here, label), holds)


def _accuracy(prediction: np.ndarray, label: np.ndarray | None) -> float | None:
    return None if label is None else 100.0 * float((prediction == label).mean())


def _labels(data: object, samples: int | None) -> np.ndarray | None:
    label = read_npz(Path(data), kind="X.npz").get("label") if isinstance(data, (str, Path)) else None
    return None if label is None else label[:samples]
