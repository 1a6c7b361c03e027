"""Normalisation by time-based statistics: every estimator, its gradient on the rate path, and folding."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from lavatube.train.extension_points import ESTIMATORS
from lavatube.train.gradients.bptt import Bptt
from lavatube.train.networks.network import SpikingNetwork
from lavatube.train.norms.estimators import Causal, Estimator, Pooled, Running, TimeBasedStatistics
from lavatube.train.norms.rate import RateNorm, normalize_with_rate
from lavatube.train.norms.time_stat import SequenceRows, TimeStatNorm

ALL = list(ESTIMATORS)
ONLINE = [row for row in ALL if row.online]


def currents(num_steps: int = 5, seed: int = 0) -> torch.Tensor:
    """[T, 6, 3, 2, 2] with means that drift over time."""
    generator = torch.Generator().manual_seed(seed)
    drift = torch.arange(num_steps, dtype=torch.float64).reshape(-1, 1, 1, 1, 1)
    return torch.randn(num_steps, 6, 3, 2, 2, dtype=torch.float64, generator=generator) * (1 + drift / 4) + drift


def norm(row: type[Estimator], num_steps: int = 5) -> TimeStatNorm:
    return TimeStatNorm(3, row(), num_steps).double()


def batch_norm(x: torch.Tensor) -> torch.Tensor:
    flat = torch.nn.functional.batch_norm(x.flatten(0, 1), None, None, training=True)
    return flat.unflatten(0, x.shape[:2])


def apply(module: TimeStatNorm, x: torch.Tensor) -> torch.Tensor:
    return module.observe_and_normalize(x).steps


def test_pooled_is_torch_batch_norm_over_time_and_batch() -> None:
    x = currents()
    torch.testing.assert_close(apply(norm(Pooled), x), batch_norm(x), rtol=1e-10, atol=1e-12)


def test_causal_ends_as_pooled_and_sees_only_the_past() -> None:
    x = currents()
    whole = apply(norm(Causal), x)
    torch.testing.assert_close(whole[-1], batch_norm(x)[-1], rtol=1e-10, atol=1e-12)
    changed = x.clone()
    changed[3:] += 7
    assert torch.equal(apply(norm(Causal), changed)[:3], whole[:3])
    assert not torch.equal(apply(norm(Causal), x.flip(0)).flip(0), whole)
    torch.testing.assert_close(apply(norm(Pooled), x.flip(0)).flip(0), apply(norm(Pooled), x))


def test_tse_estimates_the_whole_sequence_from_the_last_iterations_rows() -> None:
    module, x = norm(TimeBasedStatistics), currents()
    first = apply(module, x)
    torch.testing.assert_close(first, apply(norm(Causal), x))  # nothing is known yet of later timesteps
    torch.testing.assert_close(apply(module, x), batch_norm(x), rtol=1e-10, atol=1e-12)  # same data: all rows are known
    moved = currents(seed=1)
    mean, _ = module.observe(moved)
    rows = torch.cat([moved[:3].mean((1, 3, 4)), x[3:].mean((1, 3, 4))])
    torch.testing.assert_close(mean[2], rows.mean(0))


def test_gradients_flow_through_this_iterations_rows_only() -> None:
    module, x = norm(TimeBasedStatistics), currents()
    module.observe(x)
    y = currents(seed=1).requires_grad_()
    (gradient,) = torch.autograd.grad(module.observe(y)[0][2].sum(), y)
    assert torch.equal(gradient[3:], torch.zeros_like(gradient[3:]))
    torch.testing.assert_close(gradient[:3], torch.full_like(gradient[:3], 1 / (5 * 24)))


@pytest.mark.parametrize("row", [row for row in ALL if row is not Running])
def test_with_one_timestep_or_constant_currents_every_estimator_is_batch_norm(row: type[Estimator]) -> None:
    x = currents(1)
    torch.testing.assert_close(apply(norm(row, 1), x), batch_norm(x), rtol=1e-10, atol=1e-12)
    constant = x.expand(5, *x.shape[1:])
    torch.testing.assert_close(apply(norm(row), constant), batch_norm(constant), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("row", ONLINE)
def test_step_by_step_the_statistics_and_the_state_are_those_of_the_whole_sequence(row: type[Estimator]) -> None:
    whole, stepped = norm(row), norm(row)
    for seed in (0, 1):
        x, rows = currents(seed=seed), SequenceRows()
        wanted = whole.observe(x)
        found = [stepped.observe_step(step, rows) for step in x]
        stepped.end_sequence(rows, 24)
        for t, (mean, var) in enumerate(found):
            at = t if len(wanted[0]) > 1 else 0
            torch.testing.assert_close(mean, wanted[0][at], rtol=1e-10, atol=1e-12)
            torch.testing.assert_close(var, wanted[1][at], rtol=1e-10, atol=1e-12)
        for name, value in whole.state_dict().items():
            torch.testing.assert_close(stepped.state_dict()[name], value, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("row", ALL)
def test_running_statistics_move_once_per_sequence_and_never_in_evaluation(row: type[Estimator]) -> None:
    module, x = norm(row), currents()
    module.observe(x)
    pooled = x.mean((0, 1, 3, 4))
    torch.testing.assert_close(module.running_mean, 0.1 * pooled)
    torch.testing.assert_close(module.running_var, 0.9 + 0.1 * x.transpose(0, 2).flatten(1).var(1))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    module.eval().observe(x)
    rows = SequenceRows()
    module.observe_step(x[0], rows)
    module.end_sequence(rows, 24)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


@pytest.mark.parametrize("row", ALL)
def test_the_rate_path_has_the_exact_jacobian_of_the_mean_normalised_current(row: type[Estimator]) -> None:
    torch.manual_seed(0)
    x, g = currents(), torch.randn(6, 3, 2, 2, dtype=torch.float64)
    gradients = []
    for rate_path in (False, True):
        module = norm(row)
        module.observe(currents(seed=3))  # what an earlier iteration leaves behind
        shift = torch.zeros(6, 3, 2, 2, dtype=torch.float64, requires_grad=True)
        if rate_path:
            steps, value, _ = normalize_with_rate(module, x, x.mean(0) + shift)
            torch.testing.assert_close(steps.mean(0), value.detach())
            assert not steps.requires_grad
        else:
            value = apply(module, x + shift).mean(0)
        parameters = (shift, module.weight, module.bias)
        gradients.append([value.detach(), *torch.autograd.grad((value * g).sum(), parameters)])
    for name, a, b in zip(("value", "current", "weight", "bias"), *gradients, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-9, atol=1e-11, msg=lambda text, n=name: f"{n}: {text}")


def test_averaging_only_the_variances_would_miss_a_third() -> None:
    x = currents()
    _, var = norm(Pooled).observe(x)
    within = x.var((1, 3, 4), correction=0).mean(0)
    assert float((within / var[0]).max()) < 0.75


@pytest.mark.parametrize("count", [1, 4])
def test_the_closed_form_backward_survives_one_sample_at_one_place(count: int) -> None:
    x = torch.rand(count, 3, 1, 1, dtype=torch.float64, requires_grad=True)
    mean, var = x.detach().mean((0, 2, 3)), x.detach().var((0, 2, 3), correction=0)
    ones = torch.ones(3, dtype=torch.float64)
    y = RateNorm.apply(x, mean, var, ones, ones, 1e-5, 1.0)
    (gradient,) = torch.autograd.grad(y.square().sum(), x)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("row", ALL, ids=lambda row: row.__name__)
def test_folding_the_running_statistics_keeps_the_evaluation_current(
    make_network: Callable[..., SpikingNetwork], row: type[Estimator]
) -> None:
    network = make_network(2, normalization=row().kind)
    for seed in range(3):
        x = torch.rand(6, 2, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        Bptt().gradients(network, x, lambda outputs: outputs.logits.sum())
    assert any(name.endswith("recent.mean") for name in network.state_dict()) == row.keeps_rows
    row().finalize(network)
    _, layer = network.eval().chain()[0]
    assert not any("recent" in name for name in network.state_dict())
    assert layer.norm is not None
    weight, bias = layer.folded()
    current = layer.current(x).detach().unsqueeze(0)
    statistics = layer.norm.observe(current)
    folded = torch.nn.functional.conv2d(x, weight, bias, padding=1)
    torch.testing.assert_close(folded, layer.norm.normalize(current, statistics)[0].detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(bias, layer.norm.folded_bias(statistics).detach(), rtol=1e-12, atol=1e-12)
