"""Enhanced self-distillation: the teacher by hand, the loss, and what it touches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lavatube.errors import LavatubeError
from lavatube.train.gradients.rate import RateBased
from lavatube.train.networks.build import build_network
from lavatube.train.networks.network import SpikingNetwork
from lavatube.train.objectives.branches import SeparableBlock, build_branches
from lavatube.train.objectives.cross_entropy import CrossEntropy
from lavatube.train.objectives.objective import Objective
from lavatube.train.objectives.self_distillation import SelfDistillation, distillation_loss, teacher
from lavatube.train.passes.rate import RatePass
from lavatube.train.recipe import Recipe
from lavatube.train.run import train
from lavatube.train.seq import Outputs

LABEL_1 = torch.tensor([1])


def heads(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64).unsqueeze(1)


def random_heads() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (20,), generator=generator)
    z = torch.randn(3, 20, 4, dtype=torch.float64, generator=generator) + F.one_hot(labels, 4)
    return z, labels


@pytest.mark.parametrize(
    ("rows", "mean", "valid"),
    [
        (([2, 0], [3, 1], [1, 0]), [0, 0], False),
        (([2, 0], [0, 3], [1, 0]), [0, 3], True),
        (([2, 0], [0, 3], [1, 2]), [0.5, 2.5], True),
        (([0, 2], [0, 3], [1, 4]), [1 / 3, 3], True),
    ],
    ids=["none", "one", "two", "all"],
)
def test_the_teacher_is_the_mean_of_the_heads_that_are_right(
    rows: tuple[list[float], ...], mean: list[float], valid: bool
) -> None:
    logits, is_valid = teacher(heads(*rows), LABEL_1)
    assert is_valid.tolist() == [valid]
    torch.testing.assert_close(logits[0], torch.tensor(mean, dtype=torch.float64))


def objective(z: torch.Tensor, labels: torch.Tensor, **settings: object) -> torch.Tensor:
    """Cross entropy and self-distillation of heads z [K, B, classes], the last one the network's own."""
    taps = {str(k): head for k, head in enumerate(z[:-1])}
    outputs, heads = Outputs(z[-1], taps), nn.ModuleDict({name: nn.Identity() for name in taps})
    terms = CrossEntropy(), SelfDistillation.model_validate(settings)
    return sum((term.loss(outputs, labels, heads) for term in terms), torch.zeros(()))


def test_where_nobody_is_right_only_the_cross_entropy_remains() -> None:
    z = heads([2, 0], [3, 1]).requires_grad_()
    loss = objective(z, LABEL_1, alpha=1.0, beta=0.5)
    torch.testing.assert_close(loss, F.cross_entropy(z[0], LABEL_1) + F.cross_entropy(z[1], LABEL_1))
    (gradient,) = torch.autograd.grad(loss, z)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_divergence_is_from_teacher_to_head_times_the_squared_temperature(temperature: float) -> None:
    z, labels = random_heads()
    target, valid = teacher(z, labels)
    assert 0 < int(valid.sum()) < len(valid)
    soft = F.softmax(target[valid] / temperature, -1)
    wanted = sum(F.kl_div(F.log_softmax(head[valid] / temperature, -1), soft, reduction="batchmean") for head in z)
    torch.testing.assert_close(distillation_loss(z, labels, temperature), temperature**2 * wanted)


def test_no_gradient_reaches_the_heads_through_the_teacher() -> None:
    z, labels = random_heads()
    z.requires_grad_()
    (gradient,) = torch.autograd.grad(distillation_loss(z, labels, 3.0), z)
    target, valid = teacher(z, labels)
    difference = F.softmax(z.detach() / 3, -1) - F.softmax(target / 3, -1)
    torch.testing.assert_close(gradient, 3 * difference * valid[:, None] / valid.sum())


@pytest.mark.parametrize("form", ["all", "final"])
def test_both_published_losses_are_what_their_code_adds_up(form: str) -> None:
    z, labels = random_heads()
    entropies = [F.cross_entropy(head, labels) for head in z]
    wanted = 0.7 * sum(entropies[:-1]) + (0.7 if form == "all" else 1.0) * entropies[-1]
    wanted = wanted + 0.3 * distillation_loss(z, labels, 3.0)
    torch.testing.assert_close(objective(z, labels, form=form, alpha=0.7, beta=0.3), wanted)


