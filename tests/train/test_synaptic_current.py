"""Convolutions in the faster layout, and those whose value is known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lavatube.train.networks.pooling import square
from lavatube.train.networks.spiking_layer import Cell, Conv, conv_layer
from lavatube.train.networks.synaptic_current import KnownConvolution, in_fast_layout
from lavatube.train.norms.estimators import Pooled


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_known_convolution_has_the_gradients_of_one_and_the_value_that_it_is_given(bias: bool, stride: int) -> None:
    torch.manual_seed(0)
    synapse = nn.Conv2d(3, 4, 3, stride, 1, bias=bias, dtype=torch.float64)
    events = torch.rand(2, 3, 6, 7, dtype=torch.float64, requires_grad=True)
    wanted = synapse(events)
    known = KnownConvolution.apply(events, synapse.weight, synapse.bias, wanted.detach() + 1, synapse)
    assert torch.equal(known, wanted.detach() + 1)
    inputs, gradient = [events, *synapse.parameters()], torch.rand_like(wanted)
    for a, b in zip(*(torch.autograd.grad(y, inputs, gradient) for y in (wanted, known)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_a_layer_that_knows_its_current_does_not_convolve_again(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = conv_layer((2, 8, 8), Conv(3, 3), Cell(2, Pooled()), pool=square(2))
    rate, value = torch.rand(4, 2, 8, 8), torch.rand(4, 3, 2, 2)
    monkeypatch.setattr(nn.Conv2d, "forward", None)
    current = layer.current(rate, value)
    assert torch.equal(current, value)
    current.sum().backward()
    assert layer.synapse.weight.grad is not None


def test_channels_come_last_where_the_output_is_not_small() -> None:
    events = torch.rand(2, 3, 8, 8)
    for stride, last in ((1, True), (2, False)):
        synapse = nn.Conv2d(3, 4, 3, stride, 1)
        found = in_fast_layout(synapse, events)
        assert torch.equal(found, events)
        assert found.is_contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
