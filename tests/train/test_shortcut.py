"""Shortcut back-propagation: the schedule, the loss, and the gradient that reaches the first layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from lavatube.errors import LavatubeError
from lavatube.train.gradients.bptt import Bptt
from lavatube.train.networks.build import build_network
from lavatube.train.objectives.cross_entropy import CrossEntropy
from lavatube.train.objectives.objective import Objective
from lavatube.train.objectives.shortcut import Shortcut
from lavatube.train.recipe import Recipe
from lavatube.train.seq import Outputs

MakeRecipe = Callable[..., Recipe]
DEEP = [{"conv2d": {"channels": 12, "kernel": 3, "padding": 1}}] * 16


@pytest.mark.parametrize(
    ("schedule", "values"),
    [("linear", [2, 1.5, 1, 0.5]), ("constant", [2, 2, 2, 2]), ("cosine", [2, 1.7071068, 1, 0.2928932])],
)
def test_the_weight_starts_whole_and_falls_as_the_schedule_says(schedule: Any, values: list[float]) -> None:
    term = Shortcut(weight=2.0, schedule=schedule)
    assert [term.at(epoch / 4) for epoch in range(4)] == pytest.approx(values)


@pytest.mark.parametrize("pooling", ["none", "global"])
def test_the_loss_is_the_mean_cross_entropy_of_the_branches(make_recipe: MakeRecipe, pooling: Any) -> None:
    network = build_network(make_recipe(objective=["cross_entropy"]), (1, 8, 8), 10)
    term = Shortcut(weight=0.5, pooling=pooling)
    heads = term.heads(network, 10, None)
    taps = {name: torch.rand(6, *shape) for name, shape in network.stage_shapes().items()}
    labels = torch.arange(6)
    losses = []
    for branch, spikes in zip(heads.values(), taps.values(), strict=True):
        seen = spikes.mean((2, 3)) if pooling == "global" else spikes.flatten(1)
        losses.append(F.cross_entropy(branch.dense(seen), labels))  # type: ignore[operator,union-attr]
    loss = term.loss(Outputs(torch.zeros(6, 10), taps, done=0.5), labels, heads)
    torch.testing.assert_close(loss, 0.25 * torch.stack(losses).mean())


def test_a_network_without_stages_is_refused(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe((), objective=["cross_entropy", "shortcut"])
    with pytest.raises(LavatubeError, match="shortcut needs a layer with neurons"):
        Objective(recipe.objective, build_network(recipe, (1, 8, 8), 10), 10, 0)


def test_the_first_layer_of_a_deep_network_learns_the_more_the_larger_the_weight(make_recipe: MakeRecipe) -> None:
    """Sixteen layers and a low surrogate, 1/3 over a width of 3: the regime in which gradients vanish."""
    surrogate = {"kind": "rectangular", "width": 3.0}
    recipe = make_recipe(
        tuple(DEEP), objective=["cross_entropy"], num_steps=2, neuron={"decay": 0.5, "surrogate": surrogate}
    )
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.rand(8, 1, 6, 6, generator=generator), torch.arange(8)

    def first_over_last(weight: float) -> float:
        network = build_network(recipe, (1, 6, 6), 10).train()
        objective = Objective([CrossEntropy(), Shortcut(weight=weight)], network, 10, 0)
        Bptt().gradients(network, images, lambda outputs: objective(outputs, labels))
        norms = [layer.synapse.weight.grad.norm() for _, layer in network.chain()]  # type: ignore[operator,union-attr]
        return float(norms[0] / norms[-1])

    ratios = [first_over_last(weight) for weight in (0.0, 1.0, 4.0)]
    assert ratios[0] < 0.05  # the premise
    assert ratios == sorted(ratios)
    assert ratios[1] > 1.3 * ratios[0]