def test_without_alpha_and_beta_the_final_form_is_the_cross_entropy_to_the_bit() -> None:
    z, labels = random_heads()
    z.requires_grad_()
    results = [objective(z, labels, form="final", alpha=0.0, beta=0.0), F.cross_entropy(z[-1], labels)]
    gradients = [torch.autograd.grad(loss, z)[0] for loss in results]
    assert torch.equal(results[0], results[1])
    assert torch.equal(gradients[0], gradients[1])


def test_the_order_of_the_heads_does_not_matter() -> None:
    z, labels = random_heads()
    torch.testing.assert_close(objective(z, labels), objective(z.flip(0), labels))


def test_branches_train_the_layers_below_them(make_network: Callable[..., SpikingNetwork]) -> None:
    network = make_network(3).float()
    branches = build_branches(network, 8, 10)
    x, labels = torch.rand(6, 2, 5, 5), torch.arange(6)
    taps = network(x, RatePass(4)).taps
    sum(F.cross_entropy(branch(taps[name]), labels) for name, branch in branches.items()).backward()
    for name, parameter in network.named_parameters():
        touched = parameter.grad is not None and float(parameter.grad.abs().max()) > 0
        assert touched == (not name.startswith("layer4")), name


def test_branches_add_the_same_to_the_graph_for_any_number_of_timesteps(
    make_network: Callable[..., SpikingNetwork],
) -> None:
    kept = []
    for num_steps in (2, 8):
        network, total = make_network(2, num_steps=num_steps).float(), 0
        term = SelfDistillation(channels=8)
        branches = term.heads(network, 10)

        def count(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal total
            total += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            labels = torch.arange(6)
            RateBased().gradients(
                network, torch.rand(6, 2, 5, 5), lambda o, y=labels, h=branches, t=term: t.loss(o, y, h)
            )
        kept.append(total)
    assert kept[0] == kept[1]


def test_building_branches_leaves_the_network_as_it_was(make_network: Callable[..., SpikingNetwork]) -> None:
    network = make_network(2).float()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    build_branches(network, 32, 10)
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("network", "shape", "counts"),
    [
        ({"kind": "resnet", "depth": 18, "width": 2}, (3, 32, 32), [3, 2, 1]),
        ({"kind": "resnet", "depth": 19, "width": 2}, (3, 32, 32), [2, 1]),
        ({"kind": "preact_resnet", "depth": 34, "width": 2, "stem": "imagenet"}, (3, 224, 224), [3, 2, 1]),
    ],
    ids=str,
)
def test_branches_of_residual_networks_have_as_many_blocks_as_the_papers(
    make_recipe: Callable[..., Recipe], network: dict[str, Any], shape: tuple[int, ...], counts: list[int]
) -> None:
    built = build_network(make_recipe(network=network), shape, 10)
    branches = build_branches(built, 8, 10)
    blocks = [sum(isinstance(m, SeparableBlock) for m in branch.modules()) for branch in branches.values()]
    assert blocks == counts


def test_a_loss_that_would_subtract_what_is_not_there_is_refused(make_recipe: Callable[..., Recipe]) -> None:
    term = {"kind": "self_distillation", "alpha": 0.3}
    for labels in ({"kind": "cross_entropy", "weight": 0.2}, {"kind": "cross_entropy", "label_smoothing": 0.1}):
        recipe = make_recipe(objective=[labels, term])
        with pytest.raises(LavatubeError, match="form all would subtract"):
            Objective(recipe.objective, build_network(recipe, (1, 8, 8), 10), 10, 0)
        final = make_recipe(objective=[labels, {**term, "form": "final"}])
        Objective(final.objective, build_network(final, (1, 8, 8), 10), 10, 0)


def test_a_bias_limit_without_normalisation_is_refused(make_recipe: Callable[..., Recipe]) -> None:
    recipe = make_recipe(objective=["cross_entropy", "bias_limit"], normalization=None)
    with pytest.raises(LavatubeError, match="bias_limit limits the biases of normalisations"):
        Objective(recipe.objective, build_network(recipe, (1, 8, 8), 10), 10, 0)


def test_a_head_with_one_value_per_channel_is_refused_by_name(
    make_recipe: Callable[..., Recipe], tiny_data: object
) -> None:
    recipe = make_recipe(
        ({"dense": {"units": 6}},), normalization=None, objective=["cross_entropy", "self_distillation"],
        optimizer={"lr": 0.01, "epochs": 1, "batch_size": 1},
    )  # fmt: skip
    with pytest.raises(LavatubeError, match=r"training-only head: one value per channel .* raise optimizer.batch_size"):
        train(recipe)
