"""The artifacts of a folder, as many as are there; what is damaged is said, not raised."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lavatube.convert.lineage import LINKS, is_current
from lavatube.errors import LavatubeError
from lavatube.files import read_json
from lavatube.inputs import InputBatch, load_inputs
from lavatube.program import LoihiProgram
from lavatube.program_file import load_program, program_sha256
from lavatube.sim.counts import load_counts
from lavatube.sim.parity_samples import samples_for
from lavatube.sim.report.forms import FORMS, Metrics, require_form
from lavatube.trace import SpikeTrace, load_trace
from lavatube.trained import QuantizedNetwork, load_quantized

Json = Mapping[str, Any]
Read = TypeVar("Read")
SAMPLES = 512  # that the page runs for predictions, where there are labels
NOT_TRACES = ("input.npz",)


@dataclass(frozen=True)
class Artifacts:
    """What is not there is None. troubles: sentences on what is damaged, stale or foreign to the program.

    traces: {file name: trace} of the folder's traces of this program; batch: samples at hand; history: rows as text.
    """

    folder: Path
    config: Json | None
    quantized: QuantizedNetwork | None
    program: LoihiProgram | None
    parity: Json | None
    counts: Json | None
    energy: Json | None
    history: Sequence[Mapping[str, str]]
    traces: Mapping[str, SpikeTrace]
    batch: InputBatch | None
    troubles: Sequence[str]

    @property
    def sha256(self) -> str:
        return "" if self.program is None else program_sha256(self.program)


def load_artifacts(folder: Path, data_dir: Path | None = None) -> Artifacts:
    """Read a folder. raises: LavatubeError if it is no folder, or holds nothing of lavatube."""
    if not folder.is_dir():
        raise LavatubeError("no such folder", where=str(folder), expected="a folder with artifacts")
    troubles: list[str] = []

    def read(name: str, work: Callable[[Path], Read]) -> Read | None:
        if not (folder / name).is_file():
            return None
        try:
            return work(folder / name)
        except LavatubeError as error:
            troubles.append(str(error))
            return None

    def json(path: Path) -> Json:
        value = read_json(path, kind=path.name)
        if path.name == "parity.json" and value.get("level") == 1:
            what = "says only how the float network agrees (level 1)"
            raise LavatubeError(what, where=str(path), remedy=f"lavatube parity {folder} adds level 0")
        require_form(value, FORMS[path.name], str(path))
        return value

    program = read("program.safetensors", load_program)
    sha256 = None if program is None else program_sha256(program)
    quantized = read("quantized.safetensors", _quantized)
    made = {name: read(f"{name}.json", json) for name in ("config", "parity", "energy")}
    made["counts"] = read("counts.json", lambda path: load_counts(path).to_json())
    for name, value in made.items():
        if value is not None and sha256 and value.get("program_sha256", sha256) != sha256:
            troubles.append(f"{name}.json was made from another program than program.safetensors")
    troubles += _stale(folder)
    traces = {}
    for path in sorted(folder.glob("*.npz")):
        trace = None if path.name in NOT_TRACES else read(path.name, load_trace)
        if trace is not None and sha256 in (None, trace.meta.get("program_sha256")):
            traces[path.name] = trace
    batch = None
    if program is not None:
        inputs, steps = program.inputs, program.num_steps
        batch = read("input.npz", lambda path: load_inputs(path, inputs, default_steps=steps).samples(SAMPLES))
        batch = batch or _of_its_data(folder, program, quantized, data_dir)
    found = Artifacts(
        folder, made["config"], quantized, program, made["parity"], made["counts"], made["energy"],
        read("history.csv", _history) or (), traces, batch, troubles,
    )  # fmt: skip
    if not any((found.config, quantized, program, found.parity, found.counts, found.energy, traces, found.history)):
        raise LavatubeError(
            "nothing to report", where=str(folder), expected="artifacts of lavatube", got="; ".join(troubles) or "none"
        )
    return found


def _quantized(path: Path) -> QuantizedNetwork:
    network = load_quantized(path)
    require_form(network.metrics, Metrics, str(path))
    return network


def _history(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as handle:
            return [{str(k): v or "" for k, v in row.items() if isinstance(v, str)} for row in csv.DictReader(handle)]
    except (OSError, ValueError, csv.Error) as error:
        raise LavatubeError("not readable as CSV", where=str(path), got=str(error)) from error


def _stale(folder: Path) -> list[str]:
    found = []
    for name, (origin, _, command) in LINKS.items():
        try:
            both = (folder / name).is_file() and (folder / origin).is_file()
            if both and not is_current(folder, name):
                found.append(f"{name} was not made from the {origin} beside it: lavatube {command}")
        except LavatubeError:
            continue  # said when it was read
    return found


def _of_its_data(
    folder: Path, program: LoihiProgram, quantized: QuantizedNetwork | None, data_dir: Path | None
) -> InputBatch | None:
    """Samples of the data that the folder was trained on, where these are at hand."""
    try:
        if quantized is not None:
            return samples_for(program, folder, None, data_dir, SAMPLES)
    except LavatubeError:
        return None  # the data are not at hand
    return None
