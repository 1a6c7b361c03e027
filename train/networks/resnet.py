"""Residual networks: current shortcuts (these deploy), spike shortcuts (SEW) and identities on currents (PreAct)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from torch import nn

from lavatube.train.networks.network import Architecture, Parts, SpikingNetwork
from lavatube.train.networks.pooling import square
from lavatube.train.networks.spiking_layer import Conv, SpikingLayer, conv_layer, dense_layer
from lavatube.train.passes.base import Neurons, Pass
from lavatube.train.recipe_model import Positive
from lavatube.train.seq import Seq

Shape = tuple[int, ...]

# per depth: (channels in units of `width`, blocks) of each stage; every stage but the first halves height and width
STAGES: Mapping[int, tuple[tuple[int, int], ...]] = {
    6: ((1, 1), (2, 1)),
    18: ((1, 2), (2, 2), (4, 2), (8, 2)),
    19: ((2, 3), (4, 3), (8, 2)),
    34: ((1, 3), (2, 4), (4, 6), (8, 3)),
}


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut, 1x1 convolved where the shape changes."""

    def __init__(self, shape: Shape, channels: int, stride: int, parts: Parts) -> None:
        super().__init__()
        self.first, middle = self._conv(shape, Conv(channels, 3, stride, 1), parts)
        self.second, self.out_shape = self._conv(middle, Conv(channels, 3, 1, 1), parts)
        same = shape == self.out_shape
        self.shortcut = None if same else self._conv(shape, Conv(channels, 1, stride), parts)[0]

    def _conv(self, shape: Shape, conv: Conv, parts: Parts) -> tuple[SpikingLayer, Shape]:
        layer = conv_layer(shape, conv, parts.current)
        return layer, layer.out_shape


class CurrentBlock(Block):
    """The shortcut adds to the current of the block's last neurons."""

    def __init__(self, shape: Shape, channels: int, stride: int, parts: Parts) -> None:
        super().__init__(shape, channels, stride, parts)
        self.first.neurons, self.neurons = Neurons(parts.neuron), Neurons(parts.neuron)

    def forward(self, x: Seq, run: Pass) -> Seq:
        shortcut = x if self.shortcut is None else self.shortcut(x, run)
        return run.neurons(self.neurons, run.add(self.second(self.first(x, run), run), shortcut))


class SewBlock(Block):
    """Spikes add after the neurons: events of up to the number of blocks + 1."""

    def __init__(self, shape: Shape, channels: int, stride: int, parts: Parts) -> None:
        super().__init__(shape, channels, stride, parts)
        for layer in (self.first, self.second, self.shortcut):
            if layer is not None:
                layer.neurons = Neurons(parts.neuron)

    def forward(self, x: Seq, run: Pass) -> Seq:
        shortcut = x if self.shortcut is None else self.shortcut(x, run)
        return run.add(self.second(self.first(x, run), run), shortcut)


class PreActBlock(Block):
    """Neurons come first; the identity carries real-valued currents from block to block."""

    def __init__(self, shape: Shape, channels: int, stride: int, parts: Parts) -> None:
        super().__init__(shape, channels, stride, parts)
        self.neurons, self.first.neurons = Neurons(parts.neuron), Neurons(parts.neuron)

    def forward(self, x: Seq, run: Pass) -> Seq:
        spikes = run.neurons(self.neurons, x)
        shortcut = x if self.shortcut is None else self.shortcut(spikes, run)
        return run.add(self.second(self.first(spikes, run), run), shortcut)


class ShortcutConv(nn.Module):
    """A 3x3 convolution with a shortcut of its own around it, in front of one population."""

    def __init__(self, shape: Shape, channels: int, stride: int, parts: Parts) -> None:
        super().__init__()
        self.conv = conv_layer(shape, Conv(channels, 3, stride, 1), parts.current)
        self.out_shape = self.conv.out_shape
        same = shape == self.out_shape
        self.shortcut = None if same else conv_layer(shape, Conv(channels, 1, stride), parts.current)
        self.neurons = Neurons(parts.neuron)

    def forward(self, x: Seq, run: Pass) -> Seq:
        shortcut = x if self.shortcut is None else self.shortcut(x, run)
        return run.neurons(self.neurons, run.add(self.conv(x, run), shortcut))


class BiRealBlock(nn.Module):
    """Two of them."""

    def __init__(self, shape: Shape, channels: int, stride: int, parts: Parts) -> None:
        super().__init__()
        self.first = ShortcutConv(shape, channels, stride, parts)
        self.second = ShortcutConv(self.first.out_shape, channels, 1, parts)
        self.out_shape = self.second.out_shape

    def forward(self, x: Seq, run: Pass) -> Seq:
        result: Seq = self.second(self.first(x, run), run)
        return result


