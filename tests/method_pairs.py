"""Methods together: a recipe that holds several, and few such recipes that hold every pair which may go together."""

from __future__ import annotations

from functools import cache
from itertools import combinations
from typing import Any

from method_cases import BASE, ROWS, changes_for

from lavatube.convert.fold import LOWERED
from lavatube.train.composition import Rule, rules_of
from lavatube.train.extension_points import EXTENSION_POINTS
from lavatube.train.plugin import Plugin
from lavatube.train.recipe_model import Strict, kind_of

Method = tuple[str, type[Strict]]  # extension point, row
WITHOUT_MAPS = {"kdsnn", "bkdsnn"}  # terms that learn from logits alone where a network has no maps
PAIRS = [pair for pair in combinations(ROWS, 2) if pair[0][0] != pair[1][0] or pair[0][0] == "objective"]


def label(methods: tuple[Method, ...]) -> str:
    return "-".join(f"{point}.{kind_of(row)}" for point, row in methods)


def together(*methods: Method) -> dict[str, Any]:
    """A recipe's changes, two steps long; what methods choose themselves wins over what others ask for beside them."""
    changes = [changes_for(*method) for method in methods]
    own = {point: each[point] for (point, _), each in zip(methods, changes, strict=True) if point in each}
    for each in reversed(changes):
        own = each | own
    asked = [(key, value) for each in changes for key, value in each.get("neuron", {}).items()]
    neuron = dict(pair for pair in asked if pair != ("decay", 0.5))  # which is the default below
    terms = [term for each in changes for term in each.get("objective", ())] or ["cross_entropy"]
    flat = WITHOUT_MAPS if own.get("network", {}).get("kind") == "recurrent" else ()
    return (
        BASE
        | own
        | ({"neuron": {"decay": 0.5} | neuron} if neuron else {})
        | {
            "objective": [
                {"kind": term, "feature_weight": 0.0} if term in flat else term for term in dict.fromkeys(terms)
            ]
        }
        | {"optimizer": {"lr": 0.02, "epochs": 1, "batch_size": 32}}
    )


@cache
def forbidden(first: Method, second: Method) -> list[Rule]:
    """What refuses a pair with the settings that both have by default."""
    a, b = ((point, row.model_construct()) for point, row in (first, second))
    return [rule for rule in rules_of(a, b) if not rule.allowed]  # type: ignore[arg-type]


@cache
def stops(method: Method) -> bool:
    """Whether a network with it is refused by quantization."""
    point, row = method
    assert issubclass(row, Plugin)
    return point == "network" and bool(row.model_construct().needs - LOWERED)


def covering() -> list[tuple[Method, ...]]:
    """Few choices of methods, greedily, so that every allowed pair is in one that goes as far as the pair can go."""
    missing = {pair: None for pair in PAIRS if not forbidden(*pair)}
    place = {method: number for number, method in enumerate(ROWS)}
    choices = []

    def gained(method: Method, chosen: list[Method]) -> list[tuple[Method, Method]]:
        pairs = [
            (min(method, other, key=place.__getitem__), max(method, other, key=place.__getitem__)) for other in chosen
        ]
        stopping = [each for each in (*chosen, method) if stops(each)]
        return [pair for pair in pairs if pair in missing and set(stopping) <= set(pair)]

    while missing:
        chosen = list(next(iter(missing)))
        for point, rows in EXTENSION_POINTS.items():
            for _ in rows:
                free = point == "objective" or all(other != point for other, _ in chosen)
                fitting = [
                    (point, row) for row in rows
                    if free and (point, row) not in chosen and not any(forbidden((point, row), each) for each in chosen)
                ]  # fmt: skip
                best = max(fitting, key=lambda method: len(gained(method, chosen)), default=None)
                if best is None or not gained(best, chosen):
                    break
                chosen.append(best)
        chosen.sort(key=place.__getitem__)
        for number, method in enumerate(chosen):
            for pair in gained(method, chosen[:number]):
                del missing[pair]
        choices.append(tuple(chosen))
    return choices
