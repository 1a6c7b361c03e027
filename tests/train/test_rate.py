"""Rate-based backpropagation against backpropagation through time, in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from lavatube.train.gradient import bptt_forward, rate_forward
from lavatube.train.network import SpikingNetwork
from lavatube.train.neuron import Lif, run_lif
from lavatube.train.rate import RateStraightThrough, trace

Make = Callable[..., SpikingNetwork]
LABELS = torch.arange(6)


def inputs(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def gradients(network: SpikingNetwork, x: torch.Tensor, forward: Callable[..., object]) -> dict[str, torch.Tensor]:
    network.zero_grad()
    F.cross_entropy(forward(network, x).logits, LABELS[: x.shape[-4]]).backward()  # type: ignore[attr-defined]
    return {name: parameter.grad.clone() for name, parameter in network.named_parameters()}


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], names: list[str] | None = None) -> None:
    for name in names or a:
        assert a[name].abs().max() > 0, name
        torch.testing.assert_close(a[name], b[name], rtol=1e-10, atol=1e-14, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("theta", [0.7, 1.0])
@pytest.mark.parametrize("decay", [0.0, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("num_steps", [1, 2, 6])
def test_the_eligibility_is_the_gradient_of_the_rate_by_a_constant_current(
    theta: float, decay: float, num_steps: int
) -> None:
    current = 2 * inputs(num_steps, 5, 40) - 0.3
    lif = Lif(decay, theta, slope=4.0)
    shift = torch.zeros(5, 40, dtype=torch.float64, requires_grad=True)
    spikes = run_lif(current + shift, lif)
    (oracle,) = torch.autograd.grad(spikes.mean(0).sum(), shift)
    traced, eligibility = trace(current, lif, num_steps)
    assert 0 < spikes.mean() < 1
    assert torch.equal(traced, spikes)
    torch.testing.assert_close(eligibility, oracle, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("batch_norm", [True, False])
def test_with_one_timestep_the_gradient_is_that_of_bptt_at_any_depth(make_network: Make, batch_norm: bool) -> None:
    network, x = make_network(3, num_steps=1, batch_norm=batch_norm), inputs(6, 2, 5, 5)
    assert_same(gradients(network, x, rate_forward), gradients(network, x, bptt_forward))


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("decay", [0.5, 1.0])
def test_with_one_spiking_layer_and_static_input_the_gradient_is_that_of_bptt(
    make_network: Make, batch_norm: bool, decay: float
) -> None:
    network, x = make_network(1, num_steps=6, decay=decay, batch_norm=batch_norm), inputs(6, 2, 5, 5)
    assert_same(gradients(network, x, rate_forward), gradients(network, x, bptt_forward))


@pytest.mark.parametrize("batch_norm", [True, False])
def test_without_memory_and_with_static_input_the_gradient_is_that_of_bptt_at_any_depth(
    make_network: Make, batch_norm: bool
) -> None:
    network, x = make_network(3, num_steps=5, decay=0.0, batch_norm=batch_norm), inputs(6, 2, 5, 5)
    assert_same(gradients(network, x, rate_forward), gradients(network, x, bptt_forward))


@pytest.mark.parametrize("batch_norm", [True, False])
def test_readout_and_last_bias_gradients_are_exact_for_any_input(make_network: Make, batch_norm: bool) -> None:
    network, x = make_network(3, num_steps=5, batch_norm=batch_norm), 2 * inputs(5, 6, 2, 5, 5)
    exact = ["layer4.synapse.weight", "layer4.synapse.bias"]
    exact.append("layer3.norm.bias" if batch_norm else "layer3.synapse.bias")
    rate, bptt = gradients(network, x, rate_forward), gradients(network, x, bptt_forward)
    assert_same(rate, bptt, exact)
    difference = (rate["layer1.synapse.weight"] - bptt["layer1.synapse.weight"]).abs().max()
    assert difference > 1e-6, "the other gradients are approximations: this test would see a mix-up of the two rules"


@pytest.mark.parametrize("shape", [(6, 2, 5, 5), (4, 6, 2, 5, 5)], ids=["static", "dynamic"])
def test_values_in_rate_mode_are_those_of_the_spiking_network(make_network: Make, shape: tuple[int, ...]) -> None:
    network, x = make_network(3), inputs(*shape)
    rate, spiking = rate_forward(network, x), bptt_forward(network, x)
    torch.testing.assert_close(rate.logits, spiking.logits, rtol=0, atol=1e-12)
    for a, b in zip(rate.rates, spiking.rates, strict=True):
        assert 0 < a.mean() < 1
        assert torch.equal(a, b)
    for c, d in zip(rate.biases, spiking.biases, strict=True):
        torch.testing.assert_close(c, d, rtol=0, atol=1e-12)


def test_memory_kept_for_the_backward_pass_does_not_grow_with_timesteps(make_network: Make) -> None:
    def saved_bytes(forward: Callable[..., object], num_steps: int) -> int:
        total = 0

        def count(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal total
            total += tensor.numel() * tensor.element_size()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            forward(make_network(3, num_steps=num_steps), inputs(6, 2, 5, 5))
        return total

    assert saved_bytes(rate_forward, 2) == saved_bytes(rate_forward, 8)
    assert saved_bytes(bptt_forward, 8) > 2 * saved_bytes(bptt_forward, 2)


@pytest.mark.parametrize("shape", [(6, 2, 5, 5), (4, 6, 2, 5, 5)], ids=["static", "dynamic"])
def test_running_statistics_move_once_per_batch_and_alike_in_both_rules(
    make_network: Make, shape: tuple[int, ...]
) -> None:
    networks = make_network(2), make_network(2)
    for network, forward in zip(networks, (rate_forward, bptt_forward), strict=True):
        forward(network, inputs(*shape))
    states = [network.state_dict() for network in networks]
    assert not torch.equal(states[0]["layer1.norm.running_var"], torch.ones(4, dtype=torch.float64))
    for name in states[0]:
        torch.testing.assert_close(states[0][name], states[1][name], rtol=1e-12, atol=1e-14)


def test_running_statistics_are_those_of_torch_batch_norm_over_time_and_batch(make_network: Make) -> None:
    network, x = make_network(2), inputs(6, 2, 5, 5)
    current = network.layers()[0].current(x).detach()
    oracle = torch.nn.BatchNorm2d(4).double()
    oracle(current.repeat(4, 1, 1, 1))
    rate_forward(network, x)
    torch.testing.assert_close(network.layers()[0].norm.running_var, oracle.running_var, rtol=1e-12, atol=0)
    torch.testing.assert_close(network.layers()[0].norm.running_mean, oracle.running_mean, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("bias", [-9.0, 9.0], ids=["silent", "always firing"])
def test_saturated_layers_still_pass_a_finite_gradient(make_network: Make, bias: float) -> None:
    network = make_network(1)
    with torch.no_grad():
        network.layers()[0].norm.bias.fill_(bias)
    rate = rate_forward(network, inputs(6, 2, 5, 5)).rates[0].detach()
    assert torch.equal(rate, torch.full_like(rate, float(bias > 0)))
    for name, gradient in gradients(network, inputs(6, 2, 5, 5), rate_forward).items():
        assert torch.isfinite(gradient).all(), name
        if name.startswith("layer1"):
            assert gradient.abs().max() > 0, name


def test_an_exception_in_the_spiking_pass_leaves_autograd_on(
    make_network: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        assert not torch.is_grad_enabled()
        raise ZeroDivisionError

    monkeypatch.setattr("lavatube.train.rate.eligibility_step", fail)
    with pytest.raises(ZeroDivisionError):
        rate_forward(make_network(2), inputs(6, 2, 5, 5))
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("num_steps", [1, 4])
def test_one_sample_one_place_and_strided_inputs_give_finite_gradients(make_network: Make, num_steps: int) -> None:
    x = inputs(1, 5, 5, 2).permute(0, 3, 1, 2)
    assert not x.is_contiguous()
    network = make_network(3, num_steps=num_steps)  # layer3 is dense: with one sample and T = 1 its variance is zero
    for name, gradient in gradients(network, x, rate_forward).items():
        assert torch.isfinite(gradient).all(), name
    assert all(torch.isfinite(value).all() for value in network.state_dict().values())


def test_the_straight_through_value_is_the_rate_and_its_slope_the_eligibility() -> None:
    current = inputs(3, 4).requires_grad_()
    rate, eligibility = inputs(3, 4) / 2, inputs(3, 4) + 1
    out = RateStraightThrough.apply(current, rate, eligibility)
    assert torch.equal(out, rate)
    (gradient,) = torch.autograd.grad((out * 3).sum(), current)
    assert torch.equal(gradient, 3 * eligibility)
