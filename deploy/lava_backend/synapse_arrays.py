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
    return _conv_matrix(synapse, shape)


def _conv_matrix(synapse: Conv2dNode, shape: tuple[int, int]) -> csr_matrix:
    _, height, width = synapse.in_shape
    channels, out_height, out_width = synapse.out_shape
    per_group = synapse.weight.shape[1]
    rows, columns, values = [], [], []
    o, i = np.meshgrid(np.arange(channels), np.arange(per_group), indexing="ij")
    source_channel = i + o // (channels // synapse.groups) * per_group
    for y in range(synapse.weight.shape[2]):
        for x in range(synapse.weight.shape[3]):
            out_y, out_x = np.meshgrid(np.arange(out_height), np.arange(out_width), indexing="ij")
            in_y = out_y * synapse.stride[0] + y * synapse.dilation[0] - synapse.padding[0]
            in_x = out_x * synapse.stride[1] + x * synapse.dilation[1] - synapse.padding[1]
            inside = (in_y >= 0) & (in_y < height) & (in_x >= 0) & (in_x < width)
            to, source = (out_y * out_width + out_x)[inside], (in_y * width + in_x)[inside]
            rows.append((o[..., None] * out_height * out_width + to).ravel())
            columns.append((source_channel[..., None] * height * width + source).ravel())
            values.append(np.repeat(synapse.weight[:, :, y, x].ravel(), len(to)))
    data = np.concatenate(values).astype(np.int32), (np.concatenate(rows), np.concatenate(columns))
    return coo_matrix(data, shape=shape).tocsr()
