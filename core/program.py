"""LoihiProgram: a spiking network in Loihi integers only, as nodes and edges. docs/program.md is its schema."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from lavatube import fixed_point as fp
from lavatube.contract import LOIHI, ExecutionContract
from lavatube.errors import LavatubeError, UnsupportedError

Shape = tuple[int, ...]


def _require(ok: bool, where: str, what: str, *, expected: str, got: object) -> None:
    if not ok:
        raise LavatubeError(what, where=where, expected=expected, got=got if isinstance(got, str) else repr(got))


def _is_int(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _check_name(name: object) -> None:
    """Names become file names and trace keys."""
    ok = isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", name) is not None
    _require(ok, "program", "node name", expected="letters, digits, _ . - and not a dot first", got=name)


def _frozen(array: np.ndarray) -> np.ndarray:
    array = np.ascontiguousarray(array)
    array.flags.writeable = False
    return array


def _check_shape(where: str, what: str, shape: object, ranks: tuple[int, ...]) -> None:
    ok = isinstance(shape, tuple) and len(shape) in ranks and all(_is_int(n, 1, 1 << 24) for n in shape)
    _require(ok, where, f"{what} is not a shape", expected=f"{' or '.join(map(str, ranks))} positive sizes", got=shape)


@dataclass(frozen=True)
class InputNode:
    """Where events enter: non-negative integers below 2^message_bits; message_bits = 1 is a binary spike."""

    kind: ClassVar[str] = "input"
    name: str
    shape: Shape
    message_bits: int

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_shape(self.name, "input shape", self.shape, (1, 2, 3))
        ok = _is_int(self.message_bits, 1, fp.MESSAGE_BITS_MAX)
        _require(ok, self.name, "message_bits", expected=f"1..{fp.MESSAGE_BITS_MAX}", got=self.message_bits)

    @property
    def max_value(self) -> int:
        return (1 << self.message_bits) - 1


@dataclass(frozen=True)
class DenseNode:
    """a[o] = (sum over i of weight[o, i] * s[i]) shifted by weight_exp. `s` is flattened in C order first.

    weight: (out, in) int16, Loihi mantissas: multiples of 2^(9 - num_weight_bits) in -256..254.
    delay:  extra timesteps before the events of step t reach the neuron, 0..62.
    """

    kind: ClassVar[str] = "dense"
    name: str
    in_shape: Shape
    weight: np.ndarray
    num_weight_bits: int
    weight_exp: int
    delay: int = 0

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_shape(self.name, "in_shape", self.in_shape, (1, 2, 3))
        _check_weight(self)
        _require(self.weight.ndim == 2, self.name, "weight rank", expected="(out, in)", got=self.weight.shape)
        size = int(np.prod(self.in_shape))
        _require(self.weight.shape[1] == size, self.name, "weight columns", expected=str(size), got=self.weight.shape)

    @property
    def out_shape(self) -> Shape:
        return (self.weight.shape[0],)


@dataclass(frozen=True)
class Conv2dNode:
    """Cross-correlation (torch's convention) of (C, H, W) events, zero padded, then shifted by weight_exp.

    weight: (out channel, in channel, kernel height, kernel width) int16 mantissas, as in `DenseNode`.
    stride, padding: (height, width).
    """

    kind: ClassVar[str] = "conv2d"
    name: str
    in_shape: Shape
    weight: np.ndarray
    num_weight_bits: int
    weight_exp: int
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    delay: int = 0

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_shape(self.name, "in_shape", self.in_shape, (3,))
        _check_weight(self)
        shape = self.weight.shape
        _require(len(shape) == 4, self.name, "weight rank", expected="(out, in, height, width)", got=shape)
        channels = self.in_shape[0]
        _require(shape[1] == channels, self.name, "weight input channels", expected=str(channels), got=shape)
        _check_shape(self.name, "stride", self.stride, (2,))
        ok = (
            isinstance(self.padding, tuple) and len(self.padding) == 2 and all(_is_int(p, 0, 255) for p in self.padding)
        )
        _require(ok, self.name, "padding", expected="two sizes 0..255", got=self.padding)
        smallest = min(n + 2 * p - k for n, p, k in zip(self.in_shape[1:], self.padding, shape[2:], strict=True))
        _require(
            smallest >= 0, self.name, "kernel is larger than the padded input", expected="a kernel inside", got=shape
        )

    @property
    def out_shape(self) -> Shape:
        sizes = zip(self.in_shape[1:], self.padding, self.weight.shape[2:], self.stride, strict=True)
        return (self.weight.shape[0], *((n + 2 * p - k) // s + 1 for n, p, k, s in sizes))


def _check_weight(node: DenseNode | Conv2dNode) -> None:
    ok = _is_int(node.num_weight_bits, 1, fp.WEIGHT_BITS_MAX)
    _require(ok, node.name, "num_weight_bits", expected="1..8", got=node.num_weight_bits)
    low, high = fp.WEIGHT_EXPONENT_MIN, fp.WEIGHT_EXPONENT_MAX
    _require(
        _is_int(node.weight_exp, low, high), node.name, "weight_exp", expected=f"{low}..{high}", got=node.weight_exp
    )
    _require(_is_int(node.delay, 0, fp.DELAY_MAX), node.name, "delay", expected=f"0..{fp.DELAY_MAX}", got=node.delay)
    weight = node.weight
    _require(weight.dtype == np.int16, node.name, "weight dtype", expected="int16", got=str(weight.dtype))
    _require(weight.size > 0, node.name, "weight is empty", expected="at least one weight", got=weight.shape)
    grid = fp.weight_grid(node.num_weight_bits)
    on_grid = weight.min() >= fp.WEIGHT_MIN and weight.max() <= fp.WEIGHT_MAX + 2 - grid and not (weight % grid).any()
    _require(
        bool(on_grid),
        node.name,
        "weight mantissas are off Loihi's grid",
        expected=f"multiples of {grid} in {fp.WEIGHT_MIN}..{fp.WEIGHT_MAX + 2 - grid}",
        got=f"{weight.min()}..{weight.max()}",
    )
    object.__setattr__(node, "weight", _frozen(weight))


@dataclass(frozen=True)
class LifNode:
    """Current-based leaky integrate-and-fire neurons with hard reset: `fixed_point.step_cuba_lif`.

    du, dv: decays in 1/4096 per step; du = 4095 keeps no current (plain LIF). vth: threshold in weight units.
    bias_mant: (shape) int16; bias_mant << bias_exp is added to v every step, in 1/64 of a weight unit.
    """

    kind: ClassVar[str] = "lif"
    name: str
    shape: Shape
    du: int
    dv: int
    vth: int
    bias_mant: np.ndarray
    bias_exp: int

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_shape(self.name, "shape", self.shape, (1, 2, 3))
        for what, value, high in (
            ("du", self.du, fp.DECAY_MAX),
            ("dv", self.dv, fp.DECAY_MAX),
            ("vth", self.vth, fp.THRESHOLD_MAX),
            ("bias_exp", self.bias_exp, fp.BIAS_EXPONENT_MAX),
        ):
            _require(_is_int(value, 0, high), self.name, what, expected=f"0..{high}", got=value)
        bias = self.bias_mant
        _require(bias.dtype == np.int16, self.name, "bias_mant dtype", expected="int16", got=str(bias.dtype))
        _require(bias.shape == self.shape, self.name, "bias_mant shape", expected=str(self.shape), got=bias.shape)
        ok = bias.min() >= fp.BIAS_MANTISSA_MIN and bias.max() <= fp.BIAS_MANTISSA_MAX
        limits = f"{fp.BIAS_MANTISSA_MIN}..{fp.BIAS_MANTISSA_MAX} (13 bits)"
        _require(bool(ok), self.name, "bias_mant", expected=limits, got=f"{bias.min()}..{bias.max()}")
        object.__setattr__(self, "bias_mant", _frozen(bias))


@dataclass(frozen=True)
class ReadoutNode:
    """Host-side read-out: int64 sum over the sample's timesteps of (a + bias); the lowest class index wins ties."""

    kind: ClassVar[str] = "readout"
    name: str
    bias: np.ndarray  # (classes,) int64, activation units, added every step by the host

    def __post_init__(self) -> None:
        _check_name(self.name)
        ok = self.bias.dtype == np.int64 and self.bias.ndim == 1 and self.bias.size > 0
        _require(
            ok, self.name, "readout bias", expected="(classes,) int64", got=(str(self.bias.dtype), self.bias.shape)
        )
        bounded = int(np.abs(self.bias).max()) <= fp.INT32_MAX
        _require(bounded, self.name, "readout bias", expected="at most 2^31 - 1", got=self.bias.tolist())
        object.__setattr__(self, "bias", _frozen(self.bias))

    @property
    def shape(self) -> Shape:
        return (int(self.bias.size),)


Synapse = DenseNode | Conv2dNode
Node = InputNode | DenseNode | Conv2dNode | LifNode | ReadoutNode
Overflow = Literal["strict", "hardware"]


@dataclass(frozen=True)
class LoihiProgram:
    """Nodes in order of execution, the edges between them, and what is needed to run and to trust them.

    num_steps: timesteps that the network was made for (a run may take another number).
    lossy:     every rounding, clamp or substitution on the way here, one record each.
    source:    {"kind": ..., "sha256": ...} of the file that it was lowered from.
    scales:    informational; float value of one activation unit, by synapse name.
    """

    nodes: tuple[Node, ...]
    edges: tuple[tuple[str, str], ...]
    num_steps: int
    source: Mapping[str, str]
    scales: Mapping[str, float] = field(default_factory=dict)
    lossy: tuple[Mapping[str, Any], ...] = ()
    overflow: Overflow = "strict"
    target: str = "loihi2"
    contract: ExecutionContract = LOIHI

    def __post_init__(self) -> None:
        _require(_is_int(self.num_steps, 1, 1 << 24), "program", "num_steps", expected="1..2^24", got=self.num_steps)
        ok = self.overflow in ("strict", "hardware")
        _require(ok, "program", "overflow", expected="strict or hardware", got=self.overflow)
        names = [node.name for node in self.nodes]
        _require(len(set(names)) == len(names), "program", "node names", expected="unique names", got=names)
        self._check_chain()

    def _check_chain(self) -> None:
        names = [node.name for node in self.nodes]
        if list(self.edges) != list(itertools.pairwise(names)):
            raise UnsupportedError(
                "only a chain of nodes in order of execution is supported",
                where="program",
                got=str(list(self.edges)),
                remedy="graphs come with schema 1.0",
            )
        kinds = [("synapse" if isinstance(node, Synapse) else node.kind) for node in self.nodes]
        layers = (len(kinds) - 3) // 2
        wanted = ["input", *["synapse", "lif"] * layers, "synapse", "readout"]
        _require(
            kinds == wanted,
            "program",
            "order of nodes",
            expected="input, (synapse, lif)..., synapse, readout",
            got=kinds,
        )
        shape: Shape = self.input.shape
        for node in self.nodes[1:]:
            expected = node.in_shape if isinstance(node, Synapse) else node.shape
            _require(shape == expected, node.name, "input shape", expected=str(expected), got=shape)
            shape = node.out_shape if isinstance(node, Synapse) else expected

    @property
    def input(self) -> InputNode:
        first = self.nodes[0]
        if not isinstance(first, InputNode):
            raise LavatubeError("first node", where="program", expected="an input", got=first.kind)
        return first

    @property
    def readout(self) -> ReadoutNode:
        last = self.nodes[-1]
        if not isinstance(last, ReadoutNode):
            raise LavatubeError("last node", where="program", expected="a readout", got=last.kind)
        return last

    @property
    def layers(self) -> tuple[tuple[Synapse, LifNode | ReadoutNode], ...]:
        """(synapse, the neurons or read-out that it drives), from input to output."""
        pairs = zip(self.nodes[1::2], self.nodes[2::2], strict=True)
        return tuple(pairs)  # type: ignore[arg-type]

    @property
    def neurons(self) -> tuple[LifNode, ...]:
        return tuple(node for node in self.nodes if isinstance(node, LifNode))

    def needs(self) -> frozenset[str]:
        """Capabilities that a target must offer."""
        needs = {"graded input"} if self.input.message_bits > 1 else set()
        if any(synapse.delay for synapse, _ in self.layers):
            needs.add("delays")
        return frozenset(needs)
