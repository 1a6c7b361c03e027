"""SpikeTrace: what every engine returns, in logical time (all layers see tick t at tick t)."""

from __future__ import annotations

import json
import platform
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lavatube.errors import LavatubeError
from lavatube.files import require_file, whole_file
from lavatube.program import only

FLOAT_TRACE = "float_trace"  # `kind` in the meta of one, see float_trace.py


@dataclass(frozen=True)
class SpikeTrace:
    """Spikes of every neuron at every step, the read-outs, and on request the neuron state.

    inputs:     {input node name: [T, B, ...]} integer events given to the network.
    spikes:     {neuron node name: [T, B, ...] uint8, int8 or int32}, in order of the layers.
    readouts:   {read-out node name: [B, classes] int64}.
    u, v:       {neuron node name: [T, B, ...] int32} after the step, in 1/64 of a weight unit; empty when not recorded.
    length:     [B] int64, steps that count for each sample; beyond it everything is zero.
    meta:       engine, device, versions, program_sha256, which process stands for which node.
    """

    inputs: Mapping[str, np.ndarray]
    spikes: Mapping[str, np.ndarray]
    readouts: Mapping[str, np.ndarray]
    length: np.ndarray
    meta: Mapping[str, Any]
    u: Mapping[str, np.ndarray] = field(default_factory=dict)
    v: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.inputs or not self.readouts:
            raise LavatubeError("trace", expected="an input and a read-out", got="none")
        for value in self.inputs.values():
            if value.ndim < 3 or value.dtype.kind not in "iu":
                got = f"{value.dtype} {value.shape}"
                raise LavatubeError("trace input", expected="[T, B, ...] integers", got=got)
        steps, batch = self.num_steps, self.batch
        for kind, group in (("input", self.inputs), ("spikes", self.spikes), ("u", self.u), ("v", self.v)):
            for name, value in group.items():
                if value.shape[:2] != (steps, batch) or value.dtype.kind not in "iu":
                    raise LavatubeError(
                        f"{kind}/{name} does not fit the trace",
                        expected=f"integers [{steps}, {batch}, ...]",
                        got=f"{value.dtype} {value.shape}",
                    )
        for value in self.readouts.values():
            if value.ndim != 2 or value.shape[0] != batch or not value.size or value.dtype != np.int64:
                raise LavatubeError("trace readout", expected=f"[{batch}, classes] int64", got=str(value.shape))
        if self.length.shape != (batch,) or self.length.dtype.kind not in "iu":
            got = f"{self.length.dtype} {self.length.shape}"
            raise LavatubeError("trace length", expected=f"[{batch}] integers", got=got)
        if self.length.min() < 0 or self.length.max() > steps:
            got = f"{self.length.min()}..{self.length.max()}"
            raise LavatubeError("trace length", expected=f"0..{steps} timesteps", got=got)

    @property
    def input(self) -> np.ndarray:
        """Of the only input. raises: UnsupportedError if there are several."""
        return only(self.inputs, "inputs")

    @property
    def readout(self) -> np.ndarray:
        """The only read-out. raises: UnsupportedError if there are several."""
        return only(self.readouts, "read-outs")

    @property
    def predictions(self) -> dict[str, np.ndarray]:
        """{read-out node name: [B] int64, the lowest index of its largest value}."""
        return {name: np.asarray(np.argmax(value, axis=1), np.int64) for name, value in self.readouts.items()}

    @property
    def prediction(self) -> np.ndarray:
        """Of the only read-out. raises: UnsupportedError if there are several."""
        return only(self.predictions, "read-outs")

    @property
    def num_steps(self) -> int:
        return int(next(iter(self.inputs.values())).shape[0])

    @property
    def batch(self) -> int:
        return int(next(iter(self.inputs.values())).shape[1])


def file_keys(kind: str, names: Iterable[str]) -> dict[str, str]:
    """{name: key} of inputs or read-outs in X.npz and trace.npz: `kind` for the only one, else `kind/name`."""
    names = tuple(names)
    return {name: kind if len(names) == 1 else f"{kind}/{name}" for name in names}


def versions() -> dict[str, str]:
    """Versions that belong in every output."""
    from lavatube import __version__

    return {"lavatube": __version__, "python": platform.python_version(), "numpy": np.__version__}


