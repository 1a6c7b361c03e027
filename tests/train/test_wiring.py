"""The wiring of a network: populations and synapses as they are in the module, and what is none is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lavatube.errors import UnsupportedError
from lavatube.train.networks.build import build_network
from lavatube.train.networks.pooling import SpikePool
from lavatube.train.networks.wiring import Drive, wiring
from lavatube.train.recipe import Recipe

MakeRecipe = Callable[..., Recipe]


def wired(make_recipe: MakeRecipe, shape: tuple[int, ...] = (1, 16, 16), **network: Any) -> list[Drive]:
    recipe = make_recipe(network=network, gradient="bptt", data={"name": "digits"})
    return wiring(build_network(recipe, shape, 10))


def test_each_population_of_a_residual_network_has_its_synapses(make_recipe: MakeRecipe) -> None:
    drives = wired(make_recipe, kind="resnet", width=2)
    found = {drive.name: [(each.name, each.source) for each in drive.connections] for drive in drives}
    assert len(drives) == 1 + 2 * 8 + 1  # stem, eight blocks of two populations, read-out
    assert found["stem"] == [("stem", "input")]
    assert found["stages_0_0_first"] == [("stages_0_0_first", "stem")]
    assert found["stages_0_0"] == [("stages_0_0_second", "stages_0_0_first"), ("stages_0_0_identity", "stem")]
    assert found["stages_1_0"] == [("stages_1_0_second", "stages_1_0_first"), ("stages_1_0_shortcut", "stages_0_1")]
    assert found["readout"] == [("readout", "stages_3_1")]
    assert [drive.spec is None for drive in drives] == [False] * 17 + [True]


def test_feedback_is_a_synapse_from_a_population_to_itself(make_recipe: MakeRecipe) -> None:
    drives = wired(make_recipe, (6,), kind="recurrent", units=[5, 4])
    found = [(drive.name, [(each.name, each.source) for each in drive.connections]) for drive in drives]
    assert found == [
        ("hidden_0_layer", [("hidden_0_layer", "input"), ("hidden_0_feedback", "hidden_0_layer")]),
        ("hidden_1_layer", [("hidden_1_layer", "hidden_0_layer"), ("hidden_1_feedback", "hidden_1_layer")]),
        ("readout", [("readout", "hidden_1_layer")]),
    ]


def test_a_sum_of_spikes_is_refused_by_the_names_of_its_populations(make_recipe: MakeRecipe) -> None:
    with pytest.raises(UnsupportedError, match=r"stages_0_0_second \+ stem: a sum of spikes is no spike"):
        wired(make_recipe, kind="sew_resnet", width=2)


def test_every_synapse_behind_a_pool_has_it(make_recipe: MakeRecipe) -> None:
    drives = wired(make_recipe, (1, 32, 32), kind="resnet", width=2, stem="imagenet")
    found = {each.name: each.pool for drive in drives for each in drive.connections if each.pool}
    pooled = dict.fromkeys(["stages_0_0_first", "stages_0_0_identity"], SpikePool(2, 2))
    assert found == pooled  # 1 x 1 is left at the end
