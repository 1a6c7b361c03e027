"""Two traces, element by element, tolerance zero; the first place where they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from lavatube.errors import LavatubeError
from lavatube.trace import SpikeTrace, file_keys


@dataclass(frozen=True)
class Mismatch:
    """Where and what: neuron is the index in (C, H, W) or (neuron,); a, b: the values on both sides."""

    layer: str
    quantity: str
    sample: int
    step: int
    neuron: tuple[int, ...]
    a: int
    b: int

    def __str__(self) -> str:
        step = f"step {self.step}, " if self.step >= 0 else ""
        return f"{self.layer} {self.quantity}: sample {self.sample}, {step}neuron {self.neuron}: {self.a} and {self.b}"


@dataclass(frozen=True)
class LayerComparison:
    """One quantity of one layer. compared: elements within the samples' lengths; total_a, total_b: their sums."""

    layer: str
    quantity: str
    compared: int
    total_a: int
    total_b: int
    mismatches: int
    first: Mismatch | None


SUMS = ("compared", "total_a", "total_b", "mismatches")


@dataclass(frozen=True)
class TraceComparison:
    """rows: spikes of each layer in order, then u and v where both sides have them, then every read-out."""

    a: str
    b: str
    rows: tuple[LayerComparison, ...]

    @property
    def equal(self) -> bool:
        return not any(row.mismatches for row in self.rows)

    @property
    def neuron_steps(self) -> int:
        return sum(row.compared for row in self.rows if row.quantity == "spikes")

    @property
    def first(self) -> Mismatch | None:
        """The earliest timestep, and in it the layer nearest to the input: where the cause is."""
        order = {row.layer: index for index, row in reversed(list(enumerate(self.rows)))}
        found = [row.first for row in self.rows if row.first is not None]
        states = {"u": 0, "v": 1, "spikes": 2, "readout": 3}  # within a neuron's step, in order of computation
        return min(
            found,
            key=lambda m: (m.step if m.step >= 0 else 1 << 62, order[m.layer], states[m.quantity], m.sample, m.neuron),
            default=None,
        )

    def to_json(self) -> dict[str, Any]:
        first = None if self.first is None else {**asdict(self.first), "neuron": list(self.first.neuron)}
        rows = [{**asdict(row), "first": None if row.first is None else str(row.first)} for row in self.rows]
        return {
            "a": self.a,
            "b": self.b,
            "equal": self.equal,
            "neuron_steps": self.neuron_steps,
            "first": first,
            "rows": rows,
        }


def compare(a: SpikeTrace, b: SpikeTrace, *, names: tuple[str, str] = ("a", "b")) -> TraceComparison:
    """Compare two traces of the same input.

    raises: LavatubeError if inputs, lengths, layers or shapes differ: such traces are not comparable.
    """
    _refuse_incomparable(a, b)
    rows = []
    for quantity in ("spikes", "u", "v"):
        left, right = getattr(a, quantity), getattr(b, quantity)
        for name in a.spikes:
            if name in left and name in right:
                rows.append(_compare_layer(name, quantity, left[name], right[name], a.length))
    there, here = keyed("readout", a.readouts), keyed("readout", b.readouts)
    rows += [_compare_readout(name, there[name], here[name], a.length) for name in there]
    return TraceComparison(*names, tuple(rows))


def keyed(kind: str, group: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Inputs or read-outs by their keys in trace.npz, which tell the only one from no other."""
    return {key: group[name] for name, key in file_keys(kind, group).items()}


def joined(parts: Sequence[tuple[range, TraceComparison]]) -> TraceComparison:
    """One comparison of many samples from those of its parts: (numbers of the part's samples, comparison)."""
    rows = []
    for same in zip(*(part.rows for _, part in parts), strict=True):
        firsts = [
            replace(row.first, sample=samples[row.first.sample])
            for row, (samples, _) in zip(same, parts, strict=True)
            if row.first is not None
        ]
        sums = {name: sum(getattr(row, name) for row in same) for name in SUMS}
        first = min(firsts, key=lambda m: (m.step, m.sample), default=None)
        rows.append(LayerComparison(same[0].layer, same[0].quantity, **sums, first=first))
    return replace(parts[0][1], rows=tuple(rows))


def _compare_layer(name: str, quantity: str, a: np.ndarray, b: np.ndarray, length: np.ndarray) -> LayerComparison:
    differs = a != b
    first = None
    if differs.any():
        step = int(differs.reshape(len(differs), -1).any(1).argmax())
        sample, *neuron = (int(i) for i in np.unravel_index(int(differs[step].argmax()), differs[step].shape))
        values = (int(side[(step, sample, *neuron)]) for side in (a, b))
        first = Mismatch(name, quantity, sample, step, tuple(neuron), *values)
    compared = int(length.sum()) * int(np.prod(a.shape[2:]))
    total_a, total_b = (int(side.sum(dtype=np.int64)) for side in (a, b))
    return LayerComparison(name, quantity, compared, total_a, total_b, int(differs.sum()), first)


def _compare_readout(name: str, a: np.ndarray, b: np.ndarray, length: np.ndarray) -> LayerComparison:
    differs, first = a != b, None
    if differs.any():
        sample, unit = (int(i) for i in np.unravel_index(int(differs.argmax()), differs.shape))
        first = Mismatch(name, "readout", sample, -1, (unit,), int(a[sample, unit]), int(b[sample, unit]))
    compared = int((length > 0).sum()) * a.shape[1]
    return LayerComparison(name, "readout", compared, int(a.sum()), int(b.sum()), int(differs.sum()), first)


def _refuse_incomparable(a: SpikeTrace, b: SpikeTrace) -> None:
    def facts(trace: SpikeTrace) -> Mapping[str, Any]:
        ends = keyed("input", trace.inputs) | keyed("readout", trace.readouts)
        return {name: value.shape for name, value in (*ends.items(), *trace.spikes.items())}

    if facts(a) != facts(b) or list(a.spikes) != list(b.spikes):
        raise LavatubeError(
            "traces of different shapes or layers", where="compare", expected=str(facts(a)), got=str(facts(b))
        )
    if not a.length.any():
        raise LavatubeError(
            "nothing to compare", where="compare", expected="samples of at least one timestep", got="length 0"
        )
    left, right = keyed("input", a.inputs), keyed("input", b.inputs)
    if not np.array_equal(a.length, b.length) or not all(np.array_equal(left[name], right[name]) for name in left):
        raise LavatubeError("traces of different inputs", where="compare", remedy="run both engines on the same X.npz")
