"""Membrane distillation: the loss is blind to what it should be blind to, and voltages are those that neurons have."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from method_cases import BASE
from torch import nn

from lavatube.errors import LavatubeError
from lavatube.train.loop import Trainee
from lavatube.train.networks.network import SpikingNetwork
from lavatube.train.objectives.mpfd import Mpfd, gram
from lavatube.train.recipe import Recipe
from lavatube.train.samples import prepare
from lavatube.train.seq import Lesson, Outputs
from lavatube.train.teachers.teacher import PlainTeacher


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_gram_matrix_is_its_definition() -> None:
    u = draw(5, 3, 4)
    product = u.reshape(5, 12) @ u.reshape(5, 12).T
    torch.testing.assert_close(gram(u), product / product.norm())


@pytest.mark.parametrize("factor", [1.0, 1e-30, 1e30])
def test_rotations_widths_and_factors_do_not_count(factor: float) -> None:
    u = draw(5, 12)
    rotation = torch.linalg.qr(draw(12, 12, seed=1)).Q
    twice_as_wide = torch.cat([u, u], 1)
    for same in (u @ rotation, twice_as_wide, factor * u):
        torch.testing.assert_close(gram(same), gram(u))
    assert not torch.allclose(gram(u), gram(draw(5, 12, seed=2)), atol=0.05)


def test_silence_costs_the_teachers_norm_and_has_a_finite_gradient() -> None:
    u = torch.zeros(2, 3, 4, requires_grad=True)  # [T, B, neurons]
    outputs = Outputs(torch.zeros(3, 2), voltages={"a": u}, lesson=Lesson(torch.zeros(3, 2), {"a.u": draw(3, 4)}))
    loss = Mpfd().loss(outputs, torch.zeros(3), nn.ModuleDict())
    assert float(loss.detach()) == pytest.approx(1)
    loss.backward()  # type: ignore[no-untyped-call]
    assert u.grad is not None
    assert bool(torch.isfinite(u.grad).all())


@pytest.mark.parametrize("reset", ["zero", "subtract"])
def test_the_voltages_shown_are_those_that_spiked_and_carry_gradients(
    make_network: Callable[..., SpikingNetwork], reset: str
) -> None:
    network, x = make_network(2, reset=reset), draw(4, 6, 2, 5, 5).abs()
    for population in network.populations():
        population.shown = True
    outputs = network(x)
    for name, rate in outputs.rates.items():
        u, (population,) = outputs.voltages[name], [each for each in network.populations() if each.name == name]
        assert torch.equal((u > population.spec.v_threshold).to(rate).mean(0), rate)
        assert 0 < float(rate.mean().detach()) < 1
    (outputs.voltages["layer1"] ** 2).sum().backward()  # type: ignore[no-untyped-call]
    touched = {name.split(".")[0] for name, value in network.named_parameters() if value.grad is not None}
    assert touched == {"layer1"}


def test_a_network_whose_teacher_is_itself_has_nothing_to_learn(tiny_recipe: Callable[..., Recipe]) -> None:
    recipe = tiny_recipe(**BASE | {"gradient": "bptt", "objective": ["cross_entropy", "mpfd"]})
    data = prepare(recipe)
    trainee = Trainee(recipe, data)
    events, labels = next(data.batches(data.dataset.train, 32, torch.device("cpu")))
    x = data.as_floats(events)
    outputs = trainee.network.eval()(x)
    own = {f"{name}.u": u.transpose(0, 1) for name, u in outputs.voltages.items()}
    [term] = [term for term in recipe.objective if isinstance(term, Mpfd)]
    same = Outputs(outputs.logits, voltages=outputs.voltages, lesson=Lesson(outputs.logits, own))
    assert set(own) == {"layer1.u", "layer2.u"}
    assert float(term.loss(same, labels, nn.ModuleDict()).detach()) == 0
    assert trainee.teacher is not None
    taught = Outputs(outputs.logits, voltages=outputs.voltages, lesson=trainee.teacher(x.expand(3, *x.shape[1:])))
    assert float(term.loss(taught, labels, nn.ModuleDict()).detach()) > 1e-4


def test_nothing_is_shown_any_more_when_training_is_over(tiny_recipe: Callable[..., Recipe]) -> None:
    recipe = tiny_recipe(**BASE | {"gradient": "bptt", "objective": ["cross_entropy", "mpfd"]})
    trainee = Trainee(recipe, prepare(recipe))
    assert all(population.shown for population in trainee.network.populations())
    assert not any(population.shown for population in trainee.finalize().populations())


def test_what_is_not_there_is_named(make_network: Callable[..., SpikingNetwork]) -> None:
    network, module = make_network(2).float(), nn.Sequential(nn.Flatten(), nn.Linear(50, 10))
    teacher = PlainTeacher(module, (2, 5, 5), 10, "t")
    for features, words in (({"layer9": "1"}, "no such population"), ({}, "no such feature")):
        with pytest.raises(LavatubeError, match=words):
            Mpfd(features=features).heads(network, 10, teacher)
    Mpfd(features={"layer1": "1"}).heads(network, 10, teacher)
