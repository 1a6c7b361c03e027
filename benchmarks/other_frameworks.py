"""The benchmark's networks in snnTorch and SpikingJelly, by their documented ways: backpropagation through time.

Leak, threshold, reset to zero, detached reset and a sigmoid (or its nearest) surrogate as in ours; batch normalisation
as each framework does it (snnTorch: per timestep; SpikingJelly: over time and batch).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

STAGES = ((1, 2), (2, 2), (4, 2), (8, 2))
VGG11 = (1, "A", 2, 4, "A", 8, 8, "A", 8, "A", 8, 8)
DECAY = 0.5


class Block(nn.Module):
    """Residual block with the shortcut on currents; `layers` makes convolution, norm and neurons."""

    def __init__(self, layers: Any, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(layers.conv(c_in, c_out, 3, stride, 1), layers.norm(c_out))
        self.second = nn.Sequential(layers.conv(c_out, c_out, 3, 1, 1), layers.norm(c_out))
        same = c_in == c_out and stride == 1
        self.shortcut = (
            nn.Identity() if same else nn.Sequential(layers.conv(c_in, c_out, 1, stride, 0), layers.norm(c_out))
        )
        self.inner, self.outer = layers.neuron(), layers.neuron()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.outer(self.second(self.inner(self.first(x))) + self.shortcut(x))
        return result


def resnet18(layers: Any, width: int) -> nn.Sequential:
    parts: list[nn.Module] = [layers.conv(3, width, 3, 1, 1), layers.norm(width), layers.neuron()]
    channels = width
    for index, (factor, blocks) in enumerate(STAGES):
        for number in range(blocks):
            parts.append(Block(layers, channels, factor * width, 2 if index and not number else 1))
            channels = factor * width
    return nn.Sequential(*parts, layers.pool(4), layers.flatten(), layers.linear(channels, 10))


def vgg11(layers: Any, width: int) -> nn.Sequential:
    parts: list[nn.Module] = []
    channels = 3
    for entry in VGG11:
        if isinstance(entry, str):
            parts.append(layers.pool(2))
            continue
        parts += [layers.conv(channels, entry * width, 3, 1, 1), layers.norm(entry * width), layers.neuron()]
        channels = entry * width
    return nn.Sequential(*parts, layers.pool(2), layers.flatten(), layers.linear(channels, 10))


NETWORKS = {"resnet18": resnet18, "vgg11": vgg11}


def build_snntorch(
    network: str, timesteps: int, width: int
) -> tuple[nn.Module, Callable[[torch.Tensor], torch.Tensor]]:
    import snntorch
    from snntorch import surrogate, utils

    class Layers:
        linear, flatten, pool = nn.Linear, nn.Flatten, nn.AvgPool2d
        norm = nn.BatchNorm2d

        @staticmethod
        def conv(c_in: int, c_out: int, kernel: int, stride: int, padding: int) -> nn.Module:
            return nn.Conv2d(c_in, c_out, kernel, stride, padding, bias=False)

        @staticmethod
        def neuron() -> nn.Module:
            leaky: nn.Module = snntorch.Leaky(
                beta=DECAY,
                spike_grad=surrogate.sigmoid(slope=4),
                init_hidden=True,
                reset_mechanism="zero",
                reset_delay=False,
            )
            return leaky

    model = NETWORKS[network](Layers, width)

    def forward(x: torch.Tensor) -> torch.Tensor:
        utils.reset(model)
        return torch.stack([model(x) for _ in range(timesteps)]).mean(0)

    return model, forward


def build_spikingjelly(
    network: str, timesteps: int, width: int
) -> tuple[nn.Module, Callable[[torch.Tensor], torch.Tensor]]:
    from spikingjelly.activation_based import functional, layer, neuron, surrogate

    class Layers:
        linear, flatten, pool = layer.Linear, layer.Flatten, layer.AvgPool2d
        norm = layer.BatchNorm2d

        @staticmethod
        def conv(c_in: int, c_out: int, kernel: int, stride: int, padding: int) -> nn.Module:
            made: nn.Module = layer.Conv2d(c_in, c_out, kernel, stride, padding, bias=False)
            return made

        @staticmethod
        def neuron() -> nn.Module:
            lif: nn.Module = neuron.LIFNode(
                tau=1 / (1 - DECAY),
                decay_input=False,
                v_reset=0.0,
                detach_reset=True,
                surrogate_function=surrogate.Sigmoid(4.0),
            )
            return lif

    model = NETWORKS[network](Layers, width)
    functional.set_step_mode(model, "m")

    def forward(x: torch.Tensor) -> torch.Tensor:
        functional.reset_net(model)
        result: torch.Tensor = model(x.unsqueeze(0).repeat(timesteps, 1, 1, 1, 1)).mean(0)
        return result

    return model, forward


BUILDERS = {"snntorch": build_snntorch, "spikingjelly": build_spikingjelly}
