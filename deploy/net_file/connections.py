"""The weights and delays of a dense block -> synapse nodes, which have one delay each."""

from __future__ import annotations

import numpy as np

from lavatube import fixed_point as fp
from lavatube.deploy.net_file.blocks import Block, require
from lavatube.deploy.net_file.integers import Lossy, Mantissas
from lavatube.program import DenseNode, Shape, SparseNode


def matrix_of(block: Block, name: str, units: int) -> np.ndarray:
    """(units, inputs); lava-dl stores that of one unit flat, and some files have sizes of 1 at the end."""
    value = block.values.get(name, np.zeros(0, np.int64))
    whole = bool(block.shape) and value.size > 0 and value.size % units == 0
    matrix = value.reshape(units, -1) if whole else value
    fits = whole and (value.ndim == 1 or (value.shape[0] == units and value.shape[1] == matrix.shape[1]))
    require(fits, block, name, f"({units if block.shape else 'units'}, inputs)", str(value.shape))
    return matrix


def delays_of(block: Block, shape: Shape, lossy: Lossy) -> np.ndarray:
    """Delay of every connection: one number, one per neuron, one per source, or a matrix. Returns (out, in) int64."""
    delay = block.values.get("delay", np.zeros(1, np.int64))
    if delay.size != 1 and delay.shape != shape:
        rows = delay.size == shape[0]
        fits = delay.ndim == 1 and (rows or delay.size == shape[1])
        require(fits, block, "delay", f"1, {shape[0]}, {shape[1]} or {shape} values", str(delay.shape))
        delay = delay.reshape(-1, 1) if rows else delay.reshape(1, -1)
    require(int(delay.min()) >= 0, block, "delay", "0 or more", str(int(delay.min())))
    clipped = np.minimum(delay, fp.DELAY_MAX)
    if (clipped != delay).any():
        what = f"delays clipped to {fp.DELAY_MAX}, as lava-dl does"
        count = int((clipped != delay).sum())
        lossy.append({"stage": "lower", "layer": block.name, "what": what, "clipped": count})
    return np.array(np.broadcast_to(clipped if clipped.size > 1 else clipped.reshape(1, 1), shape))


def split_by_delay(
    name: str, shape: Shape, out: Shape, fitted: Mantissas, delays: np.ndarray
) -> list[DenseNode] | list[SparseNode]:
    """One dense synapse, or one sparse synapse for each delay, which holds the connections with it."""
    weight, bits, exponent, sign = fitted
    found = [int(d) for d in np.unique(delays[weight != 0])] or [0]
    if len(found) == 1:
        return [DenseNode(name, shape, weight, bits, exponent, found[0], sign)]
    parts = []
    for delay in found:
        there = (weight != 0) & (delays == delay)
        index = np.nonzero(there)[1].astype(np.int32)
        indptr = np.concatenate([[0], there.sum(1).cumsum()]).astype(np.int64)
        part = f"{name}_delay{delay}"
        parts.append(SparseNode(part, shape, out, weight[there], index, indptr, bits, exponent, delay, sign))
    return parts
