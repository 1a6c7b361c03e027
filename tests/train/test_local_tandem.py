"""Local tandem learning: no gradient crosses layers, online memory does not grow, equal rates cost nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from method_cases import BASE

from lavatube.errors import LavatubeError
from lavatube.train.gradients.local_tandem import LocalTandem
from lavatube.train.networks.build import build_network
from lavatube.train.networks.network import SpikingNetwork
from lavatube.train.objectives.tandem import Tandem, normalized
from lavatube.train.recipe import Recipe
from lavatube.train.run import train
from lavatube.train.seq import Lesson, Outputs
from lavatube.train.teachers.teacher import Teacher

Make = Callable[..., SpikingNetwork]
OFFLINE, ONLINE = LocalTandem(), LocalTandem(form="online")


def inputs(num_steps: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(num_steps, 6, 2, 5, 5, dtype=torch.float64, generator=generator)


def gradients(network: SpikingNetwork, rule: LocalTandem, loss_of: Callable[[Outputs], torch.Tensor]) -> set[str]:
    """Layers whose parameters get a gradient."""
    network.zero_grad()
    rule.gradients(network, inputs(network.num_steps), loss_of)
    found = {name for name, value in network.named_parameters() if value.grad is not None and value.grad.any()}
    return {name.split(".")[0] for name in found}


@pytest.mark.parametrize("rule", [OFFLINE, ONLINE], ids=["offline", "online"])
def test_a_loss_on_a_layer_reaches_that_layer_alone(make_network: Make, rule: LocalTandem) -> None:
    network = make_network(3, normalization="causal")
    for name in ("layer1", "layer2", "layer3"):
        assert gradients(network, rule, lambda out, name=name: ((out.rates[name] - 0.7) ** 2).sum()) == {name}
    assert gradients(network, rule, lambda out: (out.logits**2).sum()) == {"layer4"}
    assert gradients(network, rule, _all) == {"layer1", "layer2", "layer3"}


def _all(out: Outputs) -> torch.Tensor:
    return torch.stack([((rate - 0.7) ** 2).sum() for rate in out.rates.values()]).sum()


@pytest.mark.parametrize("kind", ["resnet", "recurrent"])
def test_neither_shortcuts_nor_feedback_carry_a_gradient_across(make_recipe: Callable[..., Recipe], kind: str) -> None:
    settings: dict[str, Any] = {"resnet": {"width": 2}, "recurrent": {"units": [8, 8]}}[kind]
    recipe = make_recipe(network={"kind": kind, **settings}, gradient="bptt", normalization="tse")
    network = build_network(recipe, (1, 8, 8), 10)
    last = network.populations()[-1].name
    for rule in (OFFLINE, ONLINE):
        network.zero_grad()
        rule.gradients(network, torch.rand(4, 6, 1, 8, 8), lambda out: ((out.rates[last] - 0.5) ** 2).sum())
        touched = {name for name, value in network.named_parameters() if value.grad is not None and value.grad.any()}
        assert touched
        assert all(name.startswith(last.rpartition(".")[0]) for name in touched)


def test_online_rates_and_logits_end_as_those_of_the_whole_sequence(make_network: Make) -> None:
    network, seen = make_network(2, normalization=None), []
    ONLINE.gradients(network, inputs(4), lambda out: seen.append(out) or out.logits.sum())  # type: ignore[func-returns-value]
    whole = network(inputs(4))
    for name, rate in whole.rates.items():
        torch.testing.assert_close(seen[-1].rates[name].detach(), rate.detach())
    torch.testing.assert_close(seen[-1].logits.detach(), whole.logits.detach())
    seen.clear()
    late = LocalTandem(form="online", warm_up=3)
    late.gradients(network, inputs(4), lambda out: seen.append(out) or out.logits.sum())  # type: ignore[func-returns-value]
    assert len(seen) == 1


def test_the_online_graph_does_not_grow_with_t(make_network: Make) -> None:
    sizes = []
    for num_steps in (2, 12):
        network, kept = make_network(2, num_steps=num_steps, normalization="running"), []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, kept=kept: kept.append(x.numel()) or x, lambda x: x):
            ONLINE.gradients(network, inputs(num_steps), _all)
        sizes.append(sum(kept) / num_steps)
    assert sizes[0] == pytest.approx(sizes[1], rel=1e-6)


def test_equal_rates_cost_nothing_and_others_their_squares() -> None:
    target = torch.tensor([[0.0, 0.25, 0.5, 1.0]])
    outputs = Outputs(torch.zeros(1, 2), rates={"a": target}, lesson=Lesson(torch.zeros(1, 2), {"a": target * 3}))
    term = Tandem(percentile=100)
    assert float(term.loss(outputs, torch.zeros(1), torch.nn.ModuleDict())) == 0
    other = Outputs(torch.zeros(1, 2), rates={"a": target + 0.5}, lesson=outputs.lesson)
    assert float(term.loss(other, torch.zeros(1), torch.nn.ModuleDict())) == 0.25


def test_activations_are_divided_by_a_percentile_and_clamped() -> None:
    activation = torch.arange(1, 101.0).reshape(4, 25)
    assert torch.equal(normalized(activation, 50), (activation / 50).clamp(max=1))
    assert torch.equal(normalized(activation - 101, 99), torch.zeros(4, 25))


@pytest.mark.parametrize(("percentile", "size", "rank"), [(99.9, 1000, 999), (55, 100, 55), (0.001, 10, 1)])
def test_the_percentile_is_exact_in_decimals(percentile: float, size: int, rank: int) -> None:
    activation = torch.arange(1.0, size + 1).reshape(1, size)
    assert torch.equal(normalized(activation, percentile), (activation / rank).clamp(max=1))


class Ones(Teacher):
    def _look(self, steps: torch.Tensor, shown: object) -> Lesson:
        features = {"layer1": torch.ones(len(steps[0]), 4, 5, 5), "small": torch.ones(len(steps[0]), 3)}
        return Lesson(torch.zeros(len(steps[0]), 10), features)


@pytest.mark.parametrize(
    ("term", "words"),
    [
        (Tandem(), "no such feature"),
        (Tandem(features={"layer1": "small"}), "population layer1 and its teacher's feature"),
        (Tandem(features={"layer9": "layer1"}), "no such population"),
    ],
)
def test_what_does_not_fit_the_teacher_is_named(make_network: Make, term: Tandem, words: str) -> None:
    network, teacher = make_network(2).float(), Ones(torch.nn.Identity(), (2, 5, 5), 10, "test")
    with pytest.raises(LavatubeError, match=words):
        term.heads(network, 10, teacher)
    Tandem(features={"layer1": "layer1"}).heads(network, 10, teacher)


@pytest.mark.parametrize("form", ["offline", "online"])
def test_a_layer_that_no_term_teaches_is_named_before_anything_is_saved(
    tiny_recipe: Callable[..., Recipe], form: str, tmp_path: Path
) -> None:
    terms = ["cross_entropy", {"kind": "tandem", "features": {"layer2": "layer2"}}]
    rule = {"kind": "local_tandem", "form": form}
    recipe = tiny_recipe(**BASE | {"gradient": rule, "normalization": "tse", "objective": terms})
    with pytest.raises(LavatubeError, match="no term of the objective teaches layer1, expected a target"):
        train(recipe, out=tmp_path)
    assert not (tmp_path / "config.json").exists()
    assert not (tmp_path / "checkpoint").exists()


def test_a_warm_up_that_leaves_nothing_is_refused(make_network: Make) -> None:
    with pytest.raises(LavatubeError, match="no timestep is left"):
        LocalTandem(form="online", warm_up=4).attach(make_network(2, normalization="tse"))


def test_a_warm_up_of_the_offline_form_is_refused(make_network: Make) -> None:
    with pytest.raises(LavatubeError, match="a warm-up before a single loss, got warm_up 2; set form: online"):
        LocalTandem(warm_up=2).attach(make_network(2))
