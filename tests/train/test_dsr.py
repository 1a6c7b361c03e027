"""Differentiation on spike representation: the clamp's gradient, a memory that T does not change, firing early."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lavatube.convert.fold import fold
from lavatube.errors import LavatubeError
from lavatube.train.gradients.bptt import Bptt
from lavatube.train.gradients.dsr import Dsr
from lavatube.train.gradients.qcfs import Qcfs
from lavatube.train.gradients.rule import GradientRule
from lavatube.train.gradients.trained_thresholds import NAME, ClampedRate
from lavatube.train.networks.build import build_network
from lavatube.train.networks.network import SpikingNetwork
from lavatube.train.neuron import NeuronSpec
from lavatube.train.neuron_run import run_through_time
from lavatube.train.recipe import Recipe

Make = Callable[..., SpikingNetwork]
CURRENTS = (-0.7, 0.1, 0.45, 0.8, 1.3, 2.5)


def make_clamped(make_network: Make, *, rule: GradientRule | None = None, **changes: object) -> SpikingNetwork:
    network = make_network(2, reset="subtract", **{"decay": 1.0, "fire_at": 0.5, **changes})
    (rule or Dsr()).attach(network)
    return network


def inputs(num_steps: int, batch: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(num_steps, batch, 2, 5, 5, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("error", [False, True])
@pytest.mark.parametrize("threshold", [1.0, 0.6])
def test_the_backward_is_autograds_of_the_clamp_on_the_means(error: bool, threshold: float) -> None:
    """Of a clamp(i / (a threshold), 0, 1) by i and by a; with `error`, of the same with its rounding as a constant."""
    by_hand, by_autograd = ([], [])
    rounded = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0, 1.0], dtype=torch.float64)
    for found in (by_hand, by_autograd):
        current = torch.tensor(CURRENTS, dtype=torch.float64, requires_grad=True)
        scale = torch.tensor(1.4, dtype=torch.float64, requires_grad=True)
        if found is by_hand:
            rate = ClampedRate.apply(current / scale.detach(), rounded, scale, threshold, error)
            amplitude = rate * scale.detach()
        else:
            x = current / (scale * threshold)
            clamped = x.clamp(0, 1)
            amplitude = scale * (clamped + (rounded - clamped).detach()) if error else scale * clamped
        (amplitude * torch.arange(1, 7)).sum().backward()
        found += [current.grad, scale.grad]
    torch.testing.assert_close(by_hand, by_autograd, rtol=1e-12, atol=1e-12)
    if not error:  # only currents above a threshold times the scale pull the threshold
        pulled = sum(weight for weight, c in enumerate(CURRENTS, 1) if c > 1.4 * threshold)
        assert float(by_hand[1]) == pytest.approx(pulled)


@settings(max_examples=100, deadline=None)
@given(c=st.floats(0, 1), num_steps=st.integers(1, 40), fire_at=st.sampled_from([0.25, 0.5, 1.0]))
def test_a_constant_current_is_represented_to_one_spike(c: float, num_steps: int, fire_at: float) -> None:
    spec = NeuronSpec(decay=1.0, reset="subtract", fire_at=fire_at)
    rate = run_through_time(torch.full((num_steps, 1), c, dtype=torch.float64), spec).mean()
    assert abs(float(rate) - c) <= 1 / num_steps + 1e-9


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10**6), decay=st.sampled_from([0.5, 0.75, 1.0]), fire_at=st.sampled_from([0.25, 0.5, 0.75]),
    threshold=st.sampled_from([0.5, 1.0, 2.0]),
)  # fmt: skip
def test_firing_early_is_a_higher_start_and_a_current(
    seed: int, decay: float, fire_at: float, threshold: float
) -> None:
    """On numbers that float64 holds exactly."""
    spec = NeuronSpec(decay=decay, reset="subtract", fire_at=fire_at, v_threshold=threshold, v_initial=0.25)
    generator = torch.Generator().manual_seed(seed)
    current = torch.randint(-40, 80, (10, 50), generator=generator).double() / 64
    moved, more = spec.firing_at_threshold()
    assert moved.fire_at == 1
    assert torch.equal(run_through_time(current, spec), run_through_time(current + more, moved))


@pytest.mark.parametrize("decay", [1.0, 0.5])
def test_firing_early_is_gone_after_folding(make_recipe: Callable[..., Recipe], decay: float) -> None:
    """In thresholds: a start that is 0.75 higher and, with leak, what that loses in every timestep."""
    folded = []
    for fire_at in (0.25, 1.0):
        neuron = {"decay": decay, "reset": "subtract", "fire_at": fire_at, "v_threshold": 2.0}
        network = build_network(make_recipe(neuron=neuron, normalization=None), (1, 8, 8), 10)
        folded.append(fold(network.eval(), 1.0))
    for early, plain in zip(*folded, strict=True):
        if early.neuron is None or plain.neuron is None:
            assert np.array_equal(early.bias, plain.bias)
            continue
        assert early.neuron == replace(plain.neuron, v_initial=0.75)
        assert early.bias - plain.bias == pytest.approx(0.75 * (1 - decay))


@pytest.mark.parametrize("decay", [1.0, 0.5])
def test_without_leak_every_timestep_gets_the_same_gradient_else_as_much_as_is_left(
    make_network: Make, decay: float
) -> None:
    network = make_clamped(make_network, decay=decay, num_steps=5)
    x = inputs(5).requires_grad_()
    Dsr().gradients(network, x, lambda out: (out.logits**2).sum())
    assert x.grad is not None
    for earlier, later in pairwise(x.grad):
        torch.testing.assert_close(earlier, decay * later, rtol=1e-10, atol=1e-14)
    assert x.grad.abs().max() > 0


def graph_size(network: SpikingNetwork, rule: GradientRule, num_steps: int) -> int:
    kept = {}

    def keep(value: torch.Tensor) -> torch.Tensor:
        kept[value.data_ptr()] = value.numel() * value.element_size()
        return value

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        rule.gradients(network, inputs(num_steps), lambda out: (out.logits**2).sum(), lambda loss: None)
    return sum(kept.values())


def test_memory_does_not_depend_on_t(make_network: Make) -> None:
    sizes = [graph_size(make_clamped(make_network, num_steps=t), Dsr(), t) for t in (2, 16)]
    assert sizes[0] == sizes[1]
    through_time = [graph_size(make_network(2, num_steps=t, reset="subtract"), Bptt(), t) for t in (2, 16)]
    assert through_time[1] > 4 * through_time[0]


@pytest.mark.parametrize("rule", [Dsr(), Qcfs()])
def test_thresholds_train_and_are_folded_so_that_no_output_changes(make_network: Make, rule: GradientRule) -> None:
    network = make_clamped(make_network, rule=rule, fire_at=1.0)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.no_grad():
        getattr(network.chain()[0][1].neurons, NAME).fill_(1.7)
    rule.gradients(network, inputs(4), lambda out: (out.logits**2).sum())
    scales = [getattr(population, NAME).grad for population in network.populations()]
    assert all(scale is not None and scale != 0 for scale in scales)
    network.eval()
    with torch.no_grad():
        logits = network(inputs(4)).logits
        rule.finalize(network)
        assert torch.equal(network(inputs(4)).logits, logits)
    plain = make_network(2, reset="subtract", decay=1.0)
    assert set(network.state_dict()) == set(plain.state_dict()) != set(before)
    first, second = network.chain()[0][1], network.chain()[1][1]
    torch.testing.assert_close(first.norm.weight * 1.7, plain.chain()[0][1].norm.weight)  # type: ignore[union-attr]
    torch.testing.assert_close(second.synapse.weight / 1.7, plain.chain()[1][1].synapse.weight)


@pytest.mark.parametrize("rule", [Dsr(), Qcfs()])
def test_the_surrogate_has_no_part_in_it(make_network: Make, rule: GradientRule) -> None:
    found = []
    for slope in (0.5, 4.0):
        network = make_clamped(make_network, rule=rule, fire_at=1.0, surrogate={"kind": "sigmoid", "slope": slope})
        rule.gradients(network, inputs(4), lambda out: (out.logits**2).sum())
        found.append([each.grad for each in network.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("rule", [Dsr(least=0.25), Qcfs(least=0.25)])
def test_a_threshold_that_falls_below_its_least_trains_on_from_there(make_network: Make, rule: GradientRule) -> None:
    found = []
    for start in (0.25, -3.0):
        network = make_clamped(make_network, rule=rule, fire_at=1.0)
        scale = getattr(network.chain()[0][1].neurons, NAME)
        with torch.no_grad():
            scale.fill_(start)
        rule.gradients(network, inputs(4), lambda out: (out.logits**2).sum())
        found.append((float(scale.detach()), float(scale.grad)))
    assert found[0] == found[1]
    assert found[0][0] == 0.25
    assert found[0][1] != 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"neuron": {"decay": 1}}, "neuron.reset: subtract"),
        ({"neuron": {"decay": 1, "reset": "subtract", "refractory": 1}}, "no refractory period"),
        ({"normalization": "tse"}, "a clamp of means needs one"),
        ({"network": {"kind": "resnet", "width": 2}}, "set thresholds: fixed"),
        ({"network": {"kind": "recurrent", "units": [4]}}, "recurrent network"),
        ({"gradient": "qcfs", "neuron": {"decay": 0.5, "reset": "subtract"}}, "neuron.decay 1, got"),
    ],
)
def test_what_is_no_clamp_is_refused_by_name(
    make_recipe: Callable[..., Recipe], changes: dict[str, object], words: str
) -> None:
    def attach() -> None:
        recipe = make_recipe(**{"neuron": {"decay": 1, "reset": "subtract"}, "gradient": "dsr", **changes})
        recipe.gradient.attach(build_network(recipe, (1, 16, 16), 10))

    with pytest.raises(LavatubeError, match=words):  # by the table of pairs, or by the rule
        attach()


@pytest.mark.parametrize(
    "neuron", [{"fire_at": 0.5}, {"fire_at": 0}, {"memory_gate": True}, {"v_threshold_low": 0.1}], ids=str
)
def test_settings_without_meaning_are_refused(make_recipe: Callable[..., Recipe], neuron: dict[str, object]) -> None:
    with pytest.raises(LavatubeError, match="neuron"):
        make_recipe(neuron={"decay": 1, **neuron})
