"""X.npz: events for a network, dense, static or sparse, checked against the program's input encoding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lavatube.errors import LavatubeError
from lavatube.files import whole_file
from lavatube.program import InputNode, only
from lavatube.trace import file_keys, read_npz

EVENTS_MAX = 1 << 31  # elements of one [T, B, ...] input
SPARSE = ("t", "index", "sample")
Values = np.ndarray | Mapping[str, np.ndarray]  # of the only input, or of each by name
Nodes = InputNode | tuple[InputNode, ...]  # the only input of a program, or all of them


@dataclass(frozen=True)
class InputBatch:
    """by_name: {input node: [T, B, ...] int64 within its encoding}; length: [B] int64; label: [B] int64 or None."""

    by_name: Mapping[str, np.ndarray]
    length: np.ndarray
    label: np.ndarray | None = None

    @property
    def events(self) -> np.ndarray:
        """Of the only input. raises: UnsupportedError if there are several."""
        return only(self.by_name, "inputs")

    @property
    def num_steps(self) -> int:
        return int(next(iter(self.by_name.values())).shape[0])

    @property
    def batch(self) -> int:
        return int(self.length.size)

    def samples(self, stop: int, start: int = 0, step: int = 1) -> InputBatch:
        """The samples from `start` up to `stop`, each `step`-th; by default the first `stop`."""
        taken = slice(start, stop, step)
        label = None if self.label is None else self.label[taken]
        rows = {name: value[:, taken] for name, value in self.by_name.items()}
        return InputBatch(rows, self.length[taken], label)


def load_inputs(path: Path, nodes: Nodes, *, default_steps: int, steps: int | None = None) -> InputBatch:
    """Read X.npz for a program's input or inputs.

    The file holds `input` [T, B, ...] or static [B, ...] (presented every step), or sparse events `t`, `index`
    (flat), `sample`; for a program with several inputs each of these as `input/<name>`, `t/<name>` and so on.
    Optionally `length` [B] and `label` [B].
    raises: LavatubeError for a missing or unknown input, a key that is none of these or would not be used, a wrong
    shape, NaN, fractions, values outside the encoding, inputs of different T or B, or steps < 1.
    """
    nodes, where = _nodes(nodes), str(path)
    arrays = read_npz(path, kind="X.npz")
    names = tuple(node.name for node in nodes)
    dense = {name: arrays[key] for name, key in file_keys("input", names).items() if key in arrays}
    keys = {name: tuple(file_keys(part, names)[name] for part in SPARSE) for name in names}
    sparse = {name: keys[name] for name in names if name not in dense and set(keys[name]) <= set(arrays)}
    if len(nodes) == 1 and not (dense or sparse):
        raise LavatubeError(
            "no input in this file",
            where=where,
            expected="`input`, or `t`, `index` and `sample`",
            got=", ".join(arrays),
        )
    if len(nodes) > 1 and "input" in arrays:
        negative = any(name.endswith(".neg") for name in names)
        raise LavatubeError(
            "one `input` for a program with several", where=where,
            expected=", ".join(f"`{key}`" for key in file_keys("input", names).values()), got="`input`",
            remedy="those .neg take the numbers below 0: `lavatube quantize --data` left its samples as events in "
            "input.npz" if negative else "",
        )  # fmt: skip
    kinds = ("input", *SPARSE) if len(nodes) > 1 else ()
    given = {key.split("/", 1)[1] for key in arrays if key.split("/", 1)[0] in kinds and "/" in key}
    refuse_other_names((given - set(names)) | set(dense) | set(sparse), nodes, where)
    used = [file_keys("input", names)[name] for name in dense] + [key for name in sparse for key in keys[name]]
    if unused := sorted(set(arrays) - {*used, "length", "label"}):
        expected = ", ".join((*used, "length", "label"))
        raise LavatubeError("keys that would not be used", where=where, expected=expected, got=", ".join(unused))
    values = dense | _from_events(arrays, sparse, dense, nodes, steps or default_steps, where)
    return make_inputs(
        values, nodes, default_steps=default_steps, steps=steps, length=arrays.get("length"), label=arrays.get("label"),
        where=where,
    )  # fmt: skip


def save_inputs(batch: InputBatch, path: Path, *, whole: bool = False) -> None:
    """Write X.npz; a static input is written once, as [B, ...]; whole: as [T, B, ...], for a T of its own."""
    arrays = {"length": batch.length} | ({} if batch.label is None else {"label": batch.label})
    for name, key in file_keys("input", tuple(batch.by_name)).items():
        events = batch.by_name[name]
        events = events[0] if events.strides[0] == 0 and not whole else events
        arrays[key] = events.astype(np.min_scalar_type(int(events.max(initial=0))))
    with whole_file(path) as temporary, temporary.open("wb") as handle:
        np.savez_compressed(handle, **arrays)


def make_inputs(
    value: Values,
    nodes: Nodes,
    *,
    default_steps: int,
    steps: int | None = None,
    length: np.ndarray | None = None,
    label: np.ndarray | None = None,
    where: str = "input",
) -> InputBatch:
    """Check and shape events; see `load_inputs`. value: an array for the only input, or {name: array}.

    A static input takes the timesteps of those that are not.
    """
    if steps is not None and steps < 1:
        raise LavatubeError("steps", where=where, expected="at least 1", got=str(steps))
    nodes = _nodes(nodes)
    if len(nodes) > 1 and not isinstance(value, Mapping):
        expected = "one for each of " + ", ".join(node.name for node in nodes)
        raise LavatubeError("one array for several inputs", where=where, expected=expected)
    values = value if isinstance(value, Mapping) else {nodes[0].name: value}
    refuse_other_names(set(values), nodes, where)
    places = {node.name: where if len(nodes) == 1 else f"{where}, input {node.name}" for node in nodes}
    checked = {node.name: within_encoding(values[node.name], node, places[node.name]) for node in nodes}
    timed = {node.name: len(checked[node.name]) for node in nodes if checked[node.name].ndim == len(node.shape) + 2}
    refuse_different("timesteps", timed, where)
    found = next(iter(timed.values()), None)
    if steps is not None and found is not None and steps > found:
        raise LavatubeError(
            "more steps asked than the input has", where=where, expected=f"at most {found}", got=str(steps)
        )
    total = found or steps or default_steps
    for name in set(checked) - set(timed):
        checked[name] = np.broadcast_to(checked[name], (total, *checked[name].shape))
    batches = {name: events.shape[1] for name, events in checked.items()}
    refuse_different("samples", batches, where)
    batch = next(iter(batches.values()))
    lengths = lengths_of(length, total, batch, where)
    by_name = {name: events[:steps] for name, events in checked.items()}
    return InputBatch(by_name, np.minimum(lengths, steps or total), labels_of(label, batch, where))


def _nodes(nodes: Nodes) -> tuple[InputNode, ...]:
    return (nodes,) if isinstance(nodes, InputNode) else nodes


def refuse_other_names(given: set[str], nodes: tuple[InputNode, ...], where: str) -> None:
    expected = ", ".join(node.name for node in nodes)
    if unknown := sorted(given - {node.name for node in nodes}):
        raise LavatubeError("an input that the program does not have", where=where, expected=expected, got=unknown[0])
    if missing := [node.name for node in nodes if node.name not in given]:
        got = ", ".join(sorted(given)) or "none"
        raise LavatubeError(f"input {missing[0]} is missing", where=where, expected=expected, got=got)


def refuse_different(what: str, sizes: Mapping[str, int], where: str) -> None:
    if len(set(sizes.values())) > 1:
        got = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise LavatubeError(f"inputs of different numbers of {what}", where=where, expected="the same", got=got)


def within_encoding(value: np.ndarray, node: InputNode, where: str) -> np.ndarray:
    """[T, B, ...] or static [B, ...] int64. raises: LavatubeError for another shape, no integers, or values outside."""
    value = _integers(value, where)
    rank, sizes = len(node.shape), ", ".join(map(str, node.shape))
    if value.shape[-rank:] != node.shape or value.ndim not in (rank + 1, rank + 2):
        raise LavatubeError(
            "input shape", where=where, expected=f"[T, B, {sizes}] or [B, {sizes}]", got=str(value.shape)
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
    return value


def _integers(value: np.ndarray, where: str) -> np.ndarray:
    if not isinstance(value, np.ndarray):
        raise LavatubeError("input", where=where, expected="a NumPy array of integers", got=type(value).__name__)
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


def lengths_of(length: np.ndarray | None, steps: int, batch: int, where: str) -> np.ndarray:
    if length is None:
        return np.full(batch, steps, np.int64)
    if length.shape != (batch,) or length.dtype.kind not in "iu":
        got = f"{length.dtype} {length.shape}"
        raise LavatubeError("length", where=where, expected=f"[{batch}] integers 0..{steps}", got=got)
    if length.min() < 0 or length.max() > steps:
        got = f"{length.min()}..{length.max()}"
        raise LavatubeError("length", where=where, expected=f"[{batch}] integers 0..{steps}", got=got)
    return length.astype(np.int64)


def labels_of(label: np.ndarray | None, batch: int, where: str) -> np.ndarray | None:
    if label is None:
        return None
    if label.shape != (batch,) or label.dtype.kind not in "iu":
        raise LavatubeError("label", where=where, expected=f"[{batch}] integers", got=f"{label.dtype} {label.shape}")
    return label.astype(np.int64)


def _from_events(
    arrays: Mapping[str, np.ndarray],
    keys: Mapping[str, tuple[str, ...]],
    dense: Mapping[str, np.ndarray],
    nodes: tuple[InputNode, ...],
    steps: int,
    where: str,
) -> dict[str, np.ndarray]:
    """Dense [T, B, ...] of the inputs given as sparse events, with T and B of the others. keys: t, index, sample."""
    shapes = {node.name: node.shape for node in nodes}
    parts = {name: [_integers(arrays[key], where) for key in each] for name, each in keys.items()}
    for t, index, sample in parts.values():
        if not t.shape == index.shape == sample.shape or t.ndim != 1:
            raise LavatubeError(
                "sparse events", where=where, expected="t, index, sample of one length", got=str(t.shape)
            )
    timed = [len(value) for name, value in dense.items() if value.ndim == len(shapes[name]) + 2]
    named = [arrays[name].size for name in ("length", "label") if name in arrays]
    named += [value.shape[-len(shapes[name]) - 1] for name, value in dense.items() if value.ndim > len(shapes[name])]
    steps = timed[0] if timed else steps
    batch = max([0, *named, *(int(sample.max(initial=-1)) + 1 for _, _, sample in parts.values())])
    found = {}
    for name, (t, index, sample) in parts.items():
        size = int(np.prod(shapes[name]))
        for what, value, limit in zip(keys[name], (t, index, sample), (steps, size, batch), strict=True):
            if value.size and (value.min() < 0 or value.max() >= limit):
                got = f"{value.min()}..{value.max()}"
                raise LavatubeError(f"sparse event {what}", where=where, expected=f"0..{limit - 1}", got=got)
        if steps * batch * size > EVENTS_MAX:
            raise LavatubeError("input is too large", where=where, expected=f"at most {EVENTS_MAX} values")
        events = np.zeros((steps, batch, size), np.int64)
        np.add.at(events, (t, sample, index), 1)
        found[name] = events.reshape(steps, batch, *shapes[name])
    return found
