"""Small recipes and networks that the training tests share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from method_cases import tiny, tiny_recipe  # noqa: F401  fixtures

from lavatube.train.datasets import catalog
from lavatube.train.datasets.dataset import Dataset, Split
from lavatube.train.datasets.digits import load_digits
from lavatube.train.networks.build import build_network
from lavatube.train.networks.network import SpikingNetwork
from lavatube.train.recipe import Recipe, parse_recipe

CONVS = ({"conv2d": {"channels": 4, "kernel": 3, "padding": 1}}, {"conv2d": {"channels": 6, "kernel": 3, "stride": 2}})


def plain_recipe(layers: tuple[Mapping[str, Any], ...] = CONVS, **changes: Any) -> dict[str, Any]:
    """A tiny recipe as plain values; `changes` replace its keys."""
    return {
        "name": "tiny",
        "num_steps": 4,
        "data": {"name": "tiny", "shift": 1},
        "network": {"kind": "chain", "layers": [*layers, {"dense": {"units": 10}}]},
        "neuron": {"decay": 0.5},
        "objective": ["cross_entropy", {"kind": "self_distillation", "channels": 8}, "bias_limit"],
        "optimizer": {"lr": 0.01, "epochs": 4, "batch_size": 32},
        **changes,
    }


@pytest.fixture
def make_recipe() -> Callable[..., Recipe]:
    return lambda *args, **changes: parse_recipe(plain_recipe(*args, **changes), where="test")


@pytest.fixture
def make_network(make_recipe: Callable[..., Recipe]) -> Callable[..., SpikingNetwork]:
    """Float64 chains on [2, 5, 5] inputs, with weights large enough to spike, in training mode."""

    def make(hidden: int = 2, *, num_steps: int = 4, normalization: Any = "pooled", **neuron: Any) -> SpikingNetwork:
        layers = (*CONVS, {"dense": {"units": 7}})[:hidden]
        recipe = make_recipe(layers, num_steps=num_steps, normalization=normalization, neuron={"decay": 0.5, **neuron})
        built = build_network(recipe, (2, 5, 5), 10).double()
        with torch.no_grad():
            for _, layer in built.chain():
                if layer.norm is not None:
                    layer.norm.weight.uniform_(0.8, 1.2, generator=torch.Generator().manual_seed(1))
                    layer.norm.bias.fill_(0.3)
                if layer.neurons is not None:
                    layer.synapse.weight *= 4
                    exact = {"decay": neuron.get("decay", 0.5)}  # a recipe's is snapped to the chip's grid
                    layer.neurons.spec = layer.neurons.spec.model_copy(update=exact)
        return built

    return make


@pytest.fixture
def tiny_data(monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """A data set `tiny`: 96, 40 and 40 of the digits."""
    digits = load_digits(None, 1)
    parts = [
        Split(split.samples[:size].copy(), split.label[:size].copy())
        for split, size in ((digits.train, 96), (digits.validation, 40), (digits.test, 40))
    ]
    made = Dataset("tiny", 10, False, *parts)
    monkeypatch.setitem(catalog.DATASETS, "tiny", lambda folder, num_steps: made)  # type: ignore[arg-type]
    return made
