"""Convolutions in the faster layout, and those whose value is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from lavatube.train.networks.pooling import square
from lavatube.train.networks.spiking_layer import Cell, Conv, conv_layer
from lavatube.train.networks.synaptic_current import convolve, in_fast_layout
from lavatube.train.norms.estimators import Pooled
from lavatube.train.objectives.branches import SeparableBlock
from lavatube.train.quantized_synapse import QuantizedSynapse


class Gradients(TorchDispatchMode):
    """Notes what oneDNN is given: (channels, window, stride) of each convolution on the way back."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[int, tuple[int, ...], tuple[int, ...]]] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution_backward.default:
            self.seen.add((args[1].shape[1], tuple(args[2].shape[2:]), tuple(args[4])))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(("channels", "stride", "picks"), [(3, 2, True), (15, 3, True), (16, 2, False), (3, 1, False)])
def test_no_gradient_is_asked_of_onednn_that_it_computes_beyond_its_buffer(
    channels: int, stride: int, picks: bool, known: bool
) -> None:
    torch.manual_seed(0)
    weight = torch.rand(4, channels, 1, 1, dtype=torch.float64, requires_grad=True)
    events = torch.rand(2, channels, 7, 6, dtype=torch.float64, requires_grad=True)
    wanted = torch.einsum("oi,nihw->nohw", weight[..., 0, 0], events[:, :, ::stride, ::stride])
    gradient = torch.rand_like(wanted)
    value = wanted.detach() if known else None
    with Gradients() as noted:
        found = convolve(events, weight, None, (stride, stride), (0, 0), value)
        got = torch.autograd.grad(found, [events, weight], gradient)
    assert noted.seen == {(channels, (1, 1), (1, 1) if picks else (stride, stride))}
    for a, b in zip((found, *got), (wanted, *torch.autograd.grad(wanted, [events, weight], gradient)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def quantized_synapse() -> torch.Tensor:
    layout = {"name": "a", "source": "input", "kind": "conv2d", "in_shape": [3, 8, 8], "bits": 8, "scale": 1.0}
    window = {"kernel": [1, 1], "stride": [2, 2], "padding": [0, 0], "form": "plain"}
    synapse = QuantizedSynapse(layout | window, [4, 4, 4])
    return synapse.current(torch.rand(2, 3, 8, 8), synapse.straight_through())


@pytest.mark.parametrize(
    "of",
    [
        lambda: conv_layer((3, 16, 16), Conv(4, 1, 2), Cell(2)).current(torch.rand(2, 3, 16, 16)),
        quantized_synapse,
        lambda: SeparableBlock(3, 4)(torch.rand(2, 3, 8, 8)),
    ],
    ids=["spiking layer", "quantized synapse", "branch"],
)
def test_whatever_steps_over_few_channels_asks_for_no_such_gradient(of: Callable[[], torch.Tensor]) -> None:
    with Gradients() as noted:
        of().sum().backward()
    assert (3, (1, 1), (1, 1)) in noted.seen
    assert not [window for _, window, stride in noted.seen if window == (1, 1) and max(stride) > 1]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_known_convolution_has_the_gradients_of_one_and_the_value_that_it_is_given(bias: bool, stride: int) -> None:
    torch.manual_seed(0)
    synapse = nn.Conv2d(3, 4, 3, stride, 1, bias=bias, dtype=torch.float64)
    events = torch.rand(2, 3, 6, 7, dtype=torch.float64, requires_grad=True)
    wanted = synapse(events)
    known = convolve(events, synapse.weight, synapse.bias, (stride, stride), (1, 1), wanted.detach() + 1)
    assert torch.equal(known, wanted.detach() + 1)
    inputs, gradient = [events, *synapse.parameters()], torch.rand_like(wanted)
    for a, b in zip(*(torch.autograd.grad(y, inputs, gradient) for y in (wanted, known)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_a_layer_that_knows_its_current_does_not_convolve_again(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = conv_layer((2, 8, 8), Conv(3, 3), Cell(2, Pooled()), pool=square(2))
    rate, value = torch.rand(4, 2, 8, 8), torch.rand(4, 3, 2, 2)
    monkeypatch.setattr(F, "conv2d", None)
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
