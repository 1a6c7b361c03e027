"""Linear nodes between two populations become one operator that a synapse of a program can be: a matrix or a conv2d."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import nir
import numpy as np

from lavatube.convert.float_graph.linear_maps import linear_map
from lavatube.errors import UnsupportedError

Shape = tuple[int, ...]
Pair = tuple[int, int]
MATRIX_MAX = 1 << 26  # elements of a matrix that stands for nodes that no convolution can stand for
ROWS_AT_ONCE = 256
POOLS = (nir.SumPool2d, nir.AvgPool2d)
CONVS = (nir.Conv1d, nir.Conv2d)


@dataclass(frozen=True)
class Part:
    """Some neurons of a population. index: flat; channels: along its first axis, if they are whole ones of an image."""

    name: str
    index: np.ndarray
    shape: Shape
    channels: np.ndarray | None


@dataclass(frozen=True)
class Operator:
    """y = weight * x of events that are flat in C order.

    weight: float64 [out, in] (dense), or [out channel, in channel / groups, height, width] (conv2d, cross-correlation).
    in_shape, out_shape: (C, H, W) of a conv2d. composed: made of several nodes, or spelled out as a matrix.
    """

    kind: Literal["dense", "conv2d"]
    weight: np.ndarray
    in_shape: Shape
    out_shape: Shape
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    composed: bool = False

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """x: [N, ...] numbers; returns [N, out] float64."""
        x = np.asarray(x, np.float64)
        if self.kind == "dense":
            return np.asarray(x.reshape(len(x), -1) @ self.weight.T)
        node = nir.Conv2d(
            None, self.weight, self.stride, self.padding, self.dilation, self.groups, np.zeros(len(self.weight))
        )
        run = linear_map("", node, self.out_shape, np.float64, with_bias=False)
        return run(x.reshape(len(x), *self.in_shape)).reshape(len(x), -1)

    def scaled(self, factor: np.ndarray, shape: Shape) -> Operator:
        """Each output times its factor. factor: broadcasts to `shape`, the population's."""
        factor = np.broadcast_to(np.asarray(factor, np.float64), shape)
        if np.all(factor == factor.flat[0]):
            return replace(self, weight=self.weight * factor.flat[0])
        if self.kind == "conv2d":
            per_channel = factor.reshape(len(self.weight), -1)
            if np.all(per_channel == per_channel[:, :1]):
                return replace(self, weight=self.weight * per_channel[:, 0].reshape(-1, 1, 1, 1))
            return self.as_dense().scaled(factor, shape)
        return replace(self, weight=self.weight * factor.reshape(-1, 1))

    def part(self, rows: Part | None, columns: Part | None) -> Operator:
        """From some inputs to some outputs; None: all of them."""
        if rows is None and columns is None:
            return self
        if self.kind == "conv2d" and all(each is None or each.channels is not None for each in (rows, columns)):
            weight = _ungrouped(self)
            outputs = np.arange(len(weight)) if rows is None or rows.channels is None else rows.channels
            inputs = np.arange(weight.shape[1]) if columns is None or columns.channels is None else columns.channels
            return replace(
                self, weight=weight[outputs][:, inputs], groups=1, composed=True,
                in_shape=(len(inputs), *self.in_shape[1:]), out_shape=(len(outputs), *self.out_shape[1:]),
            )  # fmt: skip
        dense = self.as_dense()
        weight = dense.weight if rows is None else dense.weight[rows.index]
        weight = weight if columns is None else weight[:, columns.index]
        in_shape = self.in_shape if columns is None else columns.shape
        return Operator("dense", weight, in_shape, (len(weight),), composed=True)

    def as_dense(self) -> Operator:
        if self.kind == "dense":
            return self
        return _spelled_out(self.in_shape, math.prod(self.out_shape), lambda x: self(x), "")


def identity(shape: Shape) -> Operator:
    """Events that pass as they are: one group for each channel."""
    image = (shape[0], 1, shape[1]) if len(shape) == 2 else (*shape, 1, 1)[:3]
    if len(shape) > 3:
        image = (math.prod(shape), 1, 1)
    return Operator("conv2d", np.ones((image[0], 1, 1, 1)), image, image, groups=image[0])


