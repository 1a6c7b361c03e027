"""Every value of two JSON objects that is not the same, rows of a list by their name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lavatube.sim.differences.difference import Difference, plain

NAMES = ("engine", "name", "layer")  # keys that name a row of a list
TIMES = frozenset({"seconds"})  # how long something took says nothing about what came out
SHORT = 8  # numbers of a list that are shown
Path = tuple[str, ...]
Leaf = tuple[str, str, Any]  # where, what, value


def differences_of_json(kind: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Difference]:
    """kind: the part that a difference belongs to, unless it is an accuracy or of the recipe."""
    mine, other = _flat(a), _flat(b)
    for path in dict.fromkeys([*mine, *other]):
        where, what, _ = mine.get(path) or other[path]
        left, right = (side[path][2] if path in side else None for side in (mine, other))
        if isinstance(left, list) and isinstance(right, list):
            yield from _lists(_part(kind, path), where, what, left, right)
        elif left != right or isinstance(left, bool) != isinstance(right, bool):
            yield Difference(_part(kind, path), where, what, plain(left), plain(right))


def _part(kind: str, path: Path) -> str:
    if path[0] == "recipe":
        return "recipe"
    return "accuracy" if path[-1].endswith("accuracy") else kind


def _flat(value: Any, path: Path = (), where: str = "", what: str = "") -> dict[Path, Leaf]:
    """{path: (where, what, value)}; lists of plain values stay whole."""
    if isinstance(value, Mapping):
        items = [(str(key), inner) for key, inner in value.items() if key not in TIMES]
        items.sort(key=lambda item: not path and isinstance(item[1], Mapping | list))  # the verdict before its parts
    elif isinstance(value, list | tuple) and any(isinstance(row, Mapping | list | tuple) for row in value):
        rows = _by_name(value)
        if rows is not None:
            return _joined(_flat(row, (*path, name), f"{where} {name}".strip()) for name, row in rows.items())
        items = [(str(number), inner) for number, inner in enumerate(value)]
    else:
        return {path: (where or "run", what, list(value) if isinstance(value, tuple) else value)}
    return _joined(
        _flat(
            inner,
            (*path, key),
            *((key, "") if not path and isinstance(inner, Mapping) else (where, _dotted(what, key))),
        )
        for key, inner in items
    )


def _dotted(what: str, key: str) -> str:
    return f"{what}.{key}" if what else key


def _joined(parts: Iterator[dict[Path, Leaf]]) -> dict[Path, Leaf]:
    return {path: leaf for part in parts for path, leaf in part.items()}


def _by_name(rows: Sequence[Any]) -> dict[str, dict[str, Any]] | None:
    """{name: the row without it}; None where rows have no names, or two have the same."""
    found = {}
    for row in rows:
        key = next((key for key in NAMES if isinstance(row, Mapping) and isinstance(row.get(key), str)), None)
        if key is None:
            return None
        quantity = row.get("quantity")
        name = row[key] if quantity in (None, "spikes", "readout") else f"{row[key]} {quantity}"
        found[name] = {other: inner for other, inner in row.items() if other != key}
    return found if len(found) == len(rows) else None


def _lists(part: str, where: str, what: str, a: list[Any], b: list[Any]) -> Iterator[Difference]:
    """Texts that one side has; of numbers the lists, or how many differ."""
    if a == b and list(map(type, a)) == list(map(type, b)):
        return
    if all(isinstance(each, str) for each in (*a, *b)) and set(a) != set(b):
        for each in dict.fromkeys([*a, *b]):
            if (each in a) != (each in b):
                yield Difference(part, where, f"{what}: {each}", each in a, each in b)
    elif len(a) == len(b) > SHORT and all(isinstance(each, int | float) for each in (*a, *b)):
        number = sum(x != y for x, y in zip(a, b, strict=True))
        yield Difference(part, where, f"{number:,} of {len(a):,} {what} values differ; sums", sum(a), sum(b))
    else:
        yield Difference(part, where, what, str(a), str(b))
