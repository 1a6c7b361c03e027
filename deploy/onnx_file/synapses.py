"""A synapse as ONNX operators: events in, activation out.

The sum is a MatMul of int64: |W| <= 2^8, |s| < 2^24 and fewer than 2^31 terms cannot leave it, whatever the order of
summation, so nothing has to be proven. What was not taken, and why (ONNX Runtime 1.31 on a CPU):

- MatMulInteger and ConvInteger: their uint8 x int8 kernels add pairs in a saturating int16 on processors with AVX2 but
  without VNNI: the sums would depend on the machine. Events wider than 8 bits would need splitting besides.
- Conv on integers or float64: no kernel. On float32: exact only below 2^24, and only if no algorithm transforms.

So a convolution gathers its windows and multiplies.
"""

from __future__ import annotations

import numpy as np

from lavatube.deploy.onnx_file.graph import StepGraph
from lavatube.program import Conv2dNode, SparseNode, Synapse


def add_synapse(graph: StepGraph, synapse: Synapse, events: str) -> str:
    """events: [batch, inputs]; returns the activation [batch, outputs], both flat in C order."""
    total = _windows(graph, synapse, events) if isinstance(synapse, Conv2dNode) else _matrix(graph, synapse, events)
    acc, exponent = graph.int32(total), synapse.weight_exp
    if exponent < 0:
        return graph.floor_shift(acc, -exponent)
    return graph.int32(graph.op("Mul", acc, 1 << exponent)) if exponent else acc


def dense_weight(synapse: Synapse) -> np.ndarray:
    """The stored weights; those of a sparse synapse with its zeros, [out, in] int16."""
    if not isinstance(synapse, SparseNode):
        return synapse.weight
    rows = np.repeat(np.arange(len(synapse.indptr) - 1), np.diff(synapse.indptr))
    weight = np.zeros((len(synapse.indptr) - 1, int(np.prod(synapse.in_shape))), np.int16)
    weight[rows, synapse.index] = synapse.weight
    return weight


def weight_size(synapse: Synapse) -> int:
    """Values that `dense_weight` has."""
    if isinstance(synapse, SparseNode):
        return (len(synapse.indptr) - 1) * int(np.prod(synapse.in_shape))
    return int(synapse.weight.size)


def _stored(graph: StepGraph, synapse: Synapse) -> str:
    return graph.int64(graph.tensor(f"{synapse.name}.weight", dense_weight(synapse)))


def _matrix(graph: StepGraph, synapse: Synapse, events: str) -> str:
    return graph.op("MatMul", events, graph.op("Transpose", _stored(graph, synapse), perm=[1, 0]))


def _windows(graph: StepGraph, synapse: Conv2dNode, events: str) -> str:
    """[batch, group, channel in group x window, place], multiplied by [group, out channel in group, ...]."""
    channels, height, width = synapse.in_shape
    out, per_group, kernel_y, kernel_x = synapse.weight.shape
    pad_y, pad_x = synapse.padding
    seen = graph.shaped(events, channels, height, width)
    if pad_y or pad_x:
        seen = graph.op("Pad", seen, graph.constant([0, 0, pad_y, pad_x] * 2))
    padded = (height + 2 * pad_y, width + 2 * pad_x)
    index = _window_index(synapse, padded[1])
    gathered = graph.op(
        "Gather", graph.shaped(seen, channels, padded[0] * padded[1]), graph.tensor(f"{graph.scope}/windows", index),
        axis=2,
    )  # fmt: skip
    terms, places = per_group * kernel_y * kernel_x, index.shape[1]
    columns = graph.shaped(gathered, synapse.groups, terms, places)
    shape = graph.constant([synapse.groups, out // synapse.groups, terms])
    weight = graph.op("Reshape", _stored(graph, synapse), shape)
    return graph.shaped(graph.op("MatMul", weight, columns), out * places)


def _window_index(synapse: Conv2dNode, row: int) -> np.ndarray:
    """Flat places in a padded channel with rows of `row` values: [kernel element, output place] int64."""
    _, high, wide = synapse.out_shape
    kernel_y, kernel_x = synapse.weight.shape[2:]
    y = np.arange(kernel_y)[:, None] * synapse.dilation[0] + np.arange(high) * synapse.stride[0]
    x = np.arange(kernel_x)[:, None] * synapse.dilation[1] + np.arange(wide) * synapse.stride[1]
    index = y[:, None, :, None] * row + x[None, :, None, :]
    return np.asarray(index.reshape(kernel_y * kernel_x, high * wide), np.int64)
