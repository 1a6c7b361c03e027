"""What shape each node puts out: torch's rules, and nothing of nir's own inference (wrong for kernels not square)."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence

import nir
import numpy as np

from lavatube.convert.float_graph.fields import Record
from lavatube.convert.float_graph.graph import Edge, Shape
from lavatube.convert.float_graph.neurons import ELEMENTWISE_TYPES, PARAMETERS
from lavatube.errors import LavatubeError

ELEMENTS_MAX = 1 << 27  # of all nodes together: 1 GiB of float64 for each timestep
WORK_MAX = 1 << 36  # products of one node in a timestep
READS_MAX = 1 << 29  # values in the windows of one convolution, 4 GiB where they are laid out side by side


def infer_shapes(
    nodes: Mapping[str, nir.NIRNode], edges: Sequence[Edge], wheres: Mapping[str, str], record: Record
) -> dict[str, Shape]:
    """{name: shape put out}, of all nodes that an Input reaches; sets the types of the nodes, widens neurons of one.

    raises: LavatubeError naming the node whose input does not fit, with the shapes.
    """
    after: dict[str, list[str]] = {name: [] for name in nodes}
    for a, b in edges:
        after[a].append(b)
    shapes = {name: _sizes(node.input_type["input"]) for name, node in nodes.items() if isinstance(node, nir.Input)}
    ready, total = deque(shapes), sum(map(math.prod, shapes.values()))
    while ready:
        source = ready.popleft()
        if total > ELEMENTS_MAX:
            raise LavatubeError("too many elements", where=wheres[source], expected=f"{ELEMENTS_MAX} in all nodes")
        for name in after[source]:
            if name not in shapes:
                shapes[name] = _put_out(nodes[name], shapes[source], name, wheres[name], record)
                total += math.prod(shapes[name])
                ready.append(name)
    for a, b in edges:
        taken = _sizes(nodes[b].input_type["input"]) if b in shapes else None
        if a in shapes and taken != shapes[a]:
            raise _misfit(wheres[b], taken, f"{shapes[a]} from {a}")
    return shapes


def _put_out(node: nir.NIRNode, got: Shape, name: str, where: str, record: Record) -> Shape:
    taken, out = got, got
    if isinstance(node, nir.Input | nir.Output):
        taken = out = _sizes(node.output_type["output"])
    elif isinstance(node, ELEMENTWISE_TYPES):
        taken = out = _widened(node, got, name, record)
    elif isinstance(node, nir.Affine | nir.Linear):
        taken, out = (*node.weight.shape[:-2], node.weight.shape[-1]), node.weight.shape[:-1]
        if taken != got and len(got) > len(taken):
            raise _misfit(where, taken, str(got), remedy="put a Flatten before it")
    elif isinstance(node, nir.Conv1d | nir.Conv2d):
        taken, out = _conv(node, got, where)
    elif isinstance(node, nir.SumPool2d | nir.AvgPool2d):
        taken, out = got, _pool(node, got, where)
    elif isinstance(node, nir.Flatten):
        size = node.input_type["input"]
        taken, out = (got if size is None else _sizes(size)), _flat(node, got, where)
    if taken != got:
        narrow = isinstance(node, ELEMENTWISE_TYPES) and len(taken) < len(got)
        raise _misfit(where, taken, str(got), remedy="write its parameters for every element" if narrow else "")
    node.input_type, node.output_type = {"input": np.array(taken)}, {"output": np.array(out)}
    return out


def _widened(node: nir.NIRNode, got: Shape, name: str, record: Record) -> Shape:
    first = getattr(node, PARAMETERS[type(node)][0])
    if first.size > 1 or first.shape == got:
        return tuple(first.shape)
    for field in PARAMETERS[type(node)]:
        setattr(node, field, np.broadcast_to(getattr(node, field).reshape(()), got))
    if math.prod(got) > 1:
        record(name, f"one value for all of {got}", "parameters of one value, and this shape comes in")
    return got


def _conv(node: nir.NIRNode, got: Shape, where: str) -> tuple[Shape, Shape]:
    axes = node.weight.ndim - 2
    channels = node.weight.shape[1] * node.groups
    if len(got) != 1 + axes:
        raise _misfit(where, (channels, *("any",) * axes), str(got))
    size = got[1:] if node.input_shape is None else tuple(np.atleast_1d(node.input_shape).tolist())
    stride, dilation = _tuple(node.stride, axes), _tuple(node.dilation, axes)
    extent = [d * (k - 1) for d, k in zip(dilation, node.weight.shape[2:], strict=True)]
    padded = extent if node.padding == "same" else [2 * p for p in _tuple(node.padding, axes)]
    space = [n + p - e - 1 for n, p, e in zip(size, padded, extent, strict=True)]
    out = _steps(space, stride, where, f"kernel {node.weight.shape[2:]} with dilation {dilation} on {size}")
    node.input_shape = size if axes == 2 else size[0]
    _bounded(channels * math.prod(n + p for n, p in zip(size, padded, strict=True)), where, ELEMENTS_MAX)
    _bounded(math.prod(out) * node.weight.size, where)
    _bounded(math.prod(out) * channels * math.prod(node.weight.shape[2:]), where, READS_MAX)
    return (channels, *size), (node.weight.shape[0], *out)


def _pool(node: nir.NIRNode, got: Shape, where: str) -> Shape:
    if len(got) != 3:
        raise LavatubeError("shape of what comes in", where=where, expected="(channels, height, width)", got=str(got))
    kernel, stride, padding = (_tuple(v, 2) for v in (node.kernel_size, node.stride, node.padding))
    space = [n + 2 * p - k for n, p, k in zip(got[1:], padding, kernel, strict=True)]
    out = _steps(space, stride, where, f"window {kernel} on {got[1:]}")
    _bounded(got[0] * math.prod(n + 2 * p for n, p in zip(got[1:], padding, strict=True)), where, ELEMENTS_MAX)
    _bounded(math.prod(out) * got[0] * math.prod(kernel), where)
    return (got[0], *out)


def _flat(node: nir.Flatten, got: Shape, where: str) -> Shape:
    first, last = (dim + len(got) if dim < 0 else dim for dim in (node.start_dim, node.end_dim))
    if not 0 <= first <= last < len(got):
        remedy = "NIR counts axes without batch: torch's start_dim - 1"
        expected, dims = f"axes of {got}", f"start_dim {node.start_dim}, end_dim {node.end_dim}"
        raise LavatubeError("Flatten", where=where, expected=expected, got=dims, remedy=remedy)
    return (*got[:first], math.prod(got[first : last + 1]), *got[last + 1 :])


def _steps(space: Sequence[int], stride: Shape, where: str, what: str) -> Shape:
    if min(space) < 0:
        raise LavatubeError("window larger than what comes in", where=where, got=what)
    return tuple(n // s + 1 for n, s in zip(space, stride, strict=True))


def _bounded(work: int, where: str, most: int = WORK_MAX) -> None:
    if work > most:
        raise LavatubeError("too much work in a timestep", where=where, expected=f"at most {most}", got=str(work))


def _misfit(where: str, taken: object, got: str, remedy: str = "") -> LavatubeError:
    return LavatubeError("shape of what comes in", where=where, expected=str(taken), got=got, remedy=remedy)


def _sizes(value: object) -> Shape:
    return tuple(int(n) for n in np.atleast_1d(np.asarray(value)))


def _tuple(value: object, axes: int) -> Shape:
    sizes = _sizes(value)
    return sizes * axes if len(sizes) == 1 else sizes
