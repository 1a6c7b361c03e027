"""Small recipes and networks that the training tests share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch

from lavatube.train import data as data_module
from lavatube.train.data import Dataset, Split, load_digits
from lavatube.train.network import SpikingNetwork, build_network
from lavatube.train.recipe import Recipe, parse_recipe

CONVS = ({"conv2d": {"channels": 4, "kernel": 3, "padding": 1}}, {"conv2d": {"channels": 6, "kernel": 3, "stride": 2}})


def plain_recipe(layers: tuple[Mapping[str, Any], ...] = CONVS, **changes: Any) -> dict[str, Any]:
    """A tiny recipe as plain values; `changes` replace its keys."""
    return {
        "name": "tiny",
        "num_steps": 4,
        "data": {"name": "tiny", "shift": 1},
        "network": {"layers": [*layers, {"dense": {"units": 10}}]},
        "neuron": {"decay": 0.5},
        "method": {"self_distillation": {"channels": 8}, "bias_limit": {}},
        "optimizer": {"lr": 0.01, "epochs": 4, "batch_size": 32},
        **changes,
    }


@pytest.fixture
def make_recipe() -> Callable[..., Recipe]:
    return lambda *args, **changes: parse_recipe(plain_recipe(*args, **changes), where="test")


@pytest.fixture
def make_network(make_recipe: Callable[..., Recipe]) -> Callable[..., SpikingNetwork]:
    """Float64 networks on [2, 5, 5] inputs, with weights large enough to spike, in training mode."""

    def make(
        hidden: int = 2,
        *,
        num_steps: int = 4,
        decay: float = 0.5,
        theta: float = 1.0,
        batch_norm: bool = True,
        gain: float = 4,
    ) -> SpikingNetwork:
        layers = (*CONVS, {"dense": {"units": 7}})[:hidden]
        network = {"layers": [*layers, {"dense": {"units": 10}}], "batch_norm": batch_norm}
        built = build_network(make_recipe(network=network, num_steps=num_steps), (2, 5, 5), 10).double()
        with torch.no_grad():
            for layer in built.layers():
                if layer.lif is not None:
                    layer.lif = replace(layer.lif, decay=decay, threshold=theta)
                    if layer.norm is not None:
                        layer.norm.weight.uniform_(0.8, 1.2, generator=torch.Generator().manual_seed(1))
                        layer.norm.bias.fill_(0.3)
                    else:
                        layer.synapse.weight *= gain
        return built

    return make


@pytest.fixture
def tiny_data(monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """A data set `tiny`: 96, 40 and 40 of the digits."""
    digits = load_digits(None)
    parts = [
        Split(split.events[:size].copy(), split.label[:size].copy())
        for split, size in ((digits.train, 96), (digits.validation, 40), (digits.test, 40))
    ]
    tiny = Dataset("tiny", 10, 8, *parts)
    monkeypatch.setitem(data_module.DATASETS, "tiny", lambda folder: tiny)  # type: ignore[arg-type]
    return tiny