def operator_of(path: Sequence[tuple[str, nir.NIRNode, Shape]], in_shape: Shape, where: str) -> Operator:
    """The operator of a chain of linear nodes (name, node, shape put out), without their biases.

    Exact in real numbers; products of weights of several nodes are rounded to float64.
    raises: UnsupportedError if it would be a matrix of more than MATRIX_MAX elements.
    """
    found, shape = None, in_shape
    weighty = [step for step in path if not isinstance(step[1], nir.Flatten)]
    for _, node, out in path:
        if not isinstance(node, nir.Flatten):
            single = _single(node, shape, out)
            found = single if found is None else None if single is None else composed(found, single)
            if found is None:
                break
        shape = out
    if found is not None:
        return found
    if not weighty:
        return identity(in_shape)
    maps = [linear_map(name, node, out, np.float64, with_bias=False) for name, node, out in path]

    def run(x: np.ndarray) -> np.ndarray:
        x = x.reshape(len(x), *in_shape)
        for each in maps:
            x = each(x)
        return x.reshape(len(x), -1)

    return _spelled_out(in_shape, math.prod(path[-1][2]), run, where)


def composed(first: Operator, then: Operator) -> Operator | None:
    """`then` after `first` as one operator, or None where no convolution is the same at the borders."""
    if first.kind == "dense" and then.kind == "dense":
        return Operator("dense", then.weight @ first.weight, first.in_shape, then.out_shape, composed=True)
    if then.kind == "conv2d" and then.in_shape != (*first.out_shape, 1, 1)[:3]:
        return None  # a Flatten lies between
    if then.kind == "dense" and _is_scale(first):
        columns = np.repeat(first.weight.reshape(-1), math.prod(first.in_shape[1:]))
        return Operator("dense", then.weight * columns, first.in_shape, then.out_shape, composed=True)
    if first.kind == "dense" and _is_scale(then):
        return Operator(
            "dense", first.weight * then.weight.reshape(-1, 1), first.in_shape, first.out_shape, composed=True
        )
    if first.kind == "dense" or then.kind == "dense":
        return None
    if max(*first.dilation, *then.dilation) > 1 or not all(_phantoms_are_zero(first, then, axis) for axis in (0, 1)):
        return None
    kernel = [(then.weight.shape[a + 2] - 1) * first.stride[a] + first.weight.shape[a + 2] for a in (0, 1)]
    a, b, groups = _matched(first, then)
    weight = np.zeros((len(b), a.shape[1], *kernel))
    per_out, per_group = len(b) // groups, len(a) // groups
    for y in range(b.shape[2]):
        for x in range(b.shape[3]):
            down = slice(y * first.stride[0], y * first.stride[0] + a.shape[2])
            across = slice(x * first.stride[1], x * first.stride[1] + a.shape[3])
            for g in range(groups):
                left = b[g * per_out : (g + 1) * per_out, :, y, x]
                right = a[g * per_group : (g + 1) * per_group]
                weight[g * per_out : (g + 1) * per_out, :, down, across] += np.tensordot(left, right, axes=(1, 0))
    stride = (first.stride[0] * then.stride[0], first.stride[1] * then.stride[1])
    padding = tuple(first.padding[i] + then.padding[i] * first.stride[i] for i in (0, 1))
    return Operator(
        "conv2d", weight, first.in_shape, then.out_shape, stride, (padding[0], padding[1]), (1, 1), groups, True
    )


def _is_scale(operator: Operator) -> bool:
    """One factor for each channel; only of one value each where a dense operator comes before."""
    return operator.kind == "conv2d" and operator.weight.shape[1:] == (1, 1, 1) and operator.groups == len(
        operator.weight
    ) == operator.in_shape[0] and operator.in_shape == operator.out_shape  # fmt: skip


