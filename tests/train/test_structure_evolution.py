"""Evolutionary structure learning: as many synapses at every step, and what is pruned is exactly zero everywhere."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lavatube.convert.export import export
from lavatube.convert.quantize import quantize
from lavatube.deploy.lower import lower
from lavatube.errors import LavatubeError, UnsupportedError
from lavatube.program import DenseNode, SparseNode
from lavatube.sim.connectivity import fan_out
from lavatube.sim.parity import parity
from lavatube.train.loop import Trainee, train_epoch
from lavatube.train.optimization import make_optimizer
from lavatube.train.plugin import Step
from lavatube.train.processes import Processes
from lavatube.train.quantized import QuantizedModule
from lavatube.train.recipe import Recipe
from lavatube.train.run import train
from lavatube.train.samples import prepare
from lavatube.train.sparsity.density import erdos_renyi
from lavatube.train.sparsity.masks import MaskStraightThrough, add_mask, latent_of, live_of
from lavatube.train.sparsity.structure_evolution import synapses

pytestmark = pytest.mark.usefixtures("tiny_data")
MakeRecipe = Callable[..., Recipe]


def sparse_recipe(make_recipe: MakeRecipe, optimizer: str = "adam", **changes: Any) -> Recipe:
    sparsity = {"kind": "esl", "density": 0.3, "exchange": 0.5, "update_every": 2, **changes.pop("sparsity", {})}
    return make_recipe(
        sparsity=sparsity, objective=["cross_entropy"], num_steps=3,
        optimizer={"name": optimizer, "lr": 0.02, "weight_decay": 0.1, "epochs": 4, "batch_size": 32}, **changes,
    )  # fmt: skip


def masks(trainee: Trainee) -> list[torch.Tensor]:
    found = [live_of(layer, "weight") for layer in synapses(trainee.network)]
    return [live.clone() for live in found if live is not None]


@pytest.mark.parametrize("grow", ["gradient", "random"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_the_density_is_constant_and_pruned_weights_are_zero_at_every_step(
    make_recipe: MakeRecipe, optimizer: str, grow: str
) -> None:
    recipe = sparse_recipe(make_recipe, optimizer, sparsity={"grow": grow})
    data = prepare(recipe)
    trainee = Trainee(recipe, data)
    steps, states = make_optimizer(trainee, recipe.optimizer), list[list[torch.Tensor]]()

    def look(samples: int) -> None:
        states.append(masks(trainee))
        for layer, live in zip(synapses(trainee.network), states[-1], strict=True):
            latent = latent_of(layer, "weight", "test")
            moments = [value for value in steps.state[latent].values() if value.shape == live.shape]
            assert moments
            for value in (layer.weight, latent, *moments):
                assert not value[~live].any()

    first = masks(trainee)
    for epoch in range(4):
        train_epoch(trainee, recipe, data, steps, epoch, Processes(), look)
    counts = [[int(live.sum()) for live in state] for state in [first, *states]]
    shapes = [tuple(live.shape) for live in first]
    assert counts == [erdos_renyi(shapes, 0.3)] * 13  # before, and after each of 4 x 3 steps
    assert abs(sum(counts[0]) - 0.3 * sum(math.prod(shape) for shape in shapes)) <= len(shapes)
    for number, (before, after) in enumerate(zip([first, *states], states, strict=False)):
        due = (number + 1) % 2 == 0 and number < 9  # of 12 steps: the second, fourth, sixth, eighth
        share = 0.5 * (1 + math.cos(math.pi * (number + 1) / 9)) / 2 if due else 0.0
        for old, new in zip(before, after, strict=True):
            dropped, grown = int((old & ~new).sum()), int((new & ~old).sum())
            assert dropped == grown == min(math.floor(share * int(old.sum())), int((~old).sum()))
    assert any(not torch.equal(old, new) for old, new in zip(first, states[-1], strict=True))


def test_gradient_growth_takes_the_largest_dense_gradients_and_drops_the_smallest_weights(
    make_recipe: MakeRecipe,
) -> None:
    recipe = sparse_recipe(make_recipe)
    assert recipe.sparsity is not None
    data = prepare(recipe)
    trainee = Trainee(recipe, data)
    events, labels = next(data.batches(data.dataset.train, 32, torch.device("cpu")))
    recipe.gradient.gradients(trainee.network, data.as_floats(events), lambda o: trainee.objective(o, labels))
    layer = synapses(trainee.network)[1]
    latent, live = latent_of(layer, "weight", "test"), live_of(layer, "weight")
    assert live is not None
    assert latent.grad is not None
    assert latent.grad[~live].any()  # the premise: gradients of what is masked
    gradient, weight, before = latent.grad.abs().clone(), latent.detach().abs().clone(), live.clone()
    step = Step(1, 1000, data.as_floats(events), torch.Generator(), torch.optim.SGD(trainee.parameters(), lr=0.1))
    recipe.sparsity.before_update(trainee.network, step)
    dropped, grown = before & ~live, live & ~before
    assert weight[dropped].max() <= weight[before & live].min()
    assert gradient[grown].min() >= gradient[~before & ~live].max()


def test_the_gradient_of_a_masked_weight_is_that_of_a_weight_that_happens_to_be_zero() -> None:
    x, live = torch.randn(5, 4), torch.tensor([[True, False, True, False]] * 3)
    masked, plain = nn.Linear(4, 3), nn.Linear(4, 3)
    with torch.no_grad():
        plain.weight.copy_(masked.weight * live)
        plain.bias.copy_(masked.bias)
    add_mask(masked, "weight", live)
    for layer in (masked, plain):
        layer(x).square().sum().backward()
    gradient = latent_of(masked, "weight", "test").grad
    assert gradient is not None
    assert torch.equal(gradient, plain.weight.grad)
    assert not MaskStraightThrough.apply(torch.full((2,), torch.nan), torch.tensor([False, False])).any()


@given(
    st.lists(st.lists(st.integers(1, 40), min_size=2, max_size=4).map(tuple), min_size=1, max_size=6),
    st.floats(0.01, 0.99),
)
def test_layers_share_the_density_and_none_is_empty_or_more_than_full(
    shapes: list[tuple[int, ...]], density: float
) -> None:
    sizes = [math.prod(shape) for shape in shapes]
    total = round(density * sum(sizes))
    if total < len(shapes):
        with pytest.raises(LavatubeError, match=r"density leaves a layer without synapses"):
            erdos_renyi(shapes, density)
        return
    counts = erdos_renyi(shapes, density)
    assert all(1 <= count <= size for count, size in zip(counts, sizes, strict=True))
    assert abs(sum(counts) - total) <= len(shapes)


def test_small_layers_are_denser_than_large_ones() -> None:
    small, large = erdos_renyi([(10, 20), (100, 200)], 0.1)
    assert small / 200 == pytest.approx(10 * large / 20_000, rel=0.01)  # (10 + 20) / 200 against (100 + 200) / 20000
    assert erdos_renyi([(4, 1, 3, 3), (512, 512, 3, 3)], 0.05)[0] == 36  # dense: its share would exceed 1


def test_a_weight_that_is_made_of_other_tensors_is_refused() -> None:
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))
    with pytest.raises(UnsupportedError, match=r"esl cannot mask a weight that is made of other tensors"):
        latent_of(layer, "weight", "esl")


@pytest.mark.slow
@pytest.mark.parametrize("network", [None, {"kind": "recurrent", "units": [12]}], ids=["chain", "recurrent"])
def test_pruned_weights_are_zero_in_the_run_through_fine_tuning_and_in_the_integers(
    make_recipe: MakeRecipe, tmp_path: Path, network: Any
) -> None:
    changes = {} if network is None else {"network": network, "gradient": "bptt"}
    run = train(sparse_recipe(make_recipe, **changes), out=tmp_path)
    weights = [value for value in run.tensors.values() if value.ndim > 1]
    shapes = [value.shape for value in weights]
    assert [int((value != 0).sum()) for value in weights] <= erdos_renyi(shapes, 0.3)
    made = quantize(tmp_path, epochs=2 if network is None else 0)
    layers = QuantizedModule(made.layout, made.tensors).integer_layers()
    integers = [synapse.weight for layer in layers for synapse in layer.synapses]
    for value, integer in zip(weights, integers, strict=True):
        assert not integer[value == 0].any()
        assert integer.any()
    if network is None:
        masters = [value for name, value in made.tensors.items() if value.ndim > 1]
        rounded = quantize(tmp_path, out=tmp_path / "rounded", epochs=0)
        before = [value for name, value in rounded.tensors.items() if value.ndim > 1]
        assert all((np.array_equal(a != 0, b != 0)) for a, b in zip(masters, before, strict=True))
        assert any(not np.array_equal(a, b) for a, b in zip(masters, before, strict=True))  # it was tuned


@pytest.mark.slow
def test_a_pruned_matrix_is_lowered_to_its_connections_and_is_equal_in_every_spike(
    make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    network = {"kind": "chain", "layers": [{"dense": {"units": 260}}, {"dense": {"units": 10}}]}
    train(sparse_recipe(make_recipe, network=network), out=tmp_path)
    quantize(tmp_path, epochs=1)
    export(tmp_path)
    program = lower(tmp_path / "model.nir", out=tmp_path / "program.safetensors")
    first, readout = program.synapses
    assert isinstance(first, SparseNode)
    assert isinstance(readout, DenseNode)  # too small for an index to pay
    dense, sparse = (fan_out(node)[0].sum() for node in (readout, first))
    assert 0 < sparse <= erdos_renyi([(260, 64), (10, 260)], 0.3)[0]
    assert dense == readout.weight.size
    assert parity(tmp_path, against=["torch"]).equal


@pytest.mark.slow
def test_a_masked_binary_weight_is_one_of_three_values_and_stays_pruned(
    make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    recipe = sparse_recipe(make_recipe, weight={"kind": "binary"})
    hidden = train(recipe, out=tmp_path).tensors["layer2.synapse.weight"]
    assert int((hidden != 0).sum()) == erdos_renyi([(4, 1, 3, 3), (6, 4, 3, 3), (10, 54)], 0.3)[1]
    made = quantize(tmp_path, epochs=2)
    [integers] = QuantizedModule(made.layout, made.tensors).integer_layers()[1].synapses
    for row, floats in zip(integers.weight, hidden, strict=True):
        assert len(np.unique(np.abs(row[row != 0]))) <= 1
        assert np.array_equal(row != 0, floats != 0) or not row.any()
