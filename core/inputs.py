"""X.npz: events for a network, dense, static or sparse, checked against the program's input encoding."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lavatube.errors import LavatubeError
from lavatube.files import whole_file
from lavatube.program import InputNode
from lavatube.trace import read_npz

EVENTS_MAX = 1 << 31  # elements of one [T, B, ...] input


@dataclass(frozen=True)
class InputBatch:
    """events: [T, B, ...] int64 within the input encoding; length: [B] int64; label: [B] int64 or None."""

    events: np.ndarray
    length: np.ndarray
    label: np.ndarray | None = None

    @property
    def num_steps(self) -> int:
        return int(self.events.shape[0])

    @property
    def batch(self) -> int:
        return int(self.events.shape[1])

    def samples(self, stop: int, start: int = 0) -> InputBatch:
        """The samples from `start` up to `stop`; by default the first `stop`."""
        label = None if self.label is None else self.label[start:stop]
        return InputBatch(self.events[:, start:stop], self.length[start:stop], label)


def load_inputs(path: Path, node: InputNode, *, default_steps: int, steps: int | None = None) -> InputBatch:
    """Read X.npz for a program's input.

    The file holds `input` [T, B, ...] or static [B, ...] (presented every step), or sparse events `t`, `index`
    (flat), `sample`; optionally `length` [B] and `label` [B].
    raises: LavatubeError for a wrong shape, NaN, fractions, values outside the encoding, or steps < 1.
    """
    where = str(path)
    arrays = read_npz(path, kind="X.npz")
    if "input" in arrays:
        value = arrays["input"]
    elif {"t", "index", "sample"} <= set(arrays):
        value = _from_events(arrays, node, steps or default_steps, where)
    else:
        raise LavatubeError(
            "no input in this file",
            where=where,
            expected="`input`, or `t`, `index` and `sample`",
            got=", ".join(arrays),
        )
    return make_inputs(
        value, node, default_steps=default_steps, steps=steps, length=arrays.get("length"), label=arrays.get("label"),
        where=where,
    )  # fmt: skip


def save_inputs(batch: InputBatch, path: Path) -> None:
    """Write X.npz; a static input is written once, as [B, ...]."""
    events = batch.events[0] if batch.events.strides[0] == 0 else batch.events
    arrays = {"input": events.astype(np.min_scalar_type(int(events.max(initial=0)))), "length": batch.length}
    if batch.label is not None:
        arrays["label"] = batch.label
    with whole_file(path) as temporary, temporary.open("wb") as handle:
        np.savez_compressed(handle, **arrays)


def make_inputs(
    value: np.ndarray,
    node: InputNode,
    *,
    default_steps: int,
    steps: int | None = None,
    length: np.ndarray | None = None,
    label: np.ndarray | None = None,
    where: str = "input",
) -> InputBatch:
    """Check and shape events; see `load_inputs`."""
    if steps is not None and steps < 1:
        raise LavatubeError("steps", where=where, expected="at least 1", got=str(steps))
    value = _integers(value, where)
    rank = len(node.shape)
    if value.shape[-rank:] != node.shape or value.ndim not in (rank + 1, rank + 2):
        raise LavatubeError(
            "input shape", where=where, expected=f"[T, B, {_sizes(node)}] or [B, {_sizes(node)}]", got=str(value.shape)
        )
    if 0 in value.shape:
        raise LavatubeError("input is empty", where=where, expected="T and B of at least 1", got=str(value.shape))
    if value.min() < 0 or value.max() > node.max_value:
        raise LavatubeError(
            "input values are outside the input encoding",
            where=where,
            expected=f"integers 0..{node.max_value} ({node.message_bits} bits)",
            got=f"{value.min()}..{value.max()}",
        )
    if value.ndim == rank + 1:
        value = np.broadcast_to(value, (steps or default_steps, *value.shape))
    elif steps is not None and steps > value.shape[0]:
        raise LavatubeError(
            "more steps asked than the input has", where=where, expected=f"at most {value.shape[0]}", got=str(steps)
        )
    lengths = _lengths(length, value, where)
    value = value[:steps]
    return InputBatch(value, np.minimum(lengths, len(value)), _labels(label, value, where))


def _sizes(node: InputNode) -> str:
    return ", ".join(map(str, node.shape))


def _integers(value: np.ndarray, where: str) -> np.ndarray:
    if value.dtype.kind == "f":
        if not np.isfinite(value).all():
            raise LavatubeError("input holds NaN or infinity", where=where, expected="integers", got=str(value.dtype))
        if (value != np.trunc(value)).any():
            raise LavatubeError("input holds fractions", where=where, expected="integers", got=str(value.dtype))
    elif value.dtype.kind not in "iub":
        raise LavatubeError("input dtype", where=where, expected="integers", got=str(value.dtype))
    if value.size > EVENTS_MAX:
        raise LavatubeError(
            "input is too large", where=where, expected=f"at most {EVENTS_MAX} values", got=str(value.size)
        )
    if value.size and value.dtype.kind in "fu" and float(value.max()) > 2**53:
        raise LavatubeError("input values", where=where, expected="at most 2^53", got=str(value.max()))
    return value.astype(np.int64, copy=False)  # keeps a static input's stride of 0 over T


def _lengths(length: np.ndarray | None, value: np.ndarray, where: str) -> np.ndarray:
    steps, batch = value.shape[:2]
    if length is None:
        return np.full(batch, steps, np.int64)
    if length.shape != (batch,) or length.dtype.kind not in "iu" or length.min() < 0 or length.max() > steps:
        raise LavatubeError(
            "length", where=where, expected=f"[{batch}] integers >= 0", got=f"{length.dtype} {length.shape}"
        )
    return length.astype(np.int64)


def _labels(label: np.ndarray | None, value: np.ndarray, where: str) -> np.ndarray | None:
    if label is None:
        return None
    if label.shape != (value.shape[1],) or label.dtype.kind not in "iu":
        raise LavatubeError(
            "label", where=where, expected=f"[{value.shape[1]}] integers", got=f"{label.dtype} {label.shape}"
        )
    return label.astype(np.int64)


def _from_events(arrays: dict[str, np.ndarray], node: InputNode, steps: int, where: str) -> np.ndarray:
    t, index, sample = (_integers(arrays[name], where) for name in ("t", "index", "sample"))
    if not t.shape == index.shape == sample.shape or t.ndim != 1:
        raise LavatubeError("sparse events", where=where, expected="t, index, sample of one length", got=str(t.shape))
    size = int(np.prod(node.shape))
    named = [arrays[name].size for name in ("length", "label") if name in arrays]
    batch = max(*named, 0, int(sample.max(initial=-1)) + 1)
    for name, value, limit in (("t", t, steps), ("index", index, size), ("sample", sample, batch)):
        if value.size and (value.min() < 0 or value.max() >= limit):
            raise LavatubeError(
                f"sparse event {name}", where=where, expected=f"0..{limit - 1}", got=f"{value.min()}..{value.max()}"
            )
    if steps * batch * size > EVENTS_MAX:
        raise LavatubeError("input is too large", where=where, expected=f"at most {EVENTS_MAX} values")
    dense = np.zeros((steps, batch, size), np.int64)
    np.add.at(dense, (t, sample, index), 1)
    return dense.reshape(steps, batch, *node.shape)
