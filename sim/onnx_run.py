"""The onnx engine: ONNX Runtime executes the exported timestep over and over. An independent judge of the integers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lavatube.convert.safe_onnx import load_onnx
from lavatube.deploy.onnx_file.description import StepDescription, described
from lavatube.deploy.onnx_file.write import step_model
from lavatube.errors import LavatubeError
from lavatube.inputs import InputBatch
from lavatube.optional import optional_package
from lavatube.program import LoihiProgram
from lavatube.sim.engine import cut_inputs, dtype_of
from lavatube.trace import SpikeTrace, versions, within_length

SAMPLES_AT_ONCE = 64  # a convolution's windows are held as int64
LOG_ERRORS_ONLY = 3


def run_onnx(
    source: LoihiProgram | Path,
    inputs: InputBatch,
    *,
    record: frozenset[str] = frozenset(),
    progress: Callable[[int, int], None] | None = None,
) -> SpikeTrace:
    """Run a program, written as ONNX in memory, or an .onnx file of `write_onnx` over all samples.

    inputs: checked against the program's input, or `input_of` the file.  record: any of {"u", "v"}.
    raises: LavatubeError for a file that is damaged or not such a model, or that ONNX Runtime refuses.
    """
    model, description, where = _open(source)
    if inputs.events.shape[2:] != description.input.shape:
        expected = f"[T, B, {', '.join(map(str, description.input.shape))}]"
        raise LavatubeError("input shape", where=where, expected=expected, got=str(inputs.events.shape))
    runtime = optional_package("onnxruntime", extra="onnx", purpose="the onnx engine")
    options = runtime.SessionOptions()
    options.log_severity_level = LOG_ERRORS_ONLY
    options.intra_op_num_threads = 1  # many small operators: a second thread doubled the CPU time of a step
    parts = []
    try:
        session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        for start in range(0, inputs.batch, SAMPLES_AT_ONCE):
            part = inputs.samples(start + SAMPLES_AT_ONCE, start)
            parts.append(_loop(session, description, part, record, start, inputs, progress))
    except LavatubeError:
        raise
    except Exception as error:  # ONNX Runtime's errors have no base of their own
        raise LavatubeError("ONNX Runtime refuses the model", where=where, got=str(error)) from error
    joined = {name: np.concatenate([part[name] for part in parts], 0 if name == "readout" else 1) for name in parts[0]}
    readout = joined.pop("readout")
    groups: dict[str, dict[str, np.ndarray]] = {kind: {} for kind in ("spikes", "u", "v")}
    for name, value in joined.items():
        kind, layer = name.split("/", 1)
        groups[kind][layer] = within_length(value, inputs.length)
    return SpikeTrace(
        inputs=cut_inputs(inputs),
        readouts={source.readout.name if isinstance(source, LoihiProgram) else description.readout.name: readout},
        length=inputs.length,
        meta={
            "engine": "onnx",
            "device": "cpu",
            "versions": {**versions(), "onnxruntime": runtime.__version__},
            "program_sha256": description.program_sha256,
        },
        **groups,
    )


def load_step(path: Path) -> tuple[Any, StepDescription]:
    """(onnx.ModelProto, its description) of a file of `write_onnx`.

    raises: LavatubeError for a file that is damaged, or without our description.
    """
    model = load_onnx(path)
    description = described(model, where=str(path))
    if description is None:
        expected = "a file of lavatube export --onnx"
        raise LavatubeError("not one timestep of a spiking network", where=str(path), expected=expected)
    return model, description


def _open(source: LoihiProgram | Path) -> tuple[Any, StepDescription, str]:
    if isinstance(source, LoihiProgram):
        return *step_model(source), "program"
    return *load_step(source), str(source)


def _loop(
    session: Any,
    description: StepDescription,
    inputs: InputBatch,
    record: frozenset[str],
    start: int,
    whole: InputBatch,
    progress: Callable[[int, int], None] | None,
) -> dict[str, np.ndarray]:
    """{"spikes/<layer>", "u/<layer>", "v/<layer>": [T, B, ...]; "readout": [B, classes]} of some samples."""
    state = {
        row.name: np.broadcast_to(
            np.array(row.initial, np.int64), [inputs.batch if isinstance(size, str) else size for size in row.shape]
        )
        for row in description.states
    }
    room = (inputs.num_steps, inputs.batch)
    kept = {row.name: np.zeros((*room, *row.shape), dtype_of(*row.event_range)) for row in description.spikes}
    kept |= {
        f"{kind}/{row.layer}": np.zeros((*room, *row.shape), np.int32)
        for row in description.spikes
        for kind in sorted(record)
    }
    names = [output.name for output in session.get_outputs()]
    readout = np.array(state[description.readout.name])
    for t in range(inputs.num_steps):
        feed = {description.input.name: np.ascontiguousarray(inputs.events[t]), **state}
        out = dict(zip(names, session.run(names, feed), strict=True))
        state = {name: out[f"next/{name}"] for name in state}
        for row in description.spikes:
            low, high = row.event_range
            if out[row.name].min(initial=low) < low or out[row.name].max(initial=high) > high:
                raise LavatubeError(
                    "events beyond what the description says", where=row.name, expected=f"{low}..{high}"
                )
        for name, room_of in kept.items():
            room_of[t] = out[name if name.startswith("spikes/") else f"next/{name}"]
        alive = (t < inputs.length)[:, None]
        readout = np.where(alive, state[description.readout.name], readout)
        if progress is not None:
            progress(start * inputs.num_steps + (t + 1) * inputs.batch, whole.num_steps * whole.batch)
    return {**kept, "readout": readout}
