"""What changed between tensors, between epochs of training, and between traces."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from lavatube.errors import LavatubeError
from lavatube.sim.compare import compare, keyed
from lavatube.sim.differences.difference import Difference, changed, differences_of_arrays
from lavatube.sim.differences.flat import TIMES
from lavatube.trace import SpikeTrace


def differences_of_tensors(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> Iterator[Difference]:
    for name in dict.fromkeys([*a, *b]):
        if name in a and name in b:
            yield from differences_of_arrays("weights", name, "", a[name], b[name])
        else:
            yield Difference("weights", name, "is there", name in a, name in b)


def differences_of_histories(a: Path, b: Path) -> Iterator[Difference]:
    """Of two history.csv, column by column."""
    sides = [_columns(path) for path in (a, b)]
    for name in dict.fromkeys([*sides[0], *sides[1]]):
        mine, other = (side.get(name, ()) for side in sides)
        if name not in TIMES and mine != other:
            last = (values[-1] if values else None for values in (mine, other))
            yield Difference("training", "history.csv", f"{name} differs; in the last epoch", *last)


def _columns(path: Path) -> dict[str, tuple[str, ...]]:
    try:
        with path.open(encoding="utf-8", newline="") as handle:
            rows = list(csv.reader(handle))
    except (OSError, ValueError, csv.Error) as error:
        raise LavatubeError("not readable as CSV", where=str(path), got=str(error)) from error
    head = rows[0] if rows else []
    return {name: tuple(row[k] if k < len(row) else "" for row in rows[1:]) for k, name in enumerate(head)}


def differences_of_traces(a: SpikeTrace, b: SpikeTrace) -> Iterator[Difference]:
    """Sums and the number of different elements by layer; where the inputs differ, sums only."""
    facts = [{"engine": t.meta.get("engine"), "samples": t.batch, "timesteps": t.num_steps} for t in (a, b)]
    yield from changed("trace", "run", *facts)
    try:
        comparison = compare(a, b)
    except LavatubeError as error:
        yield Difference("trace", "element by element", f"not comparable: {error}", None, None)
        sums = [{name: int(value.sum()) for name, value in trace.spikes.items()} for trace in (a, b)]
        yield from changed("trace", "sum of spikes", *sums)
        return
    for row in comparison.rows:
        if row.mismatches:
            what = f"{row.mismatches:,} of {row.compared:,} {row.quantity} values differ; sums"
            yield Difference("trace", row.layer, what, row.total_a, row.total_b)
    there, here = keyed("prediction", a.predictions), keyed("prediction", b.predictions)
    for key, mine in there.items():
        if number := int((mine != here[key]).sum()):
            yield Difference("accuracy", key, f"{number:,} of {a.batch:,} samples", None, None)
