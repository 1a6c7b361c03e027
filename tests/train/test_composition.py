"""Methods together: every pair trains, finalizes and exports, or is refused with the reason when a recipe is loaded."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from method_cases import BASE, ROWS, assert_promises, left_behind, outputs, trained
from method_pairs import PAIRS, Method, covering, forbidden, label, together

from lavatube.convert.export import export
from lavatube.convert.fold import LOWERED
from lavatube.convert.quantize import quantize
from lavatube.errors import LavatubeError, UnsupportedError
from lavatube.train.composition import NEEDS, RULES, Need, Rule
from lavatube.train.extension_points import EXTENSION_POINTS
from lavatube.train.networks.build import build_network
from lavatube.train.networks.network import SpikingNetwork
from lavatube.train.recipe import Recipe
from lavatube.train.recipe_model import kind_of
from lavatube.train.run import train
from lavatube.train.sparsity.channel_activity import ChannelActivity
from lavatube.train.sparsity.channels import prunable
from lavatube.train.sparsity.density import erdos_renyi
from lavatube.train.sparsity.structure_evolution import StructureEvolution, synapses
from lavatube.train.weights.binary import Binary
from lavatube.trained import TrainedNetwork, save_trained

pytestmark = pytest.mark.usefixtures("tiny")


def assert_each_method_did_its_part(network: SpikingNetwork, recipe: Recipe) -> None:
    """What a sparsity and a weight rule promise of the finalized network, whatever was beside them."""
    if isinstance(recipe.sparsity, ChannelActivity):
        whole = prunable(build_network(recipe, network.input_shape, 10))
        kept = [max(1, round(recipe.sparsity.keep * len(part.norm.weight))) for part in whole]
        assert [len(part.norm.weight) for part in prunable(network)] == kept
    if isinstance(recipe.sparsity, StructureEvolution):
        weights = [layer.weight for layer in synapses(network)]
        counts = erdos_renyi([tuple(weight.shape) for weight in weights], recipe.sparsity.density)
        assert all(int(weight.count_nonzero()) <= count for weight, count in zip(weights, counts, strict=True))
    if isinstance(recipe.weight, Binary):
        for layer in recipe.weight.chosen(network):
            rows = layer.synapse.weight.detach().abs().flatten(1)
            assert ((rows == 0) | (rows == rows.max(1, keepdim=True).values)).all()
    assert_promises(network, recipe)


def goes_all_the_way(recipe: Recipe, folder: Path) -> None:
    """Trains two steps, leaves nothing behind, and exports; or is refused for what it needs, by name."""
    trainee = trained(recipe, epochs=1)
    before = outputs(trainee.network)
    network = trainee.finalize()
    torch.testing.assert_close(outputs(network), before, rtol=0, atol=1e-5)
    assert left_behind(network, recipe) == []
    assert_each_method_did_its_part(network, recipe)
    tensors = {name: value.numpy() for name, value in network.state_dict().items()}
    save_trained(TrainedNetwork(recipe.model_dump(mode="json"), tensors, {}), folder)
    refused = sorted(network.needs - LOWERED)
    if refused:
        with pytest.raises(UnsupportedError, match=refused[0]):
            quantize(folder, epochs=0)
        return
    quantize(folder, epochs=0)
    assert export(folder).nodes


CHOICES = covering()


@pytest.mark.slow
@pytest.mark.parametrize("methods", CHOICES, ids=label)
def test_every_pair_is_in_a_recipe_that_trains_finalizes_and_exports(
    tiny_recipe: Callable[..., Recipe], methods: tuple[Method, ...], tmp_path: Path
) -> None:
    goes_all_the_way(tiny_recipe(**together(*methods)), tmp_path)


def test_the_recipes_of_pairs_hold_every_allowed_pair_and_no_forbidden_one() -> None:
    held = {pair for methods in CHOICES for pair in combinations(methods, 2)}
    assert {pair for pair in PAIRS if not forbidden(*pair)} <= held
    assert not any(forbidden(*pair) for pair in held)


MANY = [
    ("dspike", "bptt", "tse", "sub_bit", "sca", "self_ensemble", "bkdsnn", "mpfd", "shortcut"),
    ("dsr", "running", "binary", "esl", "kdsnn", "lasnn", "tandem"),
]


@pytest.mark.slow
@pytest.mark.parametrize("kinds", MANY, ids="-".join)
def test_a_run_with_many_methods_resumes_to_the_same_bits(
    tiny_recipe: Callable[..., Recipe], kinds: tuple[str, ...], tmp_path: Path
) -> None:
    chosen = [row for row in ROWS if kind_of(row[1]) in kinds and not (row[0] == "encoder" and "binary" in kinds)]
    assert len(chosen) == len(kinds)
    recipe = tiny_recipe(**together(*chosen) | {"optimizer": {"lr": 0.02, "epochs": 2, "batch_size": 32}})

    def stop(*progress: object) -> None:
        raise KeyboardInterrupt

    whole = train(recipe).tensors
    with pytest.raises(KeyboardInterrupt):
        train(recipe, out=tmp_path, progress=stop)
    resumed = train(recipe, out=tmp_path).tensors
    assert set(whole) == set(resumed)
    assert all(np.array_equal(value, resumed[name]) for name, value in whole.items())


GRADED = {"decay": 0.5, "output": "graded", "graded_max": 4.0}
REAL = {"neuron": GRADED, "weight": "binary"}  # spikes of real values, binary weights (ReverB-SNN)


@pytest.mark.slow
@pytest.mark.parametrize("sparsity", ["esl", "sca"])
@pytest.mark.parametrize("gradient", ["bptt", "rate", "online", "local_tandem"])
def test_graded_neurons_go_with_every_rule_for_them_and_with_all_terms(
    tiny_recipe: Callable[..., Recipe], gradient: str, sparsity: str, tmp_path: Path
) -> None:
    rows = [row for row in ROWS if kind_of(row[1]) in (gradient, sparsity) or row[0] == "objective"]
    chosen = [row for row in rows if not any(forbidden(row, each) for each in rows if each[0] == "gradient")]
    goes_all_the_way(tiny_recipe(**together(*chosen) | REAL), tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("pair", PAIRS, ids=label)
def test_every_pair_trains_finalizes_and_exports_or_is_refused_with_the_reason(
    tiny_recipe: Callable[..., Recipe], pair: tuple[Method, Method], tmp_path: Path
) -> None:
    rules = forbidden(*pair)
    if rules:
        with pytest.raises(LavatubeError, match=rf"does not go with .*: {re.escape(rules[0].reason)}"):
            tiny_recipe(**together(*pair))
        return
    goes_all_the_way(tiny_recipe(**together(*pair)), tmp_path)


@pytest.mark.parametrize("rule", [rule for rule in RULES if not rule.allowed], ids=lambda r: f"{r.first}-{r.second}")
def test_a_forbidden_pair_is_refused_when_the_recipe_is_loaded(tiny_recipe: Callable[..., Recipe], rule: Rule) -> None:
    parts = [selector.split() for selector in (rule.first, rule.second)]
    changes = together(*(row for place, *_ in parts for row in ROWS if f"{row[0]}/{kind_of(row[1])}" == place))
    for place, *given in parts:
        if given:
            point, _, kind = place.partition("/")
            changes[point] = ({"kind": kind} if kind else {"decay": 1}) | dict(each.split("=") for each in given)
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
    known = (
        {f"{point}/{kind_of(row)}" for point, row in ROWS} | {f"{point}/*" for point in EXTENSION_POINTS} | {"neuron"}
    )
    assert {each for need in NEEDS for each in (need.first, *need.others)} <= known
    for rule in RULES:
        assert {rule.first.split()[0], rule.second.split()[0]} <= known, rule
        assert rule.allowed or "*" not in rule.first + rule.second
