"""The ensemble of timesteps: its degenerate case, its gradients, and shortcuts around binary convolutions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from lavatube.convert.fold import fold
from lavatube.convert.registers import choose_registers
from lavatube.errors import LavatubeError, UnsupportedError
from lavatube.train.datasets.dataset import Dataset
from lavatube.train.loop import Trainee
from lavatube.train.networks.network import SpikingNetwork
from lavatube.train.networks.wiring import wiring
from lavatube.train.objectives.cross_entropy import CrossEntropy
from lavatube.train.objectives.self_ensemble import SelfEnsemble, ensemble_to_member
from lavatube.train.recipe import Recipe
from lavatube.train.samples import prepare
from lavatube.train.seq import Outputs

NO_HEADS = nn.ModuleDict()


def outputs_of(network: SpikingNetwork, *, static: bool = True) -> Outputs:
    generator = torch.Generator().manual_seed(0)
    shape = (6, 2, 5, 5) if static else (4, 6, 2, 5, 5)
    return network(torch.rand(shape, generator=generator, dtype=torch.float64))


def test_without_memory_all_members_of_a_constant_input_are_the_same_and_learn_nothing_from_each_other(
    make_network: Callable[..., SpikingNetwork],
) -> None:
    network = make_network(decay=0.0).eval()
    members = outputs_of(network).members
    assert members is not None
    assert members.std() > 0
    assert all(torch.equal(member, members[0]) for member in members)
    assert ensemble_to_member(members, 2.0).abs() < 1e-12
    remembering = outputs_of(make_network(decay=0.9).eval()).members
    assert remembering is not None
    assert ensemble_to_member(remembering, 2.0) > 1e-6


def test_the_loss_is_the_mean_over_members_and_the_ensemble_gets_no_gradient() -> None:
    members = torch.randn(3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    labels = torch.tensor([0, 1, 2, 3])
    term = SelfEnsemble(weight=2.0, alpha=0.25, temperature=3.0)
    loss = term.loss(Outputs(members.mean(0), members=members), labels, NO_HEADS)
    target = torch.softmax(members.detach().mean(0) / 3, -1)
    single = [
        0.75 * nn.functional.cross_entropy(o, labels)
        + 0.25 * 9 * nn.functional.kl_div(torch.log_softmax(o / 3, -1), target, reduction="batchmean")
        for o in members
    ]
    assert torch.allclose(loss, 2 * torch.stack(single).mean())
    (gradient,) = torch.autograd.grad(loss, members)
    (expected,) = torch.autograd.grad(2 * torch.stack(single).mean(), members)
    assert torch.allclose(gradient, expected)


def test_one_timestep_is_plain_cross_entropy() -> None:
    logits = torch.randn(1, 4, 5, generator=torch.Generator().manual_seed(2))
    outputs, labels = Outputs(logits[0], members=logits), torch.tensor([0, 1, 2, 3])
    term = SelfEnsemble(alpha=0.0)
    assert torch.equal(term.loss(outputs, labels, NO_HEADS), CrossEntropy().loss(outputs, labels, NO_HEADS))


def test_rules_on_averages_have_no_members_and_are_refused(make_recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(
        LavatubeError, match=r"gradient rate does not go with objective self_ensemble: .* only bptt keeps"
    ):
        make_recipe(objective=["cross_entropy", "self_ensemble"], gradient="rate")
    outputs = Outputs(torch.zeros(4, 5))
    with pytest.raises(UnsupportedError, match=r"self_ensemble needs .* every timestep.*gradient: bptt"):
        SelfEnsemble().loss(outputs, torch.zeros(4, dtype=torch.int64), NO_HEADS)


def test_every_hidden_population_of_a_bireal_network_has_a_shortcut_that_deploys_as_a_current(
    make_recipe: Callable[..., Recipe], tiny_data: Dataset
) -> None:
    recipe = make_recipe(
        network={"kind": "bireal_resnet", "width": 2}, weight="binary", gradient="bptt", objective=["cross_entropy"]
    )
    trainee = Trainee(recipe, prepare(recipe))
    network = trainee.finalize()
    stem, *populations, _ = wiring(network)
    assert [len(stem.connections), len(populations)] == [1, 16]
    assert all(len(drive.connections) == 2 for drive in populations)
    chosen = choose_registers(fold(network, 1.0), message_bits=4, weight_bits=8, headroom=0.8, num_steps=4)
    forms = [[row["form"] for row in layer.layout["synapses"]] for layer in chosen]
    assert forms[0] == forms[-1] == ["free"]
    kinds = [[row["kind"] for row in layer.layout["synapses"]] for layer in chosen[1:-1]]
    assert sum(kind == ["conv2d", "scale"] for kind in kinds) == 13
    assert all(form[0] == "signs" for form in forms[1:-1])
    signs = np.sign(chosen[1].weights[0])
    assert set(np.unique(signs)) == {-1, 1}
