"""TRACE.h5: a trace that is written and read part by part. docs/files.md says what lies where."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lavatube.files import whole_file
from lavatube.inputs import lengths_of
from lavatube.node_checks import Shape
from lavatube.sim.input_parts import HDF5, dataset, opened_hdf5, reading
from lavatube.trace import SpikeTrace, load_trace, save_trace, within_length

if TYPE_CHECKING:
    import h5py

CHUNK_BYTES = 1 << 18
SAMPLES_OF_A_CHUNK = 64
CHECKED = ("v110", "v110")  # since HDF5 1.10 shapes, attributes and places of chunks have checksums, too
KINDS = ("input", "spikes", "u", "v")


@dataclass(frozen=True)
class Layout:
    """How an array lies in the file. shape: of the node; packed: 0 and 1, eight to a byte; static: one timestep."""

    shape: Shape
    dtype: Any
    packed: bool = False
    static: bool = False

    @property
    def row(self) -> Shape:
        """What one timestep of one sample takes."""
        return (-(-math.prod(self.shape) // 8),) if self.packed else self.shape


class TraceWriter:
    """Arrays of a trace, filled by parts. layouts: {"input/<name>", "spikes/<name>", "u/<name>", "v/<name>"}.

    Samples can be added (`grow`); what is not written is zero. together: samples that are written at once: so many
    share a chunk of the file, at most SAMPLES_OF_A_CHUNK.
    """

    def __init__(self, handle: h5py.File, layouts: Mapping[str, Layout], num_steps: int, together: int) -> None:
        self.handle, self.layouts, self.num_steps, self.batch = handle, layouts, num_steps, 0
        self.held: dict[str, h5py.Dataset] = {}  # an open array keeps the chunk that is being filled
        for key, layout in layouts.items():
            steps = 1 if layout.static else num_steps
            one = int(np.prod(layout.row)) * np.dtype(layout.dtype).itemsize
            samples = max(1, min(SAMPLES_OF_A_CHUNK, together, CHUNK_BYTES // one))
            chunk = max(1, min(steps, CHUNK_BYTES // (one * samples))), samples, *layout.row
            room, most = (steps, 0, *layout.row), (steps, None, *layout.row)
            made = handle.create_dataset(
                key, room, layout.dtype, maxshape=most, chunks=chunk, compression=1, fletcher32=True
            )
            if layout.packed:
                made.attrs["bits_of"] = layout.shape
            self.held[key] = made

    def grow(self, batch: int) -> int:
        """Room for more samples; returns the number of the first."""
        first, self.batch = self.batch, self.batch + batch
        for key in self.layouts:
            self.held[key].resize(self.batch, 1)
        return first

    def write(self, key: str, steps: slice, rows: slice, values: np.ndarray) -> None:
        """values: [T, B, ...] of some timesteps and samples."""
        layout = self.layouts[key]
        if layout.static:
            if steps.start > 0:
                return
            steps, values = slice(0, 1), values[:1]
        if layout.packed:
            values = np.packbits(values.reshape(*values.shape[:2], -1), axis=-1)
        self.held[key][steps, rows] = values

    def finish(self, readouts: Mapping[str, np.ndarray], length: np.ndarray, meta: Mapping[str, Any]) -> None:
        """readouts: {name: [B, classes] int64}; length: [B] int64."""
        for name, value in readouts.items():
            self._checked(f"readout/{name}", value)
            self._checked(f"prediction/{name}", np.argmax(value, axis=1))
        self._checked("length", length)
        listed = {kind: [key[len(kind) + 1 :] for key in self.layouts if key.startswith(f"{kind}/")] for kind in KINDS}
        listed["readout"] = list(readouts)
        text = json.dumps({"num_steps": self.num_steps, "listed": listed, "meta": meta}, sort_keys=True)
        self._checked("meta", np.array([text.encode()]))

    def _checked(self, key: str, value: np.ndarray) -> None:
        self.handle.create_dataset(key, data=value, chunks=True, fletcher32=True)  # only chunks have checksums


@contextmanager
def trace_writer(path: Path, layouts: Mapping[str, Layout], num_steps: int, together: int) -> Iterator[TraceWriter]:
    """Write TRACE.h5 whole or not at all."""
    import h5py

    with whole_file(path) as temporary, h5py.File(temporary, "w", libver=CHECKED) as handle:
        yield TraceWriter(handle, layouts, num_steps, together)


def save_trace_file(trace: SpikeTrace, path: Path) -> None:
    """Write a whole trace as TRACE.h5; binary events are packed."""
    layouts, values = {}, {}
    for kind, group in (("input", trace.inputs), ("spikes", trace.spikes), ("u", trace.u), ("v", trace.v)):
        for name, value in group.items():
            binary = kind in ("input", "spikes") and value.dtype == np.uint8 and int(value.max(initial=0)) <= 1
            layouts[f"{kind}/{name}"] = Layout(value.shape[2:], value.dtype, binary)
            values[f"{kind}/{name}"] = value
    with trace_writer(path, layouts, trace.num_steps, trace.batch) as writer:
        writer.grow(trace.batch)
        for key, value in values.items():
            writer.write(key, slice(0, trace.num_steps), slice(0, trace.batch), value)
        writer.finish(trace.readouts, trace.length, trace.meta)


def write_trace(trace: SpikeTrace, path: Path, *, packed: bool = False) -> None:
    """Write TRACE.h5 or, by any other name, TRACE.npz; see `save_trace`."""
    if path.suffix in HDF5:
        save_trace_file(trace, path)
    else:
        save_trace(trace, path, packed=packed)


def read_trace(path: Path) -> SpikeTrace:
    """The whole of a TRACE.h5 or TRACE.npz. raises: LavatubeError as `open_trace`."""
    with open_trace(path) as opened:
        return opened.part(slice(0, opened.batch))


class TraceFile:
    """A TRACE.h5 that is open."""

    def __init__(self, handle: h5py.File) -> None:
        """raises: LavatubeError, or one of `FAULTS`, where an array is missing or cannot be of this trace."""
        said = json.loads(np.asarray(dataset(handle, "meta")[()]).item())
        self.handle, self.num_steps, self.meta = handle, int(said["num_steps"]), dict(said["meta"])
        self.listed: dict[str, list[str]] = {kind: list(said["listed"][kind]) for kind in (*KINDS, "readout")}
        (self.batch,) = dataset(handle, "length").shape
        self.layouts = {key: self._layout(key) for kind in KINDS for key in self._keys(kind).values()}
        for key in self._keys("readout").values():
            held = dataset(handle, key)
            if held.shape[:1] != (self.batch,) or held.ndim != 2 or held.dtype != np.int64:
                raise ValueError(f"{key} {held.dtype} {held.shape}, expected int64 [{self.batch}, classes]")
        length = np.asarray(dataset(handle, "length")[()])  # the last: only now its size is known to be that of others
        self.length = lengths_of(length, self.num_steps, self.batch, str(handle.filename))

    def _keys(self, kind: str) -> dict[str, str]:
        return {name: f"{kind}/{name}" for name in self.listed[kind]}

    def _layout(self, key: str) -> Layout:
        held = dataset(self.handle, key)
        bits = held.attrs.get("bits_of")
        sizes = np.asarray(held.shape[2:] if bits is None else bits)
        if sizes.dtype.kind not in "iu" or sizes.ndim != 1 or not sizes.size or sizes.min() < 1:
            raise ValueError(f"{key} of the shape {sizes}")
        static = key.startswith("input/") and held.shape[0] == 1
        layout = Layout(tuple(sizes.tolist()), held.dtype, bits is not None, static)
        expected = 1 if static else self.num_steps, self.batch, *layout.row
        if held.shape != expected or held.dtype.kind not in "iu" or (layout.packed and held.dtype != np.uint8):
            kind = "uint8" if layout.packed else "integers"
            raise ValueError(f"{key} {held.dtype} {held.shape}, expected {kind} {expected}")
        return layout

    @cached_property
    def neurons(self) -> int:
        """Of all populations."""
        return sum(math.prod(self.layouts[key].shape) for key in self._keys("spikes").values())

    def part(self, rows: slice) -> SpikeTrace:
        """Some samples, all timesteps. raises: LavatubeError naming the array that is damaged."""
        length = self.length[rows]
        inputs, spikes, u, v = (
            {name: self._events(key, rows, length) for name, key in self._keys(kind).items()} for kind in KINDS
        )
        readouts = {name: self._read(key, (rows,)) for name, key in self._keys("readout").items()}
        return SpikeTrace(inputs, spikes, readouts, length, self.meta, u, v)

    def _events(self, key: str, rows: slice, length: np.ndarray) -> np.ndarray:
        layout, value = self.layouts[key], self._read(key, (slice(None), rows))
        if layout.packed:
            count = math.prod(layout.shape)
            value = np.unpackbits(value, axis=-1, count=count).reshape(*value.shape[:2], *layout.shape)
        if layout.static:
            value = within_length(np.broadcast_to(value, (self.num_steps, *value.shape[1:])), length)
        return value

    def _read(self, key: str, part: tuple[slice, ...]) -> np.ndarray:
        with reading(f"{self.handle.filename}, {key}, samples {part[-1].start}..{part[-1].stop - 1}"):
            return np.asarray(dataset(self.handle, key)[part])


@dataclass(frozen=True)
class WholeTrace:
    """A trace in memory, with the face of a `TraceFile`."""

    trace: SpikeTrace

    @property
    def batch(self) -> int:
        return self.trace.batch

    @property
    def length(self) -> np.ndarray:
        return self.trace.length

    @property
    def meta(self) -> Mapping[str, Any]:
        return self.trace.meta

    @property
    def num_steps(self) -> int:
        return self.trace.num_steps

    @property
    def neurons(self) -> int:
        return sum(int(np.prod(value.shape[2:])) for value in self.trace.spikes.values())

    def part(self, rows: slice) -> SpikeTrace:
        """See `TraceFile.part`."""
        if rows == slice(0, self.batch):
            return self.trace
        trace = self.trace
        inputs, spikes, u, v = (
            {name: value[:, rows] for name, value in group.items()}
            for group in (trace.inputs, trace.spikes, trace.u, trace.v)
        )
        readouts = {name: value[rows] for name, value in trace.readouts.items()}
        return SpikeTrace(inputs, spikes, readouts, trace.length[rows], trace.meta, u, v)


OpenTrace = TraceFile | WholeTrace


@contextmanager
def open_trace(path: Path) -> Iterator[OpenTrace]:
    """TRACE.h5 to be read by samples, or TRACE.npz. raises: LavatubeError if it is missing, damaged or foreign."""
    if Path(path).suffix not in HDF5:
        yield WholeTrace(load_trace(path))
        return
    with opened_hdf5(path, kind="trace.h5") as handle:
        with reading(str(path), "malformed trace"):
            found = TraceFile(handle)
        yield found
