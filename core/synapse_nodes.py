"""Synapse nodes: integer weights between events and the neurons that they drive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from lavatube import fixed_point as fp
from lavatube.node_checks import Shape, check_name, check_shape, frozen, is_int, require, require_int

Sign = Literal["mixed", "excitatory", "inhibitory"]


@dataclass(frozen=True)
class DenseNode:
    """a[o] = (sum over i of weight[o, i] * s[i]) shifted by weight_exp. `s` is flattened in C order first.

    weight: (out, in) int16, Loihi mantissas on the grid of `fixed_point.weight_range`.
    sign:   "mixed", or "excitatory" or "inhibitory" for weights of one sign, which have one bit more.
    delay:  extra timesteps before the events of step t reach the neuron, 0..62.
    """

    kind: ClassVar[str] = "dense"
    name: str
    in_shape: Shape
    weight: np.ndarray
    num_weight_bits: int
    weight_exp: int
    delay: int = 0
    sign: Sign = "mixed"

    def __post_init__(self) -> None:
        check_name(self.name)
        check_shape(self.name, "in_shape", self.in_shape, (1, 2, 3))
        _check_weight(self)
        require(self.weight.ndim == 2, self.name, "weight rank", expected="(out, in)", got=self.weight.shape)
        size = int(np.prod(self.in_shape))
        require(self.weight.shape[1] == size, self.name, "weight columns", expected=str(size), got=self.weight.shape)

    @property
    def out_shape(self) -> Shape:
        return (self.weight.shape[0],)


@dataclass(frozen=True)
class SparseNode:
    """As `DenseNode`, with stored connections only: those of neuron o are indptr[o] .. indptr[o + 1] - 1.

    weight:  (connections,) int16 mantissas; index: (connections,) int32, the source in C order, rising within a neuron.
    indptr:  (out + 1,) int64.
    """

    kind: ClassVar[str] = "sparse"
    name: str
    in_shape: Shape
    out_shape: Shape
    weight: np.ndarray
    index: np.ndarray
    indptr: np.ndarray
    num_weight_bits: int
    weight_exp: int
    delay: int = 0
    sign: Sign = "mixed"

    def __post_init__(self) -> None:
        check_name(self.name)
        check_shape(self.name, "in_shape", self.in_shape, (1, 2, 3))
        check_shape(self.name, "out_shape", self.out_shape, (1, 2, 3))
        _check_weight(self)
        where, index, indptr = self.name, self.index, self.indptr
        require(index.dtype == np.int32, where, "index dtype", expected="int32", got=str(index.dtype))
        require(indptr.dtype == np.int64, where, "indptr dtype", expected="int64", got=str(indptr.dtype))
        require(self.weight.shape == index.shape, where, "index", expected="one per weight", got=index.shape)
        outputs, inputs = int(np.prod(self.out_shape)), int(np.prod(self.in_shape))
        require(indptr.shape == (outputs + 1,), where, "indptr", expected=f"({outputs + 1},)", got=indptr.shape)
        rising = indptr[0] == 0 and indptr[-1] == len(index) and bool((np.diff(indptr) >= 0).all())
        require(rising, where, "indptr", expected=f"rising from 0 to {len(index)}", got=f"{indptr[0]}..{indptr[-1]}")
        inside = bool(index.min() >= 0 and index.max() < inputs)
        require(inside, where, "index", expected=f"0..{inputs - 1}", got=f"{index.min()}..{index.max()}")
        same_neuron = np.repeat(np.arange(outputs), np.diff(indptr))
        ordered = bool(((np.diff(index) > 0) | (np.diff(same_neuron) > 0)).all())
        require(ordered, where, "index", expected="rising within each neuron", got="an unsorted or repeated index")
        object.__setattr__(self, "index", frozen(index))
        object.__setattr__(self, "indptr", frozen(indptr))


SPARSE_BELOW = 0.4  # share of weights that are not 0: below it, an index for each costs less than the zeros
SPARSE_SIZE = 1 << 14


def as_stored(node: DenseNode) -> DenseNode | SparseNode:
    """The same synapse as it takes less room: a large matrix that is mostly zeros by its connections alone."""
    filled = np.count_nonzero(node.weight)
    if node.weight.size < SPARSE_SIZE or not 0 < filled < SPARSE_BELOW * node.weight.size:
        return node
    rows, columns = np.nonzero(node.weight)
    indptr = np.concatenate([[0], np.bincount(rows, minlength=len(node.weight)).cumsum()]).astype(np.int64)
    return SparseNode(
        node.name, node.in_shape, node.out_shape, node.weight[rows, columns], columns.astype(np.int32), indptr,
        node.num_weight_bits, node.weight_exp, node.delay, node.sign,
    )  # fmt: skip


@dataclass(frozen=True)
class Conv2dNode:
    """Cross-correlation (torch's convention) of (C, H, W) events, zero padded, then shifted by weight_exp.

    weight: (out channel, in channel / groups, kernel height, kernel width) int16 mantissas, as in `DenseNode`.
    stride, padding, dilation: (height, width). groups: out channels see only their group's in channels.
    A convolution over time or along one axis is one of height 1.
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
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    sign: Sign = "mixed"

    def __post_init__(self) -> None:
        check_name(self.name)
        check_shape(self.name, "in_shape", self.in_shape, (3,))
        _check_weight(self)
        where, shape = self.name, self.weight.shape
        require(len(shape) == 4, where, "weight rank", expected="(out, in / groups, height, width)", got=shape)
        require_int(where, "groups", self.groups, 1, self.in_shape[0])
        whole = shape[1] * self.groups == self.in_shape[0] and shape[0] % self.groups == 0
        expected = f"{self.in_shape[0]} / {self.groups} groups, out channels divisible by them"
        require(whole, where, "weight input channels", expected=expected, got=shape)
        check_shape(where, "stride", self.stride, (2,))
        check_shape(where, "dilation", self.dilation, (2,))
        pads = (
            isinstance(self.padding, tuple) and len(self.padding) == 2 and all(is_int(p, 0, 255) for p in self.padding)
        )
        require(pads, where, "padding", expected="two sizes 0..255", got=self.padding)
        fits = min(self._slack) >= 0
        require(fits, where, "kernel is larger than the padded input", expected="a kernel inside", got=shape)

    @property
    def _slack(self) -> tuple[int, int]:
        """Height and width by which the padded input exceeds the dilated kernel."""
        sizes = zip(self.in_shape[1:], self.padding, self.weight.shape[2:], self.dilation, strict=True)
        height, width = (n + 2 * p - d * (k - 1) - 1 for n, p, k, d in sizes)
        return height, width

    @property
    def out_shape(self) -> Shape:
        return (self.weight.shape[0], *(slack // s + 1 for slack, s in zip(self._slack, self.stride, strict=True)))


Synapse = DenseNode | SparseNode | Conv2dNode


SUMS_ROUNDED_DOWN = "sums that are rounded down to whole units"


def floors_sums(node: Synapse) -> bool:
    """Whether the weight exponent drops bits: then a sum is rounded down once, which no sum of rounded weights is."""
    return node.weight_exp < 0 and bool((node.weight % (1 << -node.weight_exp)).any())


def _check_weight(node: Synapse) -> None:
    require_int(node.name, "num_weight_bits", node.num_weight_bits, 1, fp.WEIGHT_BITS_MAX)
    require_int(node.name, "weight_exp", node.weight_exp, fp.WEIGHT_EXPONENT_MIN, fp.WEIGHT_EXPONENT_MAX)
    require_int(node.name, "delay", node.delay, 0, fp.DELAY_MAX)
    weight = node.weight
    require(weight.dtype == np.int16, node.name, "weight dtype", expected="int16", got=str(weight.dtype))
    require(weight.size > 0, node.name, "weight is empty", expected="at least one weight", got=weight.shape)
    known = node.sign in fp.SIGNS
    require(known, node.name, "sign", expected=", ".join(fp.SIGNS), got=node.sign)
    low, high, grid = fp.weight_range(node.num_weight_bits, node.sign)
    on_grid = bool(weight.min() >= low and weight.max() <= high and not (weight % grid).any())
    expected, got = f"multiples of {grid} in {low}..{high}", f"{weight.min()}..{weight.max()}"
    require(on_grid, node.name, "weight mantissas are off Loihi's grid", expected=expected, got=got)
    object.__setattr__(node, "weight", frozen(weight))
