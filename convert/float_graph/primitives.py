"""Raw node -> node of nir with float64 arrays, for every primitive of NIR 1.0.8. Shapes come later (`shapes.py`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import nir
import numpy as np

from lavatube.convert.float_graph.fields import Fields, Record, unknown_kind
from lavatube.convert.float_graph.neurons import ELEMENTWISE, elementwise
from lavatube.convert.float_graph.raw import RawNode


def checked_node(raw: RawNode, name: str, record: Record) -> nir.NIRNode:
    """Check one node and make it anew.

    name:   the name under which `record` is told what the file does not say.
    raises: LavatubeError naming the path of the field and the rule; UnsupportedError for an unknown node type.
    """
    if raw.kind not in BUILDERS:
        raise unknown_kind(raw, ", ".join([*BUILDERS, "NIRGraph"]))
    return BUILDERS[raw.kind](Fields(raw, name, record))


def _port(fields: Fields) -> nir.NIRNode:
    shape = np.array(fields.integers("shape", 1))
    fields.done()
    return nir.Input(shape) if fields.kind == "Input" else nir.Output(shape)


def _linear(fields: Fields) -> nir.NIRNode:
    weight = fields.floats("weight", min_rank=2, booleans=True)
    if fields.kind == "Linear":
        fields.done()
        return nir.Linear(weight)
    out = weight.shape[:-1]
    bias = fields.floats("bias")
    fields.done()
    if bias.shape not in (out, out[-1:]):
        if bias.size != 1:
            raise fields.refuse("bias", "shape", expected=str(out), got=bias.shape)
        fields.assume(f"bias: one value for all of {out}", "the weight has this many rows")
        bias = bias.reshape(())
    return nir.Affine(weight, np.broadcast_to(bias, out))


def _conv(fields: Fields) -> nir.NIRNode:
    axes = 1 if fields.kind == "Conv1d" else 2
    weight = fields.floats("weight", rank=2 + axes, booleans=True)
    bias = fields.floats("bias")
    groups = fields.integer("groups", 1)
    stride, dilation = fields.per_axis("stride", axes, 1), fields.per_axis("dilation", axes, 1)
    if groups > 1 and weight.shape[0] % groups:
        raise fields.refuse("groups", "value", expected=f"a divisor of {weight.shape[0]} output channels", got=groups)
    if bias.shape != weight.shape[:1]:
        if bias.size != 1:
            raise fields.refuse("bias", "shape", expected=f"({weight.shape[0]},), one for each channel", got=bias.shape)
        fields.assume(f"bias: one value for all of {weight.shape[0]} channels", "the weight has this many channels")
        bias = np.broadcast_to(bias.reshape(()), weight.shape[:1])
    padding = _padding(fields, axes, weight.shape[2:], stride, dilation)
    size = fields.per_axis("input_shape", axes, 1) if fields.has("input_shape") else None
    fields.done()
    made: nir.NIRNode
    if axes == 1:
        pad = padding if isinstance(padding, str) else padding[0]
        made = nir.Conv1d(None, weight, stride[0], pad, dilation[0], groups, bias)
        made.input_shape = None if size is None else size[0]
    else:
        made = nir.Conv2d(None, weight, stride, padding, dilation, groups, bias)
        made.input_shape = size
    return made


def _padding(
    fields: Fields, axes: int, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[int, ...] | str:
    """As torch: `same` needs stride 1; where it is uneven, the further zero is at the end, and it stays a string."""
    if (text := fields.text("padding")) is None:
        return fields.per_axis("padding", axes, 0)
    if text == "valid":
        return (0,) * axes
    if text != "same":
        raise fields.refuse("padding", "value", expected="integers, same or valid", got=ascii(text))
    if set(stride) != {1}:
        remedy = "write the padding as integers"
        raise fields.refuse("padding", "same", expected="stride 1", got=f"stride {stride}", remedy=remedy)
    total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    return "same" if any(n % 2 for n in total) else tuple(n // 2 for n in total)


def _pool(fields: Fields) -> nir.NIRNode:
    kernel, stride = fields.per_axis("kernel_size", 2, 1), fields.per_axis("stride", 2, 1)
    padding = fields.per_axis("padding", 2, 0)
    fields.done()
    if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        raise fields.refuse("padding", "value", expected=f"at most half of kernel_size {kernel}", got=padding)
    cls = nir.SumPool2d if fields.kind == "SumPool2d" else nir.AvgPool2d
    return cls(np.array(kernel), np.array(stride), np.array(padding))


def _flatten(fields: Fields) -> nir.NIRNode:
    dims = []
    for name, default in (("start_dim", 1), ("end_dim", -1)):
        if not fields.has(name):
            fields.assume(f"{name} = {default}", "the file has no such field; this is NIR's own default")
        dims.append(fields.integer(name, -8, 8) if fields.has(name) else default)
    size = np.array(fields.integers("input_type", 1)) if fields.has("input_type") else None
    fields.done()
    made = nir.Flatten(None, *dims)
    made.input_type = {"input": size}
    return made


BUILDERS: Mapping[str, Callable[[Fields], nir.NIRNode]] = {
    "Input": _port,
    "Output": _port,
    "Affine": _linear,
    "Linear": _linear,
    "Conv1d": _conv,
    "Conv2d": _conv,
    "SumPool2d": _pool,
    "AvgPool2d": _pool,
    "Flatten": _flatten,
    **dict.fromkeys(ELEMENTWISE, elementwise),
}
