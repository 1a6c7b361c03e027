"""Time batch norm: its closed-form backward, and folding."""

from __future__ import annotations

from collections.abc import Callable

import torch

from lavatube.train.gradient import rate_forward
from lavatube.train.network import SpikingNetwork
from lavatube.train.norm import RateNorm


def test_the_closed_form_backward_is_autograd_of_the_straight_through_statistics() -> None:
    generator = torch.Generator().manual_seed(0)
    steps = torch.randn(4, 5, 3, 2, 2, dtype=torch.float64, generator=generator)
    c = steps.mean(0).requires_grad_()
    weight = torch.rand(3, dtype=torch.float64, generator=generator).requires_grad_()
    bias = torch.rand(3, dtype=torch.float64, generator=generator).requires_grad_()
    g = torch.randn(5, 3, 2, 2, dtype=torch.float64, generator=generator)
    var_s, mean_s = torch.var_mean(steps, (0, 1, 3, 4), correction=0)

    m = c.mean((0, 2, 3))
    mean = (mean_s + m - m.detach()).reshape(3, 1, 1)
    w = ((c - mean) ** 2).mean((0, 2, 3))
    var = (var_s + w - w.detach()).reshape(3, 1, 1)
    oracle = (c - mean) / torch.sqrt(var + 1e-5) * weight.reshape(3, 1, 1) + bias.reshape(3, 1, 1)
    ours = RateNorm.apply(c, mean_s, var_s, weight, bias, 1e-5)

    torch.testing.assert_close(ours, oracle, rtol=1e-12, atol=1e-14)
    wanted = torch.autograd.grad(oracle, (c, weight, bias), g)
    for a, b in zip(torch.autograd.grad(ours, (c, weight, bias), g), wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-14)


def test_folding_the_running_statistics_keeps_the_evaluation_current(
    make_network: Callable[..., SpikingNetwork],
) -> None:
    network = make_network(2)
    x = torch.rand(6, 2, 5, 5, dtype=torch.float64)
    for _ in range(3):
        rate_forward(network, x)
    layer = network.eval().layers()[0]
    assert layer.norm is not None
    weight, bias = layer.folded()
    normalised, folded_bias = layer.norm(layer.current(x).detach().unsqueeze(0), network.num_steps)
    folded = torch.nn.functional.conv2d(x, weight, bias, padding=1)
    torch.testing.assert_close(folded, normalised[0].detach(), rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(bias, folded_bias.detach(), rtol=1e-12, atol=1e-13)
