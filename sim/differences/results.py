"""What changed between the results of two runs: parity, counts, energy, accuracy, recipe, and traces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lavatube.errors import LavatubeError
from lavatube.sim.compare import compare, keyed
from lavatube.sim.differences.difference import Difference, changed
from lavatube.trace import SpikeTrace

Json = Mapping[str, Any]


def differences_of_counts(a: Json, b: Json) -> Iterator[Difference]:
    yield from changed("counts", "run", *({key: side[key] for key in ("samples", "sample_steps")} for side in (a, b)))
    sides = [{row["layer"]: row for row in [*side["layers"], {**side["total"], "layer": "total"}]} for side in (a, b)]
    for layer in dict.fromkeys([*sides[0], *sides[1]]):
        yield from changed("counts", layer, *(side.get(layer, {}) for side in sides))


def differences_of_energy(a: Json, b: Json) -> Iterator[Difference]:
    """In joules a sample, so that runs of different sizes compare."""
    yield from changed("energy", "J a sample", *(side["interval_joules_per_sample"] for side in (a, b)))
    sides = [{table["name"]: table for table in side["tables"]} for side in (a, b)]
    for name in dict.fromkeys([*sides[0], *sides[1]]):
        facts = [_table(side.get(name), whole["samples"]) for side, whole in zip(sides, (a, b), strict=True)]
        yield from changed("energy", name, *facts)


def _table(table: Json | None, samples: int) -> dict[str, Any]:
    if table is None:
        return {}
    ends = (table.get("dynamic") or {}).items()
    joules = {f"dynamic {bound}, J a sample": None if v is None else v / samples * 1e-15 for bound, v in ends}
    return {"prices SHA-256": table["sha256"], "grade": table["grade"], **joules}


def differences_of_parity(a: Json, b: Json) -> Iterator[Difference]:
    keys = ("equal", "samples", "num_steps")
    yield from changed("parity", "verdict", *({key: side[key] for key in keys} for side in (a, b)))
    yield from changed("accuracy", "program", *({"accuracy, %": side["accuracy"]} for side in (a, b)))
    sides = [{engine["engine"]: engine for engine in side["engines"]} for side in (a, b)]
    for name in dict.fromkeys([*sides[0], *sides[1]]):
        mine, other = (side.get(name) for side in sides)
        if mine is None or other is None:
            yield Difference("parity", name, "compared", mine is not None, other is not None)
        else:
            yield from changed("parity", name, _mismatches(mine), _mismatches(other))


def _mismatches(engine: Json) -> dict[str, int]:
    return {f"{row['layer']}, different {row['quantity']} values": row["mismatches"] for row in engine["rows"]}


def differences_of_training(a: Json, b: Json) -> Iterator[Difference]:
    """Of two config.json."""
    sides = [side.get("metrics") or {} for side in (a, b)]
    accuracies = [{key: side[key] for key in side if key.endswith("accuracy")} for side in sides]
    yield from changed("accuracy", "float network", *accuracies)
    yield from changed("recipe", "recipe", *(_flat(side.get("recipe")) for side in (a, b)))


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Nested settings by dotted keys."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        return {name: value}
    found: dict[str, Any] = {}
    for key, inner in items:
        found |= _flat(inner, f"{name}.{key}" if name else str(key))
    return found


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