def within_length(value: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Zero everything at and beyond each sample's length. value: [T, B, ...]; length: [B]."""
    steps = value.shape[0]
    if int(length.min()) >= steps:
        return value
    alive = np.arange(steps)[:, None] < length[None, :]
    mask = alive.reshape(*alive.shape, *(1,) * (value.ndim - 2))
    return np.asarray(value * mask.astype(value.dtype))


def save_trace(trace: SpikeTrace, path: Path, *, packed: bool = False) -> None:
    """Write `trace.npz` (compressed, no pickle). packed: binary spikes with one bit each."""
    bits = [name for name, value in trace.spikes.items() if packed and value.dtype == np.uint8 and value.max() <= 1]
    groups = {"input": trace.inputs, "readout": trace.readouts, "prediction": trace.predictions}
    arrays = {key: groups[kind][name] for kind in groups for name, key in file_keys(kind, groups[kind]).items()}
    names = {"layers": list(trace.spikes), "inputs": list(trace.inputs), "readouts": list(trace.readouts)}
    arrays |= {"length": trace.length, "meta": np.array(json.dumps({**trace.meta, **names}, sort_keys=True))}
    for kind, group in (("spikes", trace.spikes), ("u", trace.u), ("v", trace.v)):
        arrays.update({f"{kind}/{name}": value for name, value in group.items()})
    for name in bits:
        value = arrays.pop(f"spikes/{name}")
        arrays |= {f"bits/{name}": np.packbits(value), f"shape/{name}": np.array(value.shape, np.int64)}
    with whole_file(path) as temporary, temporary.open("wb") as handle:
        np.savez_compressed(handle, **arrays)


def load_trace(path: Path) -> SpikeTrace:
    """Read a trace. raises: LavatubeError if the file is missing, truncated or foreign."""
    arrays = read_npz(path, kind="trace.npz")
    missing = {"length", "meta"} - set(arrays)
    if missing:
        raise LavatubeError("not a trace", where=str(path), expected="keys " + ", ".join(sorted(missing)), got="none")
    try:
        meta = json.loads(str(arrays["meta"]))
        if meta.get("kind") == FLOAT_TRACE:
            what, remedy = "a trace of a float network", "`lavatube inspect` shows it"
            raise LavatubeError(what, expected="a trace of a program", remedy=remedy)
        layers = _layers(meta.pop("layers"), arrays)
        for name in layers:
            if f"bits/{name}" in arrays:
                arrays[f"spikes/{name}"] = _unpacked(arrays[f"bits/{name}"], arrays[f"shape/{name}"])
        if not isinstance(meta.get("engine", ""), str) or not isinstance(meta.get("processes") or {}, dict):
            raise ValueError(f"engine {meta.get('engine')!r}, processes {meta.get('processes')!r}")
        groups = {
            kind: {name: arrays[f"{kind}/{name}"] for name in layers if f"{kind}/{name}" in arrays}
            for kind in ("spikes", "u", "v")
        }
        inputs, readouts = (_ends(meta.pop(f"{kind}s"), kind, arrays) for kind in ("input", "readout"))
        return SpikeTrace(inputs=inputs, readouts=readouts, length=arrays["length"], meta=meta, **groups)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LavatubeError("malformed trace", where=str(path), got=str(error)) from error
    except LavatubeError as error:
        raise LavatubeError(str(error), where=str(path)) from error


def _layers(listed: Any, arrays: Mapping[str, np.ndarray]) -> list[str]:
    """Names of the populations. raises: ValueError if they are not those whose spikes are in the file, once each."""
    held = [name.split("/", 1)[1] for name in arrays if name.startswith(("spikes/", "bits/"))]
    if not isinstance(listed, list) or sorted(map(str, listed)) != sorted(held) or len(set(held)) != len(held):
        raise ValueError(f"layers {listed} in meta, spikes of {held}")
    return listed


def _ends(listed: Any, kind: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Inputs or read-outs by name. raises: ValueError if the names are not those in the file, once each."""
    held = [key for key in arrays if key.split("/", 1)[0] == kind]
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        raise ValueError(f"{kind}s {listed} in meta")
    keys = file_keys(kind, listed)
    if len(keys) != len(listed) or sorted(keys.values()) != sorted(held):
        raise ValueError(f"{kind}s {listed} in meta, arrays {held}")
    return {name: arrays[key] for name, key in keys.items()}


def _unpacked(bits: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Binary spikes of a packed population. raises: ValueError if the bits are not as many as the shape says."""
    size = int(np.prod(shape, dtype=object))
    if bits.ndim != 1 or len(bits) != -(-size // 8):
        raise ValueError(f"{bits.shape} bytes for {size} spikes")
    return np.unpackbits(bits, count=size).reshape(tuple(shape.tolist()))


NPZ_ERRORS = (  # what zipfile, zlib and NumPy's header parser raise on damaged bytes
    OSError, ValueError, KeyError, EOFError, AttributeError, TypeError, SyntaxError, RuntimeError, MemoryError,
    OverflowError, tokenize.TokenError, struct.error, zlib.error, zipfile.BadZipFile,
)  # fmt: skip


def read_npz(path: Path, *, kind: str) -> dict[str, np.ndarray]:
    """All arrays of an .npz file, never unpickling."""
    require_file(path, kind=kind)
    if Path(path).suffix == ".npy":
        remedy = 'numpy.savez("x.npz", input=array) makes one of it'
        raise LavatubeError("one array, not a file of named arrays", where=str(path), expected=kind, remedy=remedy)
    try:
        with Path(path).open("rb") as handle, np.load(handle, allow_pickle=False) as opened:
            arrays = {name: opened[name] for name in opened.files}
            if not all(isinstance(array, np.ndarray) for array in arrays.values()):
                raise ValueError("a member that is not an array")
            return arrays
    except NPZ_ERRORS as error:
        raise LavatubeError("damaged or foreign file", where=str(path), expected=kind, got=str(error)) from error
