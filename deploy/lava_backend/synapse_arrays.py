"""Weights in the arrays that Lava's synapses want. No Lava is imported here."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix

from lavatube.program import Conv2dNode, DenseNode, SparseNode, Synapse


def conv_weight(synapse: Conv2dNode) -> np.ndarray:
    """(out channel, kernel width, kernel height, in channel) int32, exponent applied, for Lava's *true* convolution."""
    weight = synapse.weight.astype(np.int32)
    e = synapse.weight_exp
    applied = weight << e if e >= 0 else weight >> -e
    return np.ascontiguousarray(applied[:, :, ::-1, ::-1].transpose(0, 3, 2, 1))


def sparse_weight(synapse: Synapse) -> csr_matrix:
    """(out neuron, in neuron) mantissas, both flat in C order."""
    shape = (int(np.prod(synapse.out_shape)), int(np.prod(synapse.in_shape)))
    if isinstance(synapse, DenseNode):
        return csr_matrix(synapse.weight.astype(np.int32))
    if isinstance(synapse, SparseNode):
        return csr_matrix((synapse.weight.astype(np.int32), synapse.index, synapse.indptr), shape=shape)
    return conv_matrix(
        synapse.weight, synapse.in_shape, synapse.stride, synapse.padding, synapse.dilation, synapse.groups
    )


def conv_matrix(
    weight: np.ndarray,
    in_shape: tuple[int, ...],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> csr_matrix:
    """A convolution as the (out neuron, in neuron) matrix of its mantissas, both flat in C order.

    weight: (out channel, in channel / groups, kernel height, kernel width); in_shape: (C, H, W); pairs: (y, x).
    """
    channels, per_group, *kernel = weight.shape
    out_height, out_width = (
        (size + 2 * pad - gap * (k - 1) - 1) // step + 1
        for size, pad, gap, k, step in zip(in_shape[1:], padding, dilation, kernel, stride, strict=True)
    )
    rows, columns, values = [], [], []
    o, i = np.meshgrid(np.arange(channels), np.arange(per_group), indexing="ij")
    source_channel = i + o // (channels // groups) * per_group
    for y in range(kernel[0]):
        for x in range(kernel[1]):
            out_y, out_x = np.meshgrid(np.arange(out_height), np.arange(out_width), indexing="ij")
            in_y = out_y * stride[0] + y * dilation[0] - padding[0]
            in_x = out_x * stride[1] + x * dilation[1] - padding[1]
            inside = (in_y >= 0) & (in_y < in_shape[1]) & (in_x >= 0) & (in_x < in_shape[2])
            to, source = (out_y * out_width + out_x)[inside], (in_y * in_shape[2] + in_x)[inside]
            rows.append((o[..., None] * out_height * out_width + to).ravel())
            columns.append((source_channel[..., None] * in_shape[1] * in_shape[2] + source).ravel())
            values.append(np.repeat(weight[:, :, y, x].ravel(), len(to)))
    data = np.concatenate(values).astype(np.int32), (np.concatenate(rows), np.concatenate(columns))
    return coo_matrix(data, shape=(channels * out_height * out_width, int(np.prod(in_shape)))).tocsr()
