"""Conversion with error compensation: the identity of activation and neuron, the memory gate, the twin's logits."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lavatube.train.gradients.qcfs import Qcfs, Twin
from lavatube.train.networks.build import build_network
from lavatube.train.networks.network import SpikingNetwork
from lavatube.train.neuron import NeuronSpec
from lavatube.train.neuron_run import run_through_time
from lavatube.train.passes.base import Neurons
from lavatube.train.recipe import Recipe
from lavatube.train.seq import Seq

Make = Callable[..., SpikingNetwork]
IF = {"decay": 1.0, "reset": "subtract"}
SIGNED = {"output": "signed", "memory_gate": True, "v_threshold_low": 0.0}


def activation(z: torch.Tensor, levels: int, threshold: float = 1.0) -> torch.Tensor:
    population = Neurons(NeuronSpec(**IF, v_threshold=threshold))  # type: ignore[arg-type]
    return Twin(levels).neurons(population, Seq(z.unsqueeze(0))).steps[0]


@pytest.mark.parametrize("levels", [1, 2, 4, 8])
@pytest.mark.parametrize("threshold", [1.0, 0.37])
def test_the_activation_is_the_rate_of_the_neuron_on_a_grid(levels: int, threshold: float) -> None:
    """Without the ties, at which a neuron would have to fire at its threshold."""
    z = torch.linspace(-0.4, 1.6, 2001, dtype=torch.float64) * threshold
    place = z * levels / threshold + 0.5
    z = z[(place - place.round()).abs() > 1e-9]
    assert len(z) > 1900
    spec = NeuronSpec(**IF, v_threshold=threshold, v_initial=threshold / 2)  # type: ignore[arg-type]
    rate = run_through_time(z.expand(levels, -1), spec).mean(0)
    assert torch.equal(rate, activation(z, levels, threshold))
    for num_steps in (levels + 1, 3 * levels + 2):  # else it is right on the average
        rate = run_through_time(z.expand(num_steps, -1), spec).mean(0)
        assert abs(float((rate - activation(z, levels, threshold)).mean())) < 5e-3


def test_the_gradients_are_those_of_a_floor_that_passes_them() -> None:
    z = torch.tensor([-0.5, 0.1, 0.3, 0.8, 1.5], dtype=torch.float64, requires_grad=True)
    activation(z, 4, 0.5).sum().backward()
    assert z.grad is not None
    assert z.grad.tolist() == [0, 2, 2, 0, 0]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), low=st.sampled_from([0.0, 0.3, 1.0]), differentiable=st.booleans())
def test_no_neuron_takes_back_what_it_did_not_send(seed: int, low: float, differentiable: bool) -> None:
    spec = NeuronSpec(**{**IF, **SIGNED, "v_threshold_low": low}, v_initial=0.5)  # type: ignore[arg-type]
    current = torch.randn(12, 40, generator=torch.Generator().manual_seed(seed)).requires_grad_(differentiable)
    spikes = run_through_time(current, spec)
    assert (spikes.cumsum(0) >= 0).all()
    assert (spikes < 0).any()


def test_signed_spikes_repair_what_the_order_of_the_input_does() -> None:
    """The same mean current in any order: the error of the count, alone and with signed spikes that are gated."""
    generator = torch.Generator().manual_seed(3)
    current = torch.randn(4, 4000, generator=generator, dtype=torch.float64)
    wanted = (current.sum(0) + 0.5).floor().clamp(0, 4)
    errors = {}
    for name, more in (
        ("alone", {}), ("gated", SIGNED), ("not gated", {"output": "signed", "v_threshold_low": 0.0})
    ):  # fmt: skip
        spec = NeuronSpec(**IF, v_initial=0.5, **more)  # type: ignore[arg-type]
        counts = run_through_time(current, spec).sum(0)
        errors[name] = float((counts - wanted).abs().mean())
        shuffled = run_through_time(current.flip(0), spec).sum(0)
        errors[f"{name}, other order"] = float((counts - shuffled).abs().mean())
    assert errors["gated"] < 0.6 * errors["alone"] < errors["not gated"]
    assert errors["gated, other order"] < 0.7 * errors["alone, other order"]


@pytest.mark.parametrize("more", [{}, SIGNED], ids=["binary", "signed"])
def test_the_spiking_logits_go_to_those_of_the_twin_as_t_grows(make_network: Make, more: dict[str, object]) -> None:
    distances = []
    for num_steps in (2, 8, 64, 512):
        network = make_network(2, num_steps=num_steps, v_initial=0.5, **IF, **more).eval()
        x = torch.rand(16, 2, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            twin, spiking = network(x, Twin(10**6)).logits, network(x).logits
        distances.append(float((twin - spiking).norm() / twin.norm()))
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 0.02


def test_training_sees_the_mean_of_the_events_and_no_spikes(make_recipe: Callable[..., Recipe]) -> None:
    recipe = make_recipe(num_steps=3, neuron={**IF, "v_initial": 0.5}, gradient="qcfs")
    network = build_network(recipe, (1, 8, 8), 10)
    recipe.gradient.attach(network)
    steps = torch.rand(3, 8, 1, 8, 8)
    grads = []
    for shown in (steps, steps.mean(0)):
        network.zero_grad()
        Qcfs().gradients(network, shown, lambda out: (out.logits**2).sum())
        grads.append([value.grad.clone() for value in network.parameters() if value.grad is not None])
    torch.testing.assert_close(*grads, rtol=1e-3, atol=1e-4)
    assert len(grads[0]) == len(list(network.parameters()))
