"""Synapses written out, connection by connection."""

from __future__ import annotations

import numpy as np

from lavatube.program import DenseNode, SparseNode, Synapse


def connections(synapse: Synapse) -> list[tuple[int, int, int]]:
    """[(from, to, weight)] in flat indices: every stored connection, one by one."""
    if isinstance(synapse, DenseNode):
        return [(i, o, int(synapse.weight[o, i])) for o, i in np.ndindex(synapse.weight.shape)]
    if isinstance(synapse, SparseNode):
        rows = [(o, k) for o in range(len(synapse.indptr) - 1) for k in range(synapse.indptr[o], synapse.indptr[o + 1])]
        return [(int(synapse.index[k]), o, int(synapse.weight[k])) for o, k in rows]
    found = []
    _, height, width = synapse.in_shape
    per_group = synapse.weight.shape[0] // synapse.groups
    for o, y, x in np.ndindex(synapse.out_shape):
        for i, j, k in np.ndindex(synapse.weight.shape[1:]):
            channel = o // per_group * synapse.weight.shape[1] + i
            yy = y * synapse.stride[0] + j * synapse.dilation[0] - synapse.padding[0]
            xx = x * synapse.stride[1] + k * synapse.dilation[1] - synapse.padding[1]
            if 0 <= yy < height and 0 <= xx < width:
                to = int(np.ravel_multi_index((o, y, x), synapse.out_shape))
                source = int(np.ravel_multi_index((channel, yy, xx), synapse.in_shape))
                found.append((source, to, int(synapse.weight[o, i, j, k])))
    return found