class ResidualNetwork(SpikingNetwork):
    """Stem, stages of blocks, global average pooling, read-out. Every stage but the last can be tapped."""

    def __init__(self, parts: Parts, settings: ResNet, block: type[Block | BiRealBlock]) -> None:
        super().__init__(parts)
        self.own_needs = settings.needs
        stages = STAGES[settings.depth]
        stem = Conv(stages[0][0] * settings.width, *((3, 1, 1) if settings.stem == "small" else (7, 2, 3)))
        cell = parts.current if block is PreActBlock else parts.hidden
        self.stem = conv_layer(parts.shape, stem, cell, where="stem")
        shape, self.stem_pool = self.stem.out_shape, None if settings.stem == "small" else square(2)
        if self.stem_pool is not None:
            shape = self.stem_pool.checked(shape, "stem_pool", padding=1)
        self.stages = nn.ModuleList()
        for index, (channels, blocks) in enumerate(stages):
            stage = nn.ModuleList()
            for number in range(blocks):
                stride = 2 if index > 0 and number == 0 else 1
                made = block(shape, channels * settings.width, stride, parts)
                stage.append(made)
                shape = made.out_shape
            self.stages.append(stage)
        self.hidden = None
        if settings.depth == 19:
            self.hidden = dense_layer(shape, 4 * settings.width, parts.hidden, pool=square(shape[1]))
            shape = self.hidden.out_shape
        pool = square(shape[1]) if len(shape) == 3 else None
        self.readout = dense_layer(shape, parts.classes, parts.readout, pool=pool)

    def body(self, x: Seq, run: Pass) -> Seq:
        x = self.stem(x, run)
        x = x if self.stem_pool is None else run.linear(self.stem_pool, x)
        for index, stage in enumerate(self.stages, start=1):
            assert isinstance(stage, nn.ModuleList)
            for block in stage:
                x = block(x, run)
            if index < len(self.stages):
                run.tap(f"stage{index}", x)
        x = x if self.hidden is None else self.hidden(x, run)
        result: Seq = self.readout(x, run)
        return result


class ResNet(Architecture):
    """Shortcuts add to currents: hard-reset twins of the papers' networks when `neuron.reset` is zero.

    depth: 6 (ours, for small images), 18, 19 (three stages and a hidden dense layer) or 34.
    width: channels of a 1-wide stage (19 starts 2 wide).
    stem:  "small" (3x3, stride 1) or "imagenet" (7x7, stride 2, average pooling by 2: a maximum is not linear).
    """

    kind: Literal["resnet"] = "resnet"
    source: ClassVar[str] = "He et al. 2016; spiking blocks as in arXiv 2410.11488's code"
    own_needs: ClassVar[tuple[str, ...]] = ()
    depth: Literal[6, 18, 19, 34] = 18
    width: Positive = 64
    stem: Literal["small", "imagenet"] = "small"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset(self.own_needs)

    def build(self, parts: Parts, where: str) -> SpikingNetwork:
        return ResidualNetwork(parts, self, CurrentBlock)


class SewResNet(ResNet):
    """Spike-element-wise addition after the neurons: graded events between blocks."""

    kind: Literal["sew_resnet"] = "sew_resnet"  # type: ignore[assignment]
    source: ClassVar[str] = "Fang, Yu, Chen, Huang, Masquelier, Tian 2021 (SEW-ResNet), ADD"
    own_needs: ClassVar[tuple[str, ...]] = ("sums of spikes",)

    def build(self, parts: Parts, where: str) -> SpikingNetwork:
        return ResidualNetwork(parts, self, SewBlock)


class PreActResNet(ResNet):
    """Neurons before convolutions: the stream between blocks is a real-valued current, not spikes."""

    kind: Literal["preact_resnet"] = "preact_resnet"  # type: ignore[assignment]
    source: ClassVar[str] = "He et al. 2016b; spiking form as in arXiv 2410.11488's code"
    own_needs: ClassVar[tuple[str, ...]] = ("real-valued currents across blocks",)

    def build(self, parts: Parts, where: str) -> SpikingNetwork:
        return ResidualNetwork(parts, self, PreActBlock)


class BiRealResNet(ResNet):
    """A current shortcut around every convolution, so that what a binary one loses passes beside it."""

    kind: Literal["bireal_resnet"] = "bireal_resnet"  # type: ignore[assignment]
    source: ClassVar[str] = "Liu et al. 2018 (Bi-Real net); for spiking networks: SEI-BWSNN, arXiv 2508.12609"

    def build(self, parts: Parts, where: str) -> SpikingNetwork:
        return ResidualNetwork(parts, self, BiRealBlock)
