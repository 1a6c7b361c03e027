"""FloatTrace: what the float simulator returns; integers where they are integers, floats where they are not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lavatube.errors import LavatubeError
from lavatube.files import whole_file
from lavatube.trace import FLOAT_TRACE, NPZ_ERRORS, read_npz

GROUPS = ("input", "spikes", "output", "v")


@dataclass(frozen=True)
class FloatTrace:
    """Spikes of every neuron node at every step, the values of every output, and on request the membrane potentials.

    input:  {input node: [T, B, ...]} as given.
    spikes: {spiking node: [T, B, ...] uint8, or int32 where a step holds more than 255}, in order of execution.
    output: {output node: [T, B, ...] float}, what reaches it at every step.
    v:      {neuron node: [T, B, ...] float} after the step, after the reset; empty when not recorded.
    length: [B] int64, steps that count for each sample; beyond it everything is zero.
    meta:   engine, versions, the contract as JSON, every assumption, path and digest of the graph.
    """

    input: Mapping[str, np.ndarray]
    spikes: Mapping[str, np.ndarray]
    output: Mapping[str, np.ndarray]
    length: np.ndarray
    meta: Mapping[str, Any]
    v: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.input or not self.output:
            raise LavatubeError("float trace", expected="at least one input and one output")
        size = next(iter(self.input.values())).shape[:2]
        for kind in GROUPS:
            for name, value in getattr(self, kind).items():
                if value.shape[:2] != size or value.dtype.kind not in ("iu" if kind == "spikes" else "iufb"):
                    got = f"{value.dtype} {value.shape}"
                    expected = f"{'integers' if kind == 'spikes' else 'numbers'} [{size[0]}, {size[1]}, ...]"
                    raise LavatubeError(f"{kind}/{name} does not fit the trace", expected=expected, got=got)
        if self.length.shape != size[1:] or self.length.dtype.kind not in "iu":
            raise LavatubeError("trace length", expected=f"[{size[1]}] integers", got=str(self.length.shape))

    @property
    def readout(self) -> dict[str, np.ndarray]:
        """{output node: [B, ...] float64}, the sum over the timesteps within `length`."""
        return {name: value.sum(axis=0, dtype=np.float64) for name, value in self.output.items()}

    @property
    def num_steps(self) -> int:
        return int(next(iter(self.input.values())).shape[0])

    @property
    def batch(self) -> int:
        return int(self.length.shape[0])


def save_float_trace(trace: FloatTrace, path: Path) -> None:
    """Write `trace.npz` (compressed, no pickle)."""
    order = {kind: list(getattr(trace, kind)) for kind in GROUPS}
    arrays: dict[str, np.ndarray] = {"length": trace.length}
    for kind in GROUPS:
        arrays |= {f"{kind}/{name}": value for name, value in getattr(trace, kind).items()}
    arrays |= {f"readout/{name}": value for name, value in trace.readout.items()}
    arrays["meta"] = np.array(json.dumps({**trace.meta, "kind": FLOAT_TRACE, "order": order}, sort_keys=True))
    with whole_file(path) as temporary, temporary.open("wb") as handle:
        np.savez_compressed(handle, **arrays)


def is_float_trace(path: Path) -> bool:
    """Whether `save_float_trace` wrote a file, by its meta alone."""
    try:
        with np.load(path, allow_pickle=False) as opened:
            return bool(json.loads(str(opened["meta"]))["kind"] == FLOAT_TRACE)
    except NPZ_ERRORS:
        return False


def load_float_trace(path: Path) -> FloatTrace:
    """Read what `save_float_trace` wrote. raises: LavatubeError if the file is missing, damaged or another trace."""
    arrays = read_npz(path, kind="a float trace (trace.npz)")
    try:
        meta = json.loads(str(arrays["meta"]))
        if meta.pop("kind") != FLOAT_TRACE:
            raise ValueError("another kind")
        order = meta.pop("order")
        groups = {kind: {str(name): arrays[f"{kind}/{name}"] for name in order[kind]} for kind in GROUPS}
        return FloatTrace(length=arrays["length"], meta=meta, **groups)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LavatubeError("not a float trace", where=str(path), got=str(error)) from error
    except LavatubeError as error:
        raise LavatubeError(str(error), where=str(path)) from error
