"""What the nodes without state compute, on one timestep of a batch: [B, ...] -> [B, ...], in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nir
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from lavatube.errors import UnsupportedError

Map = Callable[[np.ndarray], np.ndarray]
Pair = tuple[int, int]


def linear_map(
    name: str, node: nir.NIRNode, shape: tuple[int, ...], dtype: type[np.floating[Any]], *, with_bias: bool = True
) -> Map:
    """The map of an Affine, Linear, Scale, Conv1d, Conv2d, SumPool2d, AvgPool2d or Flatten node.

    shape: of what the node puts out, without the batch. with_bias: False leaves the bias to the neurons that it drives.
    raises: UnsupportedError for other nodes and for what their fields cannot mean.
    """
    if isinstance(node, (nir.Affine, nir.Linear)):
        weight = np.asarray(node.weight, dtype)
        bias = np.asarray(node.bias, dtype) if isinstance(node, nir.Affine) and with_bias else None
        return lambda x: _plus(_matmul(weight, x), bias)
    if isinstance(node, nir.Scale):
        scale = np.asarray(node.scale, dtype)
        return lambda x: x * scale
    if isinstance(node, (nir.Conv1d, nir.Conv2d)):
        return _convolution(name, node, dtype, with_bias)
    if isinstance(node, (nir.SumPool2d, nir.AvgPool2d)):
        return _pool(node, dtype)
    if isinstance(node, nir.Flatten):
        return lambda x: x.reshape(len(x), *shape)
    raise UnsupportedError("this node cannot be simulated", where=name, got=type(node).__name__)


def bias_of(node: nir.NIRNode, rank: int) -> np.ndarray:
    """The bias of an Affine or Conv node, shaped to add to [...] of the given rank."""
    bias = np.asarray(node.bias, np.float64)
    return bias if isinstance(node, nir.Affine) else bias.reshape(-1, *(1,) * (rank - 1))


def _matmul(weight: np.ndarray, x: np.ndarray) -> np.ndarray:
    """weight [..., out, in] times x [B, ..., in]."""
    if weight.ndim == 2:
        return np.asarray(x @ weight.T)
    return np.asarray(np.einsum("...oi,b...i->b...o", weight, x))


def _plus(value: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    return value if bias is None else value + bias


def _convolution(name: str, node: Any, dtype: type[np.floating[Any]], with_bias: bool) -> Map:
    """Cross-correlation; one dimension is run as a picture of height 1."""
    flat = isinstance(node, nir.Conv1d)
    weight = np.asarray(node.weight, dtype)
    weight = weight[:, :, None, :] if flat else weight
    stride, dilation = _pair(node.stride, flat, 1), _pair(node.dilation, flat, 1)
    kernel = (weight.shape[2], weight.shape[3])
    padding = _padding(name, node.padding, kernel, stride, dilation, flat)
    groups = int(np.asarray(node.groups).ravel()[0])
    bias = np.asarray(node.bias, dtype).reshape(-1, 1, 1) if with_bias and node.bias is not None else None
    parts = np.split(weight, groups)

    def run(x: np.ndarray) -> np.ndarray:
        x = x[:, :, None, :] if flat else x
        windows = _windows(x, kernel, stride, dilation, padding)
        blocks = np.split(windows, groups, axis=1)
        sums = [np.tensordot(b, w, axes=((1, 4, 5), (1, 2, 3))) for b, w in zip(blocks, parts, strict=True)]
        y = _plus(np.concatenate(sums, axis=-1).transpose(0, 3, 1, 2), bias)
        return y[:, :, 0, :] if flat else y

    return run


def _pool(node: Any, dtype: type[np.floating[Any]]) -> Map:
    kernel, stride = _pair(node.kernel_size, False, 1), _pair(node.stride, False, 1)
    height, width = _pair(node.padding, False, 0)
    share = dtype(kernel[0] * kernel[1]) if isinstance(node, nir.AvgPool2d) else dtype(1)  # padding counts, as in torch
    padding = ((height, height), (width, width))
    return lambda x: np.asarray(_windows(x, kernel, stride, (1, 1), padding).sum(axis=(4, 5)) / share)


def _windows(x: np.ndarray, kernel: Pair, stride: Pair, dilation: Pair, padding: tuple[Pair, Pair]) -> np.ndarray:
    """[B, C, H, W] -> [B, C, H', W', kernel height, kernel width]"""
    x = np.pad(x, ((0, 0), (0, 0), *padding))
    extent = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    view: np.ndarray = sliding_window_view(x, extent, axis=(2, 3))  # type: ignore[call-overload]  # takes pairs too
    return view[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]


def _pair(value: Any, flat: bool, first: int) -> Pair:
    """Sizes along height and width; `first` is the height of what has one dimension."""
    sizes = [int(size) for size in np.asarray(value).ravel()]
    if flat:
        return first, sizes[0]
    return (sizes[0], sizes[-1])


def _padding(name: str, value: Any, kernel: Pair, stride: Pair, dilation: Pair, flat: bool) -> tuple[Pair, Pair]:
    if not isinstance(value, str):
        height, width = _pair(value, flat, 0)
        return (height, height), (width, width)
    if value == "valid":
        return (0, 0), (0, 0)
    if value != "same" or max(stride) > 1:
        expected = "'valid', 'same' with stride 1, or integers"
        raise UnsupportedError("padding", where=name, expected=expected, got=f"{value!r}, stride {stride}")
    total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    return (total[0] // 2, total[0] - total[0] // 2), (total[1] // 2, total[1] - total[1] // 2)
