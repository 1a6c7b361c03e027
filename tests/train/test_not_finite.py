"""What is not finite stops a run: the layer in which it began is named, and nothing of it is kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lavatube.errors import LavatubeError
from lavatube.train import run
from lavatube.train.checkpoint import checkpoint_path
from lavatube.train.loop import Trainee, refuse_non_finite, train_epoch
from lavatube.train.networks.network import SpikingNetwork
from lavatube.train.optimization import make_optimizer
from lavatube.train.processes import Processes
from lavatube.train.recipe import Recipe
from lavatube.train.run import train
from lavatube.train.samples import prepare
from lavatube.train.seq import Seq

pytestmark = pytest.mark.usefixtures("tiny_data")
MakeRecipe = Callable[..., Recipe]


def test_a_loss_that_is_not_finite_stops_the_run(make_recipe: MakeRecipe) -> None:
    with pytest.raises(LavatubeError, match=r"^layer1.*epoch 1, step 2.*not finite.*optimizer\.lr"):
        train(make_recipe(optimizer={"name": "sgd", "lr": 1e30, "epochs": 3, "batch_size": 32}))


def test_nothing_that_is_not_finite_is_saved(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(optimizer={"name": "sgd", "lr": 1e20, "epochs": 2, "batch_size": 32})
    with pytest.raises(LavatubeError, match="not finite"):
        train(recipe, out=tmp_path)
    assert not (tmp_path / "config.json").exists()
    assert not checkpoint_path(tmp_path).exists()


def test_a_moment_of_the_optimizer_that_overflows_stops_the_run(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = run.make_optimizer

    def with_large_gradients(trainee: Trainee, settings: Any) -> torch.optim.Optimizer:
        trainee.network.get_parameter("layer2.synapse.weight").register_hook(lambda slope: torch.full_like(slope, 1e25))
        return make(trainee, settings)

    monkeypatch.setattr(run, "make_optimizer", with_large_gradients)
    with pytest.raises(LavatubeError, match=r"epoch 1: the optimizer's exp_avg_sq of layer2\.synapse\.weight is not"):
        train(make_recipe(optimizer={"name": "adam", "lr": 0.01, "epochs": 2, "batch_size": 32}), out=tmp_path)
    assert not checkpoint_path(tmp_path).exists()


def overflows(network: SpikingNetwork) -> None:
    network.get_parameter("layer2.synapse.weight").fill_(1e38)


def broken(network: SpikingNetwork) -> None:
    network.get_parameter("layer2.synapse.weight")[0] = torch.nan


def spreads_from_the_readout(network: SpikingNetwork) -> None:
    network.get_submodule("layer3").register_forward_hook(
        lambda module, inputs, x: Seq(x.steps, EndlessSlope.apply(x.rate))
    )


class EndlessSlope(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return gradients[0] * torch.inf


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (overflows, r"^layer2 \(epoch 1, step 1\): .* not finite"),
        (broken, r"^layer2\.synapse\.weight \(epoch 1, step 1\): "),
        (spreads_from_the_readout, r"^layer3\.synapse\.(weight|bias) \(epoch 1, step 1\): a gradient is not finite"),
    ],
)
@pytest.mark.parametrize("gradient", ["rate", "bptt"])
def test_the_layer_that_is_named_is_the_one_in_which_it_began(
    make_recipe: MakeRecipe, gradient: str, damage: Callable[[SpikingNetwork], None], message: str
) -> None:
    recipe = make_recipe(gradient=gradient, objective=["cross_entropy"], normalization=None)
    data = prepare(recipe)
    trainee = Trainee(recipe, data)
    with torch.no_grad():
        for name in ("layer1", "layer2"):  # or they would not spike
            trainee.network.get_parameter(f"{name}.synapse.weight").mul_(8)
        damage(trainee.network)
    before = {name: value.clone() for name, value in trainee.named_parameters()}
    optimizer = make_optimizer(trainee, recipe.optimizer)
    with pytest.raises(LavatubeError, match=message):
        train_epoch(trainee, recipe, data, optimizer, 0, Processes())
    for name, value in trainee.named_parameters():
        assert torch.equal(value.nan_to_num(), before[name].nan_to_num()), name


def test_gradients_of_which_only_the_sum_is_not_finite_go_on_and_a_look_for_the_layer_moves_no_statistics(
    make_recipe: MakeRecipe,
) -> None:
    recipe = make_recipe()
    data = prepare(recipe)
    trainee = Trainee(recipe, data)
    for parameter in trainee.parameters():
        parameter.grad = torch.full_like(parameter, 3e38)
    events, _ = next(data.batches(data.dataset.train, 8, torch.device("cpu")))
    inputs = data.as_floats(events)
    refuse_non_finite(trainee, torch.tensor(1.0), inputs, Processes(), "step 1")
    before = {name: value.clone() for name, value in trainee.named_buffers()}
    with pytest.raises(LavatubeError, match="loss is not finite"):
        refuse_non_finite(trainee, torch.tensor(torch.nan), inputs, Processes(), "step 1")
    assert before
    assert all(torch.equal(value, before[name]) for name, value in trainee.named_buffers())
