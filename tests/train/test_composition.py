"""Methods together: every pair trains, finalizes and exports, or is refused with the reason when a recipe is loaded."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from method_cases import (
    BASE,
    BESIDE,
    ROWS,
    SETTINGS,
    changes_for,
    plain_names,
)

from lavatube.convert.export import export
from lavatube.convert.fold import LOWERED
from lavatube.convert.quantize import quantize
from lavatube.errors import LavatubeError, UnsupportedError
from lavatube.train.composition import NEEDS, RULES, Need, Rule, rules_of
from lavatube.train.extension_points import EXTENSION_POINTS
from lavatube.train.loop import Trainee
from lavatube.train.recipe import Recipe
from lavatube.train.recipe_model import Strict, kind_of
from lavatube.train.run import train
from lavatube.train.samples import prepare

pytestmark = pytest.mark.usefixtures("tiny")


def both(first: tuple[str, type[Strict]], second: tuple[str, type[Strict]]) -> dict[str, Any]:
    """A recipe's changes for two methods, two steps long; what they choose themselves wins over what they ask for."""
    changes = [changes_for(*first), changes_for(*second)]
    terms = [term for each in changes for term in each.get("objective", ())]
    own = {point: each[point] for (point, _), each in zip((first, second), changes, strict=True) if point in each}
    if neuron := changes[0].get("neuron", {}) | changes[1].get("neuron", {}):
        own["neuron"] = {"decay": 0.5} | neuron
    merged = BASE | changes[1] | changes[0] | own | {"optimizer": {"lr": 0.02, "epochs": 1, "batch_size": 32}}
    return merged | {"objective": list(dict.fromkeys(terms or ["cross_entropy"]))}


def goes_all_the_way(recipe: Recipe, folder: Path) -> None:
    """Trains two steps, leaves nothing behind, and exports; or is refused for what it needs, by name."""
    trained_network = train(recipe, out=folder)
    assert set(trained_network.tensors) == plain_names(recipe)
    refused = sorted(Trainee(recipe, prepare(recipe)).network.needs - LOWERED)
    if refused:
        with pytest.raises(UnsupportedError, match=refused[0]):
            quantize(folder, epochs=0)
        return
    quantize(folder, epochs=0)
    assert export(folder).nodes


SAME_LAYERS = {"tandem", "local_tandem"}  # as the teacher's
PAIRS = [
    pytest.param(a, b, id="-".join((a[0], kind_of(a[1]), b[0], kind_of(b[1]))))
    for a, b in combinations(ROWS, 2)
    if (a[0] != b[0] or a[0] == "objective")
    and not ("network" in (a[0], b[0]) and {kind_of(a[1]), kind_of(b[1])} & SAME_LAYERS)
]


@pytest.mark.long
@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_every_pair_trains_finalizes_and_exports_or_is_refused_with_the_reason(
    tiny_recipe: Callable[..., Recipe],
    first: tuple[str, type[Strict]],
    second: tuple[str, type[Strict]],
    tmp_path: Path,
) -> None:
    rules = forbidden(first, second)
    if rules:
        with pytest.raises(LavatubeError, match=rf"does not go with .*: {re.escape(rules[0].reason)}"):
            tiny_recipe(**both(first, second))
        return
    goes_all_the_way(tiny_recipe(**both(first, second)), tmp_path)


def forbidden(first: tuple[str, type[Strict]], second: tuple[str, type[Strict]]) -> list[Rule]:
    a, b = ((point, row.model_construct()) for point, row in (first, second))
    return [rule for rule in rules_of(a, b) if not rule.allowed]  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind_of(row) for row in EXTENSION_POINTS["sparsity"]])
def test_sparsity_goes_with_all_terms_together(tiny_recipe: Callable[..., Recipe], kind: str, tmp_path: Path) -> None:
    terms = [kind_of(row) for row in EXTENSION_POINTS["objective"] if kind_of(row) != "tandem"]  # another teacher's
    beside = {key: value for term in terms for key, value in BESIDE.get(term, {}).items()}
    recipe = tiny_recipe(**BASE | beside | {"objective": terms, "sparsity": {"kind": kind, **SETTINGS[kind]}})
    goes_all_the_way(recipe, tmp_path)


@pytest.mark.parametrize("rule", [rule for rule in RULES if not rule.allowed], ids=lambda r: f"{r.first}-{r.second}")
def test_a_forbidden_pair_is_refused_when_the_recipe_is_loaded(tiny_recipe: Callable[..., Recipe], rule: Rule) -> None:
    rows, settings = [], dict[str, dict[str, Any]]()
    for selector in (rule.first, rule.second):
        (place, *given) = selector.split()
        point, kind = place.split("/")
        rows.append(next((p, row) for p, row in ROWS if (p, kind_of(row)) == (point, kind)))
        settings[point] = {"kind": kind, **dict(each.split("=") for each in given)}
    changes = both(rows[0], rows[1])
    for point, value in settings.items():
        changes |= {point: value | changes.get(point, {})} if isinstance(changes.get(point), dict) else {}
    with pytest.raises(LavatubeError, match=rf"does not go with .*: {re.escape(rule.reason)}$"):
        tiny_recipe(**changes)


@pytest.mark.parametrize("need", NEEDS, ids=lambda need: need.first)
def test_a_method_without_what_it_needs_is_refused_when_the_recipe_is_loaded(
    tiny_recipe: Callable[..., Recipe], need: Need
) -> None:
    point, kind = need.first.split("/")
    with pytest.raises(LavatubeError, match=rf"{kind} does not go alone: {re.escape(need.reason)}$"):
        tiny_recipe(**BASE | {point: kind})


def test_every_selector_of_the_composition_table_means_a_method() -> None:
    known = {f"{point}/{kind_of(row)}" for point, row in ROWS} | {f"{point}/*" for point in EXTENSION_POINTS}
    assert {each for need in NEEDS for each in (need.first, *need.others)} <= known
    for rule in RULES:
        assert {rule.first.split()[0], rule.second.split()[0]} <= known, rule
        assert rule.allowed or "*" not in rule.first + rule.second
