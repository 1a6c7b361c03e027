"""Enhanced self-distillation: the teacher by hand, the loss, and what it touches."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from lavatube.train.distillation import build_branches, distillation_loss, self_distillation_loss, teacher
from lavatube.train.gradient import rate_forward
from lavatube.train.network import SpikingNetwork
from lavatube.train.recipe import SelfDistillation

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


def test_where_nobody_is_right_only_the_cross_entropy_remains() -> None:
    z = heads([2, 0], [3, 1]).requires_grad_()
    settings = SelfDistillation(alpha=1.0, beta=0.5)
    loss = self_distillation_loss(list(z), LABEL_1, settings)
    torch.testing.assert_close(loss, F.cross_entropy(z[0], LABEL_1) + F.cross_entropy(z[1], LABEL_1))
    (gradient,) = torch.autograd.grad(loss, z)
    assert torch.isfinite(gradient).all()


def test_the_divergence_is_from_teacher_to_head_times_the_squared_temperature() -> None:
    z, labels = random_heads()
    target, valid = teacher(z, labels)
    assert 0 < int(valid.sum()) < len(valid)
    soft = F.softmax(target[valid] / 3, -1)
    wanted = sum(9 * F.kl_div(F.log_softmax(head[valid] / 3, -1), soft, reduction="batchmean") for head in z)
    torch.testing.assert_close(distillation_loss(z, labels, 3.0), wanted)


def test_no_gradient_reaches_the_heads_through_the_teacher() -> None:
    z, labels = random_heads()
    z.requires_grad_()
    (gradient,) = torch.autograd.grad(distillation_loss(z, labels, 3.0), z)
    target, valid = teacher(z, labels)
    difference = F.softmax(z.detach() / 3, -1) - F.softmax(target / 3, -1)
    torch.testing.assert_close(gradient, 3 * difference * valid[:, None] / valid.sum())


def test_without_beta_it_is_deep_supervision() -> None:
    z, labels = random_heads()
    loss = self_distillation_loss(list(z), labels, SelfDistillation(alpha=0.7, beta=0.0))
    torch.testing.assert_close(loss, 0.7 * sum(F.cross_entropy(head, labels) for head in z))


def test_the_order_of_the_heads_does_not_matter() -> None:
    z, labels = random_heads()
    settings = SelfDistillation(alpha=1.0, beta=0.3)
    forward, backward = (self_distillation_loss(order, labels, settings) for order in (list(z), list(z.flip(0))))
    torch.testing.assert_close(forward, backward)


def test_branches_train_the_layers_below_them(make_network: Callable[..., SpikingNetwork]) -> None:
    network = make_network(3).float()
    branches = build_branches(network, SelfDistillation(channels=8), 10, seed=0)
    x, labels = torch.rand(6, 2, 5, 5), torch.arange(6)
    outputs = rate_forward(network, x)
    sum(F.cross_entropy(branch(r), labels) for branch, r in zip(branches, outputs.rates, strict=True)).backward()
    for name, parameter in network.named_parameters():
        touched = parameter.grad is not None and float(parameter.grad.abs().max()) > 0
        assert touched == (not name.startswith("layer4")), name


def test_building_branches_leaves_the_network_as_it_was(make_network: Callable[..., SpikingNetwork]) -> None:
    network = make_network(2).float()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    build_branches(network, SelfDistillation(), 10, seed=0)
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
