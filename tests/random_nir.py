"""Random NIR graphs that make sense: every primitive, nested, recurrent, with fan-in, several inputs and outputs."""

from __future__ import annotations

import math

import nir
import numpy as np

Shape = tuple[int, ...]


class Builder:
    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: dict[str, nir.NIRNode] = {}
        self.edges: list[tuple[str, str]] = []

    def add(self, node: nir.NIRNode, *sources: str) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes[name] = node
        self.edges += [(source, name) for source in sources]
        return name

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def uniform(self, shape: Shape, low: float, high: float) -> np.ndarray:
        dtype = np.float32 if self.chance(0.3) else np.float64
        return self.rng.uniform(low, high, shape).astype(dtype)

    def neuron(self, shape: Shape) -> nir.NIRNode:
        def tau() -> np.ndarray:
            return self.uniform(shape, 1e-3, 2e-2)

        r, leak, w_in = self.uniform(shape, 0.5, 2), self.uniform(shape, -0.1, 0.1), self.uniform(shape, 0.5, 1)
        thr, reset = self.uniform(shape, 0.1, 1), self.uniform(shape, -0.2, 0.05)
        return [
            lambda: nir.I(r),
            lambda: nir.LI(tau(), r, leak),
            lambda: nir.IF(r, thr, reset),
            lambda: nir.LIF(tau(), r, leak, thr, reset),
            lambda: nir.CubaLI(tau(), tau(), r, leak, w_in),
            lambda: nir.CubaLIF(tau(), tau(), r, leak, thr, reset, w_in),
        ][self.rng.integers(6)]()

    def dense(self, n: int, out: int) -> nir.NIRNode:
        weight = self.uniform((out, n), -1, 1)
        return nir.Affine(weight, self.uniform((out,), -0.1, 0.1)) if self.chance(0.5) else nir.Linear(weight)

    def window(self, shape: Shape) -> tuple[nir.NIRNode, Shape]:
        """A Conv1d, Conv2d or pool on [C, ...] and the shape it puts out."""
        axes = len(shape) - 1
        kernel = tuple(int(self.rng.integers(1, min(3, n) + 1)) for n in shape[1:])
        stride, pad = tuple(self.rng.integers(1, 3, axes).tolist()), tuple(k // 2 for k in kernel)
        if axes == 2 and self.chance(0.3):
            cls = nir.SumPool2d if self.chance(0.5) else nir.AvgPool2d
            out = tuple((n + 2 * p - k) // s + 1 for n, p, k, s in zip(shape[1:], pad, kernel, stride, strict=True))
            return cls(np.array(kernel), np.array(stride), np.array(pad)), (shape[0], *out)
        groups = shape[0] if self.chance(0.3) else 1
        channels = groups * int(self.rng.integers(1, 3))
        padding: object = pad
        if self.chance(0.3):
            padding, stride, pad = "same", (1,) * axes, tuple((k - 1) / 2 for k in kernel)  # type: ignore[assignment]
        out = tuple(int((n + 2 * p - k) // s + 1) for n, p, k, s in zip(shape[1:], pad, kernel, stride, strict=True))
        weight, bias = self.uniform((channels, shape[0] // groups, *kernel), -1, 1), self.uniform((channels,), -1, 1)
        if axes == 1:
            padding = padding if isinstance(padding, str) else pad[0]
            return nir.Conv1d(shape[1], weight, stride[0], padding, 1, groups, bias), (channels, *out)
        return nir.Conv2d(shape[1:], weight, stride, padding, 1, groups, bias), (channels, *out)

    def layer(self, source: str, shape: Shape) -> tuple[str, Shape]:
        """A synapse, a neuron, and sometimes a loop around it or a graph around both."""
        if len(shape) > 1 and self.chance(0.6):
            node, shape = self.window(shape)
        elif len(shape) > 1:
            node, shape = nir.Flatten({"input": np.array(shape)}, 0, -1), (math.prod(shape),)
        else:
            out = int(self.rng.integers(1, 6))
            node, shape = self.dense(shape[0], out), (out,)
        synapse = self.add(node, source)
        if self.chance(0.25):
            kind = self.rng.integers(3)
            scale = self.uniform(shape, 0.1, 1)
            extra = nir.Scale(scale) if kind == 0 else nir.Threshold(scale) if kind == 1 else nir.Delay(scale * 1e-2)
            synapse = self.add(extra, synapse)
        if self.chance(0.2):
            return self.add(_nested(self.neuron(shape), shape, self.chance(0.5)), synapse), shape
        neuron = self.add(self.neuron(shape), synapse)
        if len(shape) == 1 and self.chance(0.4):
            back = self.add(self.dense(shape[0], shape[0]), neuron)
            self.edges.append((back, neuron))
        elif self.chance(0.2):
            self.edges.append((neuron, neuron))
        return neuron, shape


def _nested(neuron: nir.NIRNode, shape: Shape, recurrent: bool) -> nir.NIRGraph:
    nodes = {"input": nir.Input(np.array(shape)), "lif": neuron, "output": nir.Output(np.array(shape))}
    edges = [("input", "lif"), ("lif", "output")]
    if recurrent:
        nodes["w_rec"] = nir.Scale(np.full(shape, 0.5))
        edges += [("lif", "w_rec"), ("w_rec", "lif")]
    return nir.NIRGraph(nodes, edges, type_check=False)


def random_graph(seed: int) -> nir.NIRGraph:
    """A graph of up to five layers; the same seed gives the same graph."""
    b = Builder(seed)
    shape: Shape = [(4,), (2, 6), (2, 6, 5)][b.rng.integers(3)]
    source = b.add(nir.Input(np.array(shape)))
    if b.chance(0.2):  # two inputs add up
        both = b.add(nir.Scale(b.uniform(shape, 0.5, 1)), source, b.add(nir.Input(np.array(shape))))
        source = both
    for _ in range(int(b.rng.integers(1, 5))):
        before, before_shape = source, shape
        source, shape = b.layer(source, shape)
        if shape == before_shape and b.chance(0.3):
            source = b.add(nir.Scale(b.uniform(shape, 0.5, 1)), source, before)
        if b.chance(0.15):
            b.add(nir.Output(np.array(shape)), source)
    b.add(nir.Output(np.array(shape)), source)
    return nir.NIRGraph(b.nodes, b.edges, type_check=False)


def shuffled(graph: nir.NIRGraph, seed: int) -> tuple[nir.NIRGraph, dict[str, str]]:
    """The same graph under other names, in another order; {old name: new name}."""
    rng = np.random.default_rng(seed)
    names = {name: f"x{index}" for name, index in zip(graph.nodes, rng.permutation(len(graph.nodes)), strict=True)}
    order, edges = list(graph.nodes), [(names[a], names[b]) for a, b in graph.edges]
    rng.shuffle(order)
    rng.shuffle(edges)
    return nir.NIRGraph({names[n]: graph.nodes[n] for n in order}, [(a, b) for a, b in edges], type_check=False), names
