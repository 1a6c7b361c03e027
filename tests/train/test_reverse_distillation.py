"""Structure learning with reverse distillation is two methods side by side: neither disturbs the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lavatube.train.loop import Trainee, train_epoch
from lavatube.train.optimization import make_optimizer
from lavatube.train.processes import Processes
from lavatube.train.recipe import Recipe, load_recipe, parse_recipe
from lavatube.train.run import train
from lavatube.train.samples import prepare
from lavatube.train.sparsity.density import erdos_renyi
from lavatube.train.sparsity.masks import latent_of, live_of
from lavatube.train.sparsity.structure_evolution import synapses


def shortened(name: str, **changes: Any) -> Recipe:
    recipe = load_recipe(name).model_dump(mode="json")
    recipe["optimizer"]["epochs"] = 1
    return parse_recipe(recipe | changes, where="test")


@pytest.mark.slow
def test_the_density_holds_and_the_gradients_are_those_of_the_same_network_without_masks(tmp_path: Path) -> None:
    train(shortened("digits-esl"), out=tmp_path / "teacher")
    teacher = {"kind": "run", "folder": str(tmp_path / "teacher")}
    recipe = shortened("digits-reverse-distillation", teacher=teacher)
    data = prepare(recipe)
    sparse, dense = Trainee(recipe, data), Trainee(recipe.model_copy(update={"sparsity": None}), data)
    layers = list(zip(synapses(sparse.network), synapses(dense.network), strict=True))
    with torch.no_grad():
        for ours, theirs in layers:
            theirs.weight.copy_(ours.weight)
    events, labels = next(data.batches(data.dataset.train, 64, torch.device("cpu")))
    inputs = data.as_floats(events)
    for trainee in (sparse, dense):
        recipe.gradient.gradients(trainee.network, inputs, trainee.loss_of(inputs, labels))
    for ours, theirs in layers:
        gradient = latent_of(ours, "weight", "test").grad
        assert gradient is not None
        assert gradient.any()
        assert torch.equal(gradient, theirs.weight.grad)
    for parameter in sparse.parameters():
        parameter.grad = None

    def count(samples: int) -> None:
        live = [live_of(layer, "weight") for layer, _ in layers]
        found = [int(mask.sum()) for mask in live if mask is not None]
        assert found == erdos_renyi([tuple(layer.weight.shape) for layer, _ in layers], 0.1)

    before = [live_of(layer, "weight").clone() for layer, _ in layers]  # type: ignore[union-attr]
    train_epoch(sparse, recipe, data, make_optimizer(sparse, recipe.optimizer), 0, Processes(), count)
    assert any(not torch.equal(old, live_of(layer, "weight")) for old, (layer, _) in zip(before, layers, strict=True))  # type: ignore[arg-type]
