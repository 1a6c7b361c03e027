"""One small rule per NIR node type: the node and its quantization row become a program node. Exact, or refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import nir
import numpy as np

from lavatube import fixed_point as fp
from lavatube.convert.from_nir import integers_of
from lavatube.errors import LavatubeError, UnsupportedError
from lavatube.integer_layer import Window, synapse_node
from lavatube.pooling import Pool
from lavatube.program import DenseNode, NeuronNode, Shape, Synapse, as_stored

Row = Mapping[str, Any]


def lower_affine(name: str, node: nir.Affine, row: Row, shape: Shape, pool: Pool | None) -> Synapse:
    """W x + b: b-bit integers q become mantissas q << (9 - b), weight_exp = b - 9 + headroom, so a = (sum q s) << k.

    A pruned matrix is stored by its connections: Lava's Sparse, and synops of what exists.
    """
    found = _synapse(name, "dense", node.weight, row, shape, pool)
    return as_stored(found) if isinstance(found, DenseNode) else found


def lower_conv2d(name: str, node: nir.Conv2d, row: Row, shape: Shape, pool: Pool | None) -> Synapse:
    """Two-dimensional cross-correlation; integers as in `lower_affine`."""
    if isinstance(node.padding, str) or np.any(np.asarray(node.dilation) != 1) or node.groups != 1:
        raise UnsupportedError(
            "convolution",
            where=f"{name} (nir.Conv2d)",
            expected="numeric padding, dilation 1, groups 1",
            got=f"padding {node.padding}, dilation {node.dilation}, groups {node.groups}",
        )
    return _synapse(name, "conv2d", node.weight, row, shape, pool, (_pair(node.stride), _pair(node.padding)))


def lower_scale(name: str, node: nir.Scale, row: Row, shape: Shape, pool: Pool | None) -> Synapse:
    """One factor per channel; integers as in `lower_affine`. raises: LavatubeError if a channel has several."""
    where = f"{name} (nir.Scale)"
    factors = np.asarray(node.scale)
    per_channel = factors.reshape(len(factors), -1)
    seen = shape if pool is None else pool.out_shape(shape)
    if factors.shape != seen or not (per_channel == per_channel[:, :1]).all():
        raise LavatubeError("scale", where=where, expected=f"one factor per channel of {seen}", got=str(factors.shape))
    return _synapse(name, "scale", per_channel[:, 0], row, shape, pool)


def pool_of(name: str, node: nir.SumPool2d, shape: Shape) -> Pool:
    """Sums of events of `shape` that become part of the synapse after them, each integer weight repeated."""
    kernel, stride, padding = _pair(node.kernel_size), _pair(node.stride), _pair(node.padding)
    pool = Pool(kernel[0], stride[0])
    square = (kernel[0], stride[0], 0, 0) == (kernel[1], stride[1], *padding)
    if not square or not 1 <= pool.kernel <= pool.stride or not pool.fits(shape):
        raise UnsupportedError(
            "pooling", where=f"{name} (nir.SumPool2d)", expected="square windows side by side, to the edges",
            got=f"kernel {kernel}, stride {stride}, padding {padding} on {shape}",
        )  # fmt: skip
    return pool


def lower_neurons(
    name: str, node: nir.CubaLIF | nir.IF, row: Row, bias: np.ndarray, synapse: Row, dt: float
) -> NeuronNode:
    """CubaLIF with tau_syn = dt (no stored current) or IF (no leak): registers of the metadata that fit the floats.

    bias: (shape) int64 bias mantissas, the sum over its synapses; synapse: the quantization row of one of them.
    """
    where = f"{name} (nir.{type(node).__name__})"
    unit = synapse["scale"] / 2 ** synapse["headroom"]
    for what, got, wanted in (
        ("scale", row["scale"], unit),
        ("bias_scale", synapse["bias_scale"], unit * 2.0 ** (row["bias_exp"] - fp.ACTIVATION_SHIFT)),
        ("du", row["du"], fp.DECAY_MAX),
    ):
        if got != wanted:
            raise LavatubeError(
                f"{what} in the metadata contradicts itself", where=where, expected=str(wanted), got=str(got)
            )
    if isinstance(node, nir.IF) != (row["dv"] == 0):
        raise LavatubeError("dv does not fit the node", where=where, expected="0 of IF alone", got=str(row["dv"]))
    floats = {"v_reset": 0.0, "v_threshold": row["vth"] * row["scale"], "r": 1 / dt}
    if isinstance(node, nir.CubaLIF):
        leak = fp.DECAY_ONE / row["dv"]
        floats |= {"tau_syn": dt, "tau_mem": dt * leak, "r": leak, "v_leak": 0.0, "w_in": 1.0}
    for field, expected in floats.items():
        value = np.asarray(getattr(node, field))
        if not np.allclose(value, expected, rtol=1e-12, atol=0):
            got = f"{value.min():g}..{value.max():g}"
            raise LavatubeError(f"{field} does not fit the metadata", where=where, expected=f"{expected:g}", got=got)
    if bias.min() < fp.BIAS_MANTISSA_MIN or bias.max() > fp.BIAS_MANTISSA_MAX:
        raise LavatubeError("bias mantissa", where=where, expected="13 bits", got=f"{bias.min()}..{bias.max()}")
    registers = {key: value for key, value in row.items() if key != "scale"}
    return NeuronNode(name, bias.shape, bias_mant=bias.astype(np.int16), **registers)


def _synapse(
    name: str, kind: str, floats: np.ndarray, row: Row, shape: Shape, pool: Pool | None,
    window: Window = ((1, 1), (0, 0)),
) -> Synapse:  # fmt: skip
    bits, headroom = row["bits"], row["headroom"]
    integers = integers_of(floats, row["scale"], where=f"{name}.weight")
    limit = 1 << (bits - 1)
    if integers.min() < -limit or integers.max() >= limit:
        got = f"{integers.min()}..{integers.max()}"
        raise LavatubeError("integer weights", where=name, expected=f"{bits} bits signed", got=got)
    return synapse_node(name, kind, shape, integers, bits, headroom, window, pool)


def _pair(value: Any) -> tuple[int, int]:
    first, second = np.broadcast_to(np.asarray(value), 2)
    return int(first), int(second)
