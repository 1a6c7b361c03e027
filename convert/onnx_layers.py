"""One ONNX node of an ANN -> one torch module. Attributes that are not named here are refused, never ignored."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from lavatube.errors import LavatubeError, UnsupportedError

SIZE_MAX = 1 << 16  # of any attribute that is a size
VALUES_MAX = 1 << 28  # of one activation of one sample
FLOAT32_MAX = float(np.finfo(np.float32).max)
Tensors = dict[str, np.ndarray]
Pair = tuple[int, int]


@dataclass(frozen=True)
class Call:
    """A node as a layer sees it: its first input is a tensor of `shape` ([1, ...], one sample), the others constants.

    constants: by place among the inputs; None for an input that is left out.  batch: the file's fixed batch or 0.
    """

    where: str
    shape: tuple[int, ...]
    attributes: Mapping[str, Any]
    constants: Mapping[int, np.ndarray | None]
    opset: int
    batch: int

    def refuse(self, what: str, *, expected: str = "", got: object = "") -> UnsupportedError:
        return UnsupportedError(what, where=self.where, expected=expected, got=str(got))

    def constant(self, place: int) -> np.ndarray | None:
        return self.constants.get(place)

    def needed(self, place: int, rank: int) -> np.ndarray:
        """A constant that must be there. raises: UnsupportedError."""
        value = self.constants.get(place)
        if value is None or value.ndim != rank or not value.size or value.dtype != np.float32:
            got = "none" if value is None else f"{value.dtype} {value.shape}"
            raise self.refuse(f"input {place}", expected=f"float32 constants of rank {rank}", got=got)
        return value

    def number(self, name: str, default: int) -> int:
        value = self.attributes.get(name, default)
        if not isinstance(value, int):
            raise self.refuse(f"attribute {name}", expected="an integer", got=value)
        return value

    def real(self, name: str, default: float) -> float:
        value = self.attributes.get(name, default)
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            raise self.refuse(f"attribute {name}", expected="a finite number", got=value)
        return float(value)

    def sizes(self, name: str, default: tuple[int, ...], low: int = 1) -> tuple[int, ...]:
        value = self.attributes.get(name, default)
        ok = isinstance(value, (list, tuple)) and len(value) == len(default)
        if not ok or not all(isinstance(each, int) and low <= each <= SIZE_MAX for each in value):
            raise self.refuse(f"attribute {name}", expected=f"{len(default)} sizes {low}..{SIZE_MAX}", got=value)
        return tuple(value)

    def only(self, name: str, default: int, allowed: int) -> None:
        if self.number(name, default) != allowed:
            raise self.refuse(f"attribute {name}", expected=str(allowed), got=self.attributes[name])

    def rank(self, *allowed: int) -> None:
        if len(self.shape) not in allowed:
            expected = "rank " + " or ".join(map(str, allowed))
            raise self.refuse("input shape", expected=expected, got=["batch", *self.shape[1:]])


# a module, its parameters on the meta device; the values of its state; the shape of its output for one sample
Layer = tuple[nn.Module, Tensors, tuple[int, ...]]


def conv(call: Call) -> Layer:
    call.rank(4)
    weight, groups = call.needed(1, 4), call.number("group", 1)
    kernel = (int(weight.shape[2]), int(weight.shape[3]))
    if call.sizes("kernel_shape", kernel) != kernel:
        raise call.refuse("attribute kernel_shape", expected=str(kernel), got=call.attributes["kernel_shape"])
    stride, dilation = call.sizes("strides", (1, 1)), call.sizes("dilations", (1, 1))
    top, left, bottom, right = _pads(call, kernel, stride, dilation)
    tensors = {"weight": weight}
    if call.constant(2) is not None:
        tensors["bias"] = call.needed(2, 1)
    inputs, outputs = int(weight.shape[1]) * groups, int(weight.shape[0])
    if groups < 1 or outputs % groups or call.shape[1] != inputs:
        got = f"{weight.shape} with {groups} groups on {call.shape[1]} channels"
        raise call.refuse("weight shape", expected="channels that fit the input", got=got)
    even = (top, left) == (bottom, right)
    shape = (1, outputs, *_places(call, kernel, stride, (top, left, bottom, right), dilation))
    layer = nn.Conv2d(
        inputs, outputs, kernel, _two(stride), (top, left) if even else 0, _two(dilation), groups,
        "bias" in tensors, device="meta",
    )  # fmt: skip
    if even:
        return layer, tensors, shape
    padded = nn.Sequential(nn.ZeroPad2d((left, right, top, bottom)), layer)
    return padded, {f"1.{name}": value for name, value in tensors.items()}, shape


def gemm(call: Call) -> Layer:
    call.rank(2)
    call.only("transA", 0, 0)
    alpha, beta = (np.float32(call.real(name, 1.0)) for name in ("alpha", "beta"))
    with np.errstate(over="ignore", invalid="ignore"):  # `build` looks whether all are finite
        return _scaled_gemm(call, call.needed(1, 2) * alpha, beta)


def _scaled_gemm(call: Call, weight: np.ndarray, beta: np.float32) -> Layer:
    if not call.number("transB", 0):
        weight = weight.T
    bias = call.constant(2)
    if bias is None:
        return _linear(call, weight, None)
    fits = bias.dtype == np.float32 and bias.ndim <= 2 and bias.shape[:-1] in ((), (1,))
    if not fits or bias.size not in (1, len(weight)):
        got = f"{bias.dtype} {bias.shape}"
        raise call.refuse("input 2", expected=f"a float32 bias for each of {len(weight)} outputs", got=got)
    return _linear(call, weight, np.broadcast_to(bias.reshape(-1) * beta, len(weight)))


def matmul(call: Call) -> Layer:
    call.rank(2, 3)
    return _linear(call, call.needed(1, 2).T, None)


def _linear(call: Call, weight: np.ndarray, bias: np.ndarray | None) -> Layer:
    outputs, inputs = weight.shape
    if call.shape[-1] != inputs:
        raise call.refuse("weight shape", expected=f"{call.shape[-1]} inputs", got=inputs)
    tensors = {"weight": weight} | ({} if bias is None else {"bias": bias})
    return nn.Linear(inputs, outputs, bias is not None, device="meta"), tensors, (*call.shape[:-1], outputs)


def batch_norm(call: Call) -> Layer:
    call.rank(2, 3, 4)
    call.only("training_mode", 0, 0)
    call.only("spatial", 1, 1)
    names = ("weight", "bias", "running_mean", "running_var")
    tensors: Tensors = {name: call.needed(place, 1) for place, name in enumerate(names, 1)}
    channels, eps = len(tensors["weight"]), call.real("epsilon", 1e-5)
    if any(len(value) != channels for value in tensors.values()) or call.shape[1] != channels:
        raise call.refuse("channels", expected=f"{call.shape[1]} in each of 4 constants", got=channels)
    if not (tensors["running_var"].min() >= 0 and float(tensors["running_var"].min()) + eps > 0):
        raise call.refuse("variance", expected="above 0", got=tensors["running_var"].min())
    kind = nn.BatchNorm2d if len(call.shape) == 4 else nn.BatchNorm1d
    layer = kind(channels, eps=eps, momentum=1 - call.real("momentum", 0.9), device="meta")
    return layer, {**tensors, "num_batches_tracked": np.array(0, np.int64)}, call.shape


def relu(call: Call) -> Layer:
    return nn.ReLU(), {}, call.shape


def clip(call: Call) -> Layer:
    if call.opset < 11:
        low, high = call.real("min", -math.inf) if "min" in call.attributes else -math.inf, math.inf
        high = call.real("max", high) if "max" in call.attributes else high
    else:
        ends = [call.constant(place) for place in (1, 2)]
        if any(end is not None and end.size != 1 for end in ends):
            raise call.refuse("bounds", expected="two scalars")
        low, high = (
            default if end is None else float(end.reshape(()))
            for end, default in zip(ends, (-math.inf, math.inf), strict=True)
        )
    low, high = low if low > -FLOAT32_MAX else -math.inf, high if high < FLOAT32_MAX else math.inf
    if not low < high:
        raise call.refuse("bounds", expected="min below max", got=f"{low}..{high}")
    if (low, high) == (0, 6):
        return nn.ReLU6(), {}, call.shape
    return nn.ReLU() if (low, high) == (0, math.inf) else nn.Hardtanh(low, high), {}, call.shape


def max_pool(call: Call) -> Layer:
    call.rank(4)
    call.only("storage_order", 0, 0)
    kernel, stride, padding, dilation, shape = _pool(call)
    return nn.MaxPool2d(kernel, stride, padding, dilation), {}, shape


def average_pool(call: Call) -> Layer:
    call.rank(4)
    kernel, stride, padding, dilation, shape = _pool(call)
    if dilation != (1, 1):
        raise call.refuse("attribute dilations", expected="1", got=dilation)
    counts = bool(call.number("count_include_pad", 0))
    return nn.AvgPool2d(kernel, stride, padding, count_include_pad=counts), {}, shape


def global_average_pool(call: Call) -> Layer:
    call.rank(4)
    return nn.AdaptiveAvgPool2d(1), {}, (*call.shape[:2], 1, 1)


def flatten(call: Call) -> Layer:
    axis = call.number("axis", 1)
    if axis not in (1, 1 - len(call.shape)):
        raise call.refuse("attribute axis", expected="1: all but the batch", got=axis)
    return nn.Flatten(1), {}, (1, math.prod(call.shape[1:]))


def reshape(call: Call) -> Layer:
    call.only("allowzero", 0, 0)
    shape, size = call.constant(1), math.prod(call.shape[1:])
    expected = f"to [batch, {size}]"
    if shape is None or shape.dtype != np.int64 or shape.shape != (2,):
        got = "a shape that is computed" if shape is None else str(shape.tolist())[:80]
        raise call.refuse("a Reshape that is not a Flatten", expected=expected, got=got)
    batch, rest = shape.tolist()
    keeps = batch in (0, call.batch or 0) and rest in (-1, size)
    if not keeps and (batch, rest) != (-1, size):
        raise call.refuse("a Reshape that is not a Flatten", expected=expected, got=[batch, rest])
    return nn.Flatten(1), {}, (1, size)


def _pool(call: Call) -> tuple[Pair, Pair, Pair, Pair, tuple[int, ...]]:
    """(kernel, stride, padding, dilation, output shape)."""
    if "kernel_shape" not in call.attributes:
        raise call.refuse("attribute kernel_shape", expected="two sizes", got="none")
    call.only("ceil_mode", 0, 0)
    kernel = call.sizes("kernel_shape", (1, 1))
    stride, dilation = call.sizes("strides", (1, 1)), call.sizes("dilations", (1, 1))
    top, left, bottom, right = _pads(call, kernel, stride, dilation)
    if (top, left) != (bottom, right):
        raise call.refuse("padding of a pool", expected="as much before as after", got=[top, left, bottom, right])
    if 2 * top > kernel[0] or 2 * left > kernel[1]:
        raise call.refuse("padding of a pool", expected="at most half of the kernel", got=[top, left])
    shape = (*call.shape[:2], *_places(call, kernel, stride, (top, left, bottom, right), dilation))
    return _two(kernel), _two(stride), (top, left), _two(dilation), shape


def _places(
    call: Call, kernel: tuple[int, ...], stride: tuple[int, ...], pads: tuple[int, ...], dilation: tuple[int, ...]
) -> Pair:
    """Height and width of what a window makes."""
    padded = (call.shape[2] + pads[0] + pads[2], call.shape[3] + pads[1] + pads[3])
    slack = [n - d * (k - 1) - 1 for n, k, d in zip(padded, kernel, dilation, strict=True)]
    if min(slack) < 0:
        got = f"{kernel}, {dilation} apart, on {padded}"
        raise call.refuse("kernel", expected="one inside the padded input", got=got)
    return slack[0] // stride[0] + 1, slack[1] // stride[1] + 1


def _pads(
    call: Call, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[int, int, int, int]:
    """(top, left, bottom, right)."""
    auto = call.attributes.get("auto_pad", b"NOTSET")
    if auto in (b"NOTSET", b""):
        top, left, bottom, right = call.sizes("pads", (0, 0, 0, 0), low=0)
        padded = (call.shape[2] + top + bottom) * (call.shape[3] + left + right)
        if padded * call.shape[1] > VALUES_MAX:
            raise call.refuse("attribute pads", expected=f"at most {VALUES_MAX} padded values", got=padded)
        return top, left, bottom, right
    if "pads" in call.attributes:
        raise call.refuse("attribute pads beside auto_pad", expected="one of the two", got=auto)
    if auto == b"VALID":
        return 0, 0, 0, 0
    if auto not in (b"SAME_UPPER", b"SAME_LOWER"):
        raise call.refuse("attribute auto_pad", got=auto)
    totals = [
        max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
        for n, k, s, d in zip(call.shape[2:], kernel, stride, dilation, strict=True)
    ]
    small, large = [total // 2 for total in totals], [total - total // 2 for total in totals]
    first, last = (small, large) if auto == b"SAME_UPPER" else (large, small)
    return first[0], first[1], last[0], last[1]


def _two(value: tuple[int, ...]) -> Pair:
    return value[0], value[1]


_WINDOW = ("auto_pad", "dilations", "kernel_shape", "pads", "strides")
LAYERS: Mapping[str, tuple[Callable[[Call], Layer], int, tuple[str, ...]]] = {  # (layer, its inputs, attributes)
    "Conv": (conv, 3, (*_WINDOW, "group")),
    "Gemm": (gemm, 3, ("alpha", "beta", "transA", "transB")),
    "MatMul": (matmul, 2, ()),
    "BatchNormalization": (batch_norm, 5, ("epsilon", "momentum", "spatial", "training_mode")),
    "Relu": (relu, 1, ()),
    "Clip": (clip, 3, ("min", "max")),
    "MaxPool": (max_pool, 1, (*_WINDOW, "ceil_mode", "storage_order")),
    "AveragePool": (average_pool, 1, (*_WINDOW, "ceil_mode", "count_include_pad")),
    "GlobalAveragePool": (global_average_pool, 1, ()),
    "Flatten": (flatten, 1, ("axis",)),
    "Reshape": (reshape, 2, ("allowzero",)),
}


def build(operator: str, call: Call) -> tuple[nn.Module, tuple[int, ...]]:
    """(module with its values, in evaluation mode; shape of its output for one sample).

    raises: UnsupportedError for what the layer cannot be; LavatubeError for shapes that do not fit.
    """
    layer, most, known = LAYERS[operator]
    if call.opset < 11 and operator == "Clip":
        most = 1  # its bounds were attributes
    if (given := max(call.constants, default=0) + 1) > most:
        raise call.refuse("inputs", expected=f"at most {most}", got=given)
    if unknown := sorted(set(call.attributes) - set(known)):
        raise call.refuse("attributes", expected=", ".join(known) or "none", got=", ".join(unknown))
    module, tensors, shape = layer(call)
    if not all(np.isfinite(value).all() for value in tensors.values()):
        raise call.refuse("values", expected="finite numbers", got="an overflow")
    try:
        state = {name: torch.from_numpy(np.array(value, order="C")) for name, value in tensors.items()}
        module.load_state_dict(state, assign=True)
    except (RuntimeError, ValueError) as error:
        raise LavatubeError("shapes do not fit", where=call.where, got=str(error)) from error
    return module.eval(), shape
