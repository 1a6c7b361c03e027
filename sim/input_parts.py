"""Inputs that are read part by part, so that they may be larger than memory. docs/files.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lavatube.errors import LavatubeError
from lavatube.files import require_file
from lavatube.inputs import (
    InputBatch,
    labels_of,
    lengths_of,
    load_inputs,
    refuse_different,
    refuse_other_names,
    within_encoding,
)
from lavatube.program import InputNode
from lavatube.trace import NPZ_ERRORS, file_keys

if TYPE_CHECKING:
    import h5py

HDF5 = (".h5", ".hdf5")


@dataclass(frozen=True)
class InputParts:
    """values: {input: [T, B, ...] or static [B, ...]}, anything that slices; length: [B] int64; label: [B] or None."""

    values: Mapping[str, Any]
    static: frozenset[str]
    num_steps: int
    length: np.ndarray
    label: np.ndarray | None
    where: str

    @property
    def batch(self) -> int:
        return len(self.length)

    def read(self, node: InputNode, steps: slice, rows: slice) -> np.ndarray:
        """[T, B, ...] int64 of some timesteps and samples. raises: LavatubeError for values outside the encoding."""
        fixed = node.name in self.static
        place = f"{self.where}, {node.name}, samples {rows.start}..{rows.stop - 1}"
        if not fixed:
            place += f", timesteps {steps.start}..{steps.stop - 1}"
        value = self.values[node.name]
        with reading(place):
            read = np.asarray(value[rows] if fixed else value[steps, rows])
        events = within_encoding(read, node, place)
        return np.broadcast_to(events, (steps.stop - steps.start, *events.shape)) if fixed else events


@contextmanager
def open_parts(
    source: InputBatch | Path | str, nodes: tuple[InputNode, ...], *, default_steps: int, steps: int | None = None
) -> Iterator[InputParts]:
    """X.npy (memory-mapped), X.h5 (read by slices), or X.npz and an InputBatch, which are in memory.

    steps: only the first so many timesteps.
    raises: LavatubeError as `load_inputs`; values are checked when they are read.
    """
    if steps is not None and steps < 1:
        raise LavatubeError("steps", where=str(source)[:80], expected="at least 1", got=str(steps))
    if isinstance(source, InputBatch):
        yield _parts(dict(source.by_name), nodes, source.length, source.label, default_steps, steps, "input")
        return
    path = Path(source)
    if path.suffix == ".npy":
        if len(nodes) > 1:
            raise LavatubeError(".npy holds one input", where=str(path), expected=f"{len(nodes)} inputs: .npz or .h5")
        yield _parts({nodes[0].name: mapped(path)}, nodes, None, None, default_steps, steps, str(path))
    elif path.suffix in HDF5:
        with opened_hdf5(path, kind="X.h5") as opened:
            with reading(str(path)):
                keys = file_keys("input", names(nodes))
                _refuse_unused(opened, {*keys.values(), "length", "label"}, str(path))
                found = {name: dataset(opened, key) for name, key in keys.items() if key in opened}
                length, label = (dataset(opened, key) if key in opened else None for key in ("length", "label"))
                parts = _parts(found, nodes, length, label, default_steps, steps, str(path))
            yield parts
    else:
        batch = load_inputs(path, nodes, default_steps=default_steps, steps=steps)
        yield _parts(dict(batch.by_name), nodes, batch.length, batch.label, default_steps, steps, str(path))


def _refuse_unused(opened: h5py.File, used: set[str], where: str) -> None:
    """As X.npz: a key that would not be used is refused."""
    groups = {key.split("/", 1)[0] for key in used if "/" in key}
    found = {name for name in opened if name not in groups}
    found |= {f"{group}/{name}" for group in groups & set(opened) for name in _members(opened, group)}
    if unused := sorted(found - used):
        expected = ", ".join(sorted(used))
        raise LavatubeError("keys that would not be used", where=where, expected=expected, got=", ".join(unused))


def _members(opened: h5py.File, group: str) -> list[str]:
    import h5py

    is_group = isinstance(opened.get(group, getlink=True), h5py.HardLink) and isinstance(opened[group], h5py.Group)
    return list(opened[group]) if is_group else []


def names(nodes: tuple[InputNode, ...]) -> tuple[str, ...]:
    return tuple(node.name for node in nodes)


@contextmanager
def opened_hdf5(path: Path, *, kind: str) -> Iterator[h5py.File]:
    """An HDF5 file to read. raises: LavatubeError if it is missing or not HDF5."""
    import h5py

    require_file(path, kind=kind)
    with reading(str(path), "damaged or foreign file", kind):
        opened = h5py.File(path, "r")
    with opened:
        yield opened


@contextmanager
def reading(where: str, what: str = "damaged file", expected: str = "") -> Iterator[None]:
    """Around all that reads HDF5 and nothing else. raises: LavatubeError for whatever HDF5 raises on damaged bytes."""
    from lavatube.convert.safe_hdf5 import FAULTS

    try:
        yield
    except FAULTS as error:
        raise LavatubeError(what, where=where, expected=expected, got=f"{type(error).__name__} {error}") from error


def dataset(opened: h5py.File, key: str) -> h5py.Dataset:
    """An array that lies in this file itself. raises: LavatubeError for a group, a link or data of another file."""
    import h5py

    *groups, last = key.split("/")
    held: Any = opened
    with reading(f"{opened.filename}, {key}"):
        for part in (*groups, last):
            hard = isinstance(held, h5py.Group) and isinstance(held.get(part, getlink=True), h5py.HardLink)
            held = held[part] if hard else None
        own = isinstance(held, h5py.Dataset) and not (held.external or held.is_virtual)
    if not own:
        raise LavatubeError(f"`{key}` is not an array of this file", where=str(opened.filename))
    return held


def mapped(path: Path) -> np.ndarray:
    """X.npy, mapped into memory, never unpickled."""
    require_file(path, kind="X.npy")
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except NPZ_ERRORS as error:
        raise LavatubeError("damaged or foreign file", where=str(path), expected="X.npy", got=str(error)) from error


def _parts(
    values: Mapping[str, Any],
    nodes: tuple[InputNode, ...],
    length: Any,
    label: Any,
    default_steps: int,
    steps: int | None,
    where: str,
) -> InputParts:
    refuse_other_names(set(values), nodes, where)
    timed, batches = {}, {}
    for node in nodes:
        shape, rank = values[node.name].shape, len(node.shape)
        if tuple(shape[-rank:]) != node.shape or len(shape) not in (rank + 1, rank + 2) or 0 in shape:
            sizes = ", ".join(map(str, node.shape))
            raise LavatubeError("input shape", where=where, expected=f"[T, B, {sizes}] or [B, {sizes}]", got=str(shape))
        batches[node.name] = int(shape[-rank - 1])
        if len(shape) == rank + 2:
            timed[node.name] = int(shape[0])
    refuse_different("timesteps", timed, where)
    refuse_different("samples", batches, where)
    found = next(iter(timed.values()), None)
    if steps is not None and found is not None and steps > found:
        expected = f"at most {found}"
        raise LavatubeError("more steps asked than the input has", where=where, expected=expected, got=str(steps))
    total, batch = found or steps or default_steps, next(iter(batches.values()))
    length, label = (_column(each, batch, f"{where}, {name}") for name, each in (("length", length), ("label", label)))
    lengths = np.minimum(lengths_of(length, total, batch, where), steps or total)
    static = frozenset(values) - frozenset(timed)
    return InputParts(values, static, steps or total, lengths, labels_of(label, batch, where), where)


def _column(held: Any, batch: int, where: str) -> np.ndarray | None:
    """[B], read only where the shape is right: a damaged one may ask for more than memory holds."""
    if held is None:
        return None
    if held.shape != (batch,):
        raise LavatubeError("shape", where=where, expected=f"[{batch}]", got=str(held.shape))
    return np.asarray(held[()])
