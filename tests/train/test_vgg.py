"""VGG networks."""

from __future__ import annotations

import pytest
import torch

from lavatube.train.networks.build import build_network
from lavatube.train.networks.chain import ChainNetwork
from lavatube.train.recipe import load_recipe, parse_recipe


def test_the_published_initialisation_is_a_normal_distribution_of_a_seed() -> None:
    recipe = load_recipe("cifar10-dvs-vgg11").model_dump(mode="json")
    recipe["network"]["width"] = 8
    first, again = (build_network(parse_recipe(recipe, where="test"), (2, 48, 48), 10) for _ in range(2))
    assert isinstance(first, ChainNetwork)
    for name, layer in first.chain():
        weight = layer.synapse.weight.detach()
        assert float(weight.std()) == pytest.approx(0.5, rel=0.15), name
        assert float(weight.abs().max()) > 0.9, name
        assert torch.equal(weight, again.get_parameter(f"{name}.synapse.weight").detach())