def _matched(first: Operator, then: Operator) -> tuple[np.ndarray, np.ndarray, int]:
    """(kernels of `first` [C, I, h, w], of `then` [O, C / groups, h, w], groups), grouped alike."""
    if first.groups == then.groups and len(first.weight) == first.in_shape[0] and then.weight.shape[1] == 1:
        return first.weight, then.weight, first.groups
    groups = 1
    return _ungrouped(first), _ungrouped(then), groups


def _ungrouped(operator: Operator) -> np.ndarray:
    weight, groups = operator.weight, operator.groups
    per_out, per_in = len(weight) // groups, weight.shape[1]
    full = np.zeros((len(weight), per_in * groups, *weight.shape[2:]))
    for g in range(groups):
        rows, columns = slice(g * per_out, (g + 1) * per_out), slice(g * per_in, (g + 1) * per_in)
        full[rows, columns] = weight[rows]
    return full


def _phantoms_are_zero(first: Operator, then: Operator, axis: int) -> bool:
    """Whether what `then` pads with zeros is what `first` would put out there, beyond its output."""
    if then.padding[axis] == 0:
        return True
    size, kernel = first.in_shape[axis + 1], first.weight.shape[axis + 2]
    stride, padding = first.stride[axis], first.padding[axis]
    before = kernel <= stride + padding
    return before and first.out_shape[axis + 1] * stride - padding >= size


def _single(node: nir.NIRNode, shape: Shape, out: Shape) -> Operator | None:
    """One node, or None if it can only be spelled out."""
    if isinstance(node, (nir.Affine, nir.Linear)):
        weight = np.asarray(node.weight, np.float64)
        return Operator("dense", weight, shape, out) if weight.ndim == 2 and len(shape) == 1 else None
    if isinstance(node, nir.Scale):
        scale = np.broadcast_to(np.asarray(node.scale, np.float64), shape)
        per_channel = scale.reshape(shape[0], -1)
        if not np.all(per_channel == per_channel[:, :1]):
            return None
        one = identity(shape)
        return replace(one, weight=per_channel[:, 0].reshape(-1, 1, 1, 1).copy())
    if isinstance(node, POOLS):
        kernel = _pair(node.kernel_size)
        value = 1.0 / math.prod(kernel) if isinstance(node, nir.AvgPool2d) else 1.0
        weight = np.full((shape[0], 1, *kernel), value)
        return Operator("conv2d", weight, shape, out, _pair(node.stride), _pair(node.padding), groups=shape[0])
    if isinstance(node, CONVS) and not isinstance(node.padding, str):
        weight, groups = np.asarray(node.weight, np.float64), int(np.asarray(node.groups).ravel()[0])
        if isinstance(node, nir.Conv1d):
            stride, padding, dilation = (int(np.asarray(v).ravel()[0]) for v in
                                         (node.stride, node.padding, node.dilation))  # fmt: skip
            image, made = (shape[0], 1, shape[1]), (out[0], 1, out[1])
            return Operator(
                "conv2d", weight[:, :, None, :], image, made, (1, stride), (0, padding), (1, dilation), groups
            )
        return Operator(
            "conv2d", weight, shape, out, _pair(node.stride), _pair(node.padding), _pair(node.dilation), groups
        )
    return None


def _spelled_out(in_shape: Shape, outputs: int, run: object, where: str) -> Operator:
    size = math.prod(in_shape)
    if size * outputs > MATRIX_MAX:
        raise UnsupportedError(
            "these nodes together are no single convolution, and too large for a matrix", where=where,
            expected=f"at most {MATRIX_MAX} weights", got=f"{size} x {outputs}",
            remedy="put a neuron between them, or padding 0",
        )  # fmt: skip
    weight = np.empty((outputs, size))
    for start in range(0, size, ROWS_AT_ONCE):
        rows = np.eye(min(ROWS_AT_ONCE, size - start), size, start)
        weight[:, start : start + len(rows)] = run(rows).T  # type: ignore[operator]
    return Operator("dense", weight, in_shape, (outputs,), composed=True)


def _pair(value: object) -> Pair:
    sizes = [int(n) for n in np.asarray(value).ravel()]
    return sizes[0], sizes[-1]
