"""Random float NIR graphs whose every number is a small multiple of a power of two, and contracts to step them by."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np

from lavatube.contract import LOIHI, ExecutionContract

DT = 1.0
Shape = tuple[int, ...]


class Dyadic:
    """A network of up to four populations.

    leaky: LIF and CubaLIF, too, which halve their states in each timestep, or keep nothing of them.
    unit:  of weights, biases and thresholds.
    """

    def __init__(
        self, seed: int, *, leaky: bool = True, kinds: str = "all", bias: bool = True, unit: float = 1.0
    ) -> None:
        self.rng, self.leaky, self.kinds, self.bias = np.random.default_rng(seed), leaky, kinds, bias
        self.unit = unit
        self.nodes: dict[str, nir.NIRNode] = {}
        self.edges: list[tuple[str, str]] = []
        plain = kinds == "lava"
        shape: Shape = [(4,), (2, 5, 4), (3, 6)][0 if plain else int(self.rng.integers(3))]
        source = self.add("input", nir.Input(np.array(shape)))
        if self.chance(0.3):
            self.add("input_2", nir.Input(np.array(shape)))
            source = self.add("both", nir.Scale(np.full(shape, 0.5)), source, "input_2") if not plain else source
            if plain:
                del self.nodes["input_2"]
        for number in range(int(self.rng.integers(1, 4))):
            source, shape = self.layer(number, source, shape)
        if self.chance(0.3) and not plain:
            source = self.add("late", nir.Delay(np.full(shape, DT)), source)
        if self.chance(0.3) and not plain and len(shape) == 1:
            self.add("sums", self.dense(shape[0], 3), source)
            self.add("output", nir.Output(np.array([3])), "sums")
        else:
            self.add("output", nir.Output(np.array(shape)), source)
        self.graph = nir.NIRGraph(self.nodes, self.edges, type_check=False)

    def add(self, name: str, node: nir.NIRNode, *sources: str) -> str:
        self.nodes[name] = node
        self.edges += [(source, name) for source in sources]
        return name

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def values(self, shape: Shape, unit: float = 1 / 8, most: int = 7) -> np.ndarray:
        return self.rng.integers(-most + 2, most + 1, shape) * unit * self.unit

    def biases(self, size: int) -> np.ndarray:
        return self.values((size,), 1 / 16, 3) * self.bias

    def dense(self, n: int, out: int) -> nir.NIRNode:
        weight = self.values((out, n))
        return nir.Affine(weight, self.biases(out)) if self.chance(0.7) else nir.Linear(weight)

    def neuron(self, shape: Shape, level: float) -> nir.NIRNode:
        full, level = np.ones(shape), level * self.unit
        reset = full * float(self.rng.choice([0.0, -0.25])) * self.unit
        if self.kinds == "lava":
            return nir.LIF(full * 2 * DT, full * 1, full * 0, full * level / 2, full * 0)
        kind = int(self.rng.integers(4 if self.leaky else 2))
        if kind == 0:
            return nir.Threshold(full * level)
        if kind == 1:
            return nir.IF(full / DT, full * level, reset)
        leak = full * float(self.rng.choice([0.0, 0.5])) * self.unit
        tau = full * float(self.rng.choice([1.0, 2.0, 2.0]))
        if kind == 2:
            return nir.LIF(tau * DT, tau, leak, full * level, reset)
        return nir.CubaLIF(tau * DT, full * 2 * DT, full * 2, full * 0, full * level, reset, tau)

    def layer(self, number: int, source: str, shape: Shape) -> tuple[str, Shape]:
        name = f"s{number}"
        if len(shape) == 3 and self.chance(0.8):
            groups = int(self.rng.choice([1, shape[0]]))
            weight = self.values((2 * groups, shape[0] // groups, 3, 2))
            size = (shape[1], shape[2])
            pad = (int(self.rng.integers(0, 2)), 1)
            node: nir.NIRNode = nir.Conv2d(size, weight, 1, pad, 1, groups, self.biases(2 * groups))
            if self.chance(0.4) and min(size) > 1:
                source = self.add(
                    f"{name}_pool", nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])), source
                )
                size = (shape[1] // 2, shape[2] // 2)
                node.input_shape = size
            made: Shape = (2 * groups, size[0] + 2 * pad[0] - 2, size[1] + 2 * pad[1] - 1)
            if min(made) < 1:
                node.padding = (1, 1)
                made = (2 * groups, size[0], size[1] + 1)
            shape = made
        elif len(shape) == 2:
            weight = self.values((3, shape[0], 3))
            node, shape = nir.Conv1d(shape[1], weight, 1, 1, 1, 1, self.biases(3)), (3, shape[1])
            self.add(f"{name}_flat", nir.Flatten({"input": np.array(shape)}, 0, -1), name)
        else:
            if len(shape) == 3:
                node = nir.Flatten({"input": np.array(shape)}, 0, -1)
                source, shape = self.add(f"{name}_flat", node, source), (int(np.prod(shape)),)
            out = int(self.rng.integers(2, 6))
            node, shape = self.dense(shape[0], out), (out,)
        here = self.add(name, node, source)
        if f"{name}_flat" in self.nodes and len(shape) == 2:
            here, shape = f"{name}_flat", (int(np.prod(shape)),)
        if self.kinds == "lava":
            return self.add(f"n{number}", self.neuron(shape, 1.0), here), shape
        if self.chance(0.3):
            extra = nir.Delay(np.full(shape, 2 * DT)) if self.chance(0.5) else nir.Scale(np.full(shape, 0.5))
            here = self.add(f"e{number}", extra, here)
        neuron = self.neuron(shape, float(self.rng.choice([0.5, 1.0, 1.5])))
        fires = self.add(f"n{number}", neuron, here)
        if len(shape) == 1 and self.chance(0.4) and not isinstance(neuron, nir.Threshold):
            self.add(f"r{number}", self.dense(shape[0], shape[0]), fires)
            self.edges.append((f"r{number}", fires))
        return fires, shape


def random_contract(seed: int) -> ExecutionContract:
    """Of those fields that a program can follow exactly, most of the time; toward-zero in the `Dyadic.unit` of 4096."""
    rng = np.random.default_rng([seed, 7])

    def pick(*values: Any) -> Any:
        return values[int(rng.integers(len(values)))]

    lag = pick(0, 0, 1)
    return LOIHI.with_overrides(
        dt=DT, requires=(), weight_rounding="none",
        if_reset=pick("zero", "v_reset", "subtract"), if_reset_lag=pick(0, 1), reset=pick("zero", "v_reset"),
        reset_lag=pick(0, 1), cuba_reset=pick("zero", "v_reset", "subtract"), cuba_reset_lag=pick(0, 1),
        cuba_recurrent_reset=pick("as-others", "late"), initial_v=pick("zero", "v_leak", "v_reset"),
        late_zero=pick("before-update", "instead-of-update", "lif-before-update"),
        current_order=pick("new", "old"), comparator=pick(">", ">="), output_lag=lag,
        feedback_delay=pick(0, 1) if lag else 1, feedback_cut=pick("before-synapse", "after-synapse"),
        bias=pick("input", "voltage"), arithmetic=pick("decay", "difference"), precision=pick("float64", "float32"),
        state_rounding=pick("none", "none", "none", "toward-zero"),
    )  # fmt: skip
