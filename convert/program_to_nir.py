"""A program -> .nir: floats that others read, and in the metadata the program itself, which `lower` takes up again."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nir
import numpy as np

from lavatube.bounds import prove_no_overflow
from lavatube.contract import LOIHI, ExecutionContract
from lavatube.convert.float_graph.contract_metadata import CONTRACT_KEY
from lavatube.convert.float_graph.read import flat_graph, read_nested_graph
from lavatube.convert.nir_spelling import (
    conv2d,
    cuba_lif,
    known_keys,
    per_channel,
    portable_names,
    refuse_other_keys,
    ungrouped,
)
from lavatube.convert.post_training.operators import Operator
from lavatube.convert.program_metadata import PROGRAM_KEY, program_text, stated_program
from lavatube.convert.to_nir import add_flatten, write_checked
from lavatube.errors import LavatubeError, UnsupportedError
from lavatube.files import whole_file
from lavatube.fixed_point import ACTIVATION_SHIFT, CURRENT_DECAY_OFFSET, DECAY_MAX, DECAY_ONE, weight_range
from lavatube.program import Conv2dNode, LoihiProgram, NeuronNode, ReadoutNode, SparseNode, Synapse, Target, floors_sums
from lavatube.program_file import program_sha256
from lavatube.synapse_nodes import SUMS_ROUNDED_DOWN

Edge = tuple[str, str]
ONE_READOUT = "an Output is summed over the timesteps"
NO_LEAK = 2.0**40  # timesteps of tau_mem, where NIR has no neuron without one
RESET_OF = {nir.IF: "if_reset", nir.CubaLIF: "cuba_reset"}


@dataclass(frozen=True)
class Written:
    """A graph as read back, and what of the program its floats do not say."""

    graph: nir.NIRGraph
    unsaid: tuple[str, ...]


def program_to_nir(program: LoihiProgram, path: Path | str, *, partly: bool = False) -> Written:
    """Write `path`, of which `lower` makes the same program again.

    The floats are integers times a power of two, to be stepped by the contract that the file states (loihi, with the
    program's resets and dt).
    partly: where NIR has no word for something, write the rest: the file then states no contract, and lists under
            `unsaid` what only its integers have.
    raises: UnsupportedError naming the node, for what NIR cannot say; with `partly` only where no graph could be drawn.
    """
    path = Path(path)
    spelled, renamed, writer = _spelled(program, partly)
    metadata = {PROGRAM_KEY: program_text(program, spelled, renamed, writer.unsaid)}
    if not writer.unsaid:
        metadata[CONTRACT_KEY] = json.dumps(writer.contract().to_json(), sort_keys=True)
    with whole_file(path) as temporary:
        graph = write_checked(spelled, renamed, metadata, temporary)
        back = stated_program(read_nested_graph(temporary), where=str(path)).program
        if program_sha256(back) != program_sha256(program):
            raise LavatubeError("the program does not read back as it was written", where=str(path))
    return Written(graph, tuple(writer.unsaid))


def refuse_contradictions(program: LoihiProgram, graph: nir.NIRGraph, *, where: str) -> None:
    """raises: LavatubeError where what a file says of a node for others is not so of the program that it carries."""
    for name, node in _spelled(program, True)[0].items():
        stated = graph.nodes[name].metadata if name in graph.nodes else None
        refuse_other_keys(stated or {}, node.metadata or {}, where=f"{where}:{name}")


def _spelled(program: LoihiProgram, partly: bool) -> tuple[dict[str, nir.NIRNode], list[Edge], _Writer]:
    """Nodes and edges as they are called in a file."""
    writer = _Writer(program, partly)
    for target in program.targets:
        writer.add(target)
    nodes, edges = writer.finished()
    names = portable_names(list(nodes), edges, ends=(len(program.inputs), len(program.readouts)) == (1, 1))
    return {names[name]: node for name, node in nodes.items()}, [(names[a], names[b]) for a, b in edges], writer


class _Writer:
    """The nodes so far, by their place in the program."""

    def __init__(self, program: LoihiProgram, partly: bool) -> None:
        self.program, self.partly = program, partly
        self.nodes: dict[str, nir.NIRNode] = {node.name: nir.Input(np.array(node.shape)) for node in program.inputs}
        self.shapes = _shapes(program)
        self.edges: list[Edge] = []
        self.late: set[Edge] = set()
        self.unsaid: list[str] = []
        self.resets: dict[str, set[str]] = {}

    def contract(self) -> ExecutionContract:
        """Under which the floats spike as the integers, as far as no state has to be rounded."""
        resets = {field: kinds.copy().pop() for field, kinds in self.resets.items()}
        return LOIHI.with_overrides(dt=self.program.contract.dt, **resets)

    def lacks(self, what: str, where: str, expected: str = "", got: str = "", remedy: str = "") -> None:
        """raises: UnsupportedError, unless the file may say a part."""
        if not self.partly:
            raise UnsupportedError(what, where=where, expected=expected, got=got, remedy=remedy)
        self.unsaid.append(f"{where}: {what}" + (f" ({got})" if got else ""))

    def add(self, target: Target) -> None:
        """A population or a read-out, behind its synapses."""
        inbound = self.program.inbound(target)
        if isinstance(target, ReadoutNode):
            self._readout(target)
        unit = self._unit(inbound)
        bias = _bias(target, unit)
        carrier = _carrier(inbound, bias)
        for synapse in inbound:
            self._synapse(synapse, target, unit, bias if synapse is carrier else bias * 0)
        if isinstance(target, NeuronNode):
            self._neuron(target, unit)

    def finished(self) -> tuple[dict[str, nir.NIRNode], list[Edge]]:
        """Nodes in order of execution and edges.

        raises: UnsupportedError if readers would cut the cycles elsewhere, or integers overflow where floats do not.
        """
        try:
            prove_no_overflow(replace(self.program, overflow="strict"))
        except LavatubeError as error:
            self.lacks("a register can overflow, and floats do not", "program", got=error.what)
        for node in self.program.readouts:
            shape = node.shape if node.reads == "current" else self.shapes[self.program.read_by(node).name]
            self.nodes[node.name] = nir.Output(np.array(shape))
        place = {node.name: index for index, node in enumerate(self.program.nodes)}
        for name in self.nodes:  # Flatten and Delay stand behind what leads into them
            before = next((a for a, b in self.edges if b == name), name)
            place.setdefault(name, place.get(before, len(place)))
        ends = {node.name: -1 for node in self.program.inputs}
        ends |= {node.name: len(self.nodes) + len(place) for node in self.program.readouts}
        order = sorted(self.nodes, key=lambda name: ends.get(name, place[name]))
        self.nodes = {name: self.nodes[name] for name in order}
        graph = nir.NIRGraph(dict(self.nodes), list(self.edges), type_check=False)
        found = set(flat_graph(graph).feedback)
        if odd := sorted(found ^ self.late):
            expected = "late edges to be those that close a cycle"
            self.lacks("NIR does not say which edge is late", " -> ".join(odd[0]), expected)
        for field, kinds in self.resets.items():
            if len(kinds) > 1:
                self.lacks("neurons of one kind with two kinds of reset", "program", "one", field)
        return self.nodes, self.edges

    def _unit(self, inbound: tuple[Synapse, ...]) -> float:
        """Float value of one activation unit: the power of two that is nearest to what the program says."""
        unit = self.program.scales.get(inbound[0].name, 1.0) if inbound else 1.0
        return 2.0 ** round(math.log2(unit)) if 2.0**-500 < unit < 2.0**500 else 1.0

    def _readout(self, readout: ReadoutNode) -> None:
        if readout.reads != "current":
            if readout.bias.any():
                self.lacks(f"a bias on a read-out of {readout.reads}", readout.name, ONE_READOUT)
            self.edges.append((self.program.read_by(readout).name, readout.name))

    def _neuron(self, node: NeuronNode, unit: float) -> None:
        lacking = [*sorted(node.needs() - {"soft reset", "voltage read-out"})]
        if lacking:
            expected = "binary spikes, a reset that the contract says, a start from rest"
            self.lacks(f"NIR's neurons have no {lacking[0]}", node.name, expected)
        momentary = node.reset_interval == 1 and node.du == DECAY_MAX and node.output == "binary"
        if node.reset_interval and not momentary:
            self.lacks("NIR's neurons have no periodic reset", node.name)
        if momentary:
            self.nodes[node.name] = nir.Threshold(np.full(self.shapes[node.name], node.vth * unit))
            return
        self.nodes[node.name] = made = self._leaky(node, unit)
        if type(made) in RESET_OF:
            self.resets.setdefault(RESET_OF[type(made)], set()).add(node.reset)

    def _leaky(self, node: NeuronNode, unit: float) -> nir.NIRNode:
        dt, shape = self.program.contract.dt, self.shapes[node.name]
        try:
            made = cuba_lif(shape, node.du, node.dv, node.vth * unit, dt)
        except UnsupportedError as error:
            self.lacks(str(error), node.name)
            made = cuba_lif(shape, node.du, 1, node.vth * unit, dt)
            made.tau_mem, made.r = made.tau_mem * 0 + dt * NO_LEAK, made.r * 0 + NO_LEAK
        if node.output != "none":
            return made
        if isinstance(made, nir.IF):
            return nir.I(made.r)
        return nir.CubaLI(made.tau_syn, made.tau_mem, made.r, made.v_leak, made.w_in)

    def _synapse(self, node: Synapse, target: Target, unit: float, bias: np.ndarray) -> None:
        """bias: of the population's shape, as floats."""
        source = self.program.source_of(node)
        shape, made = self.shapes[source.name], self.shapes[target.name]
        image = _is_drawn(node, shape)
        if floors_sums(node):
            self.lacks(
                SUMS_ROUNDED_DOWN,
                node.name,
                remedy="`lavatube export DIR`, whose metadata has the integers, or quantize with --target loihi1",
            )
        way = [source.name]
        if node.delay:
            way.append(self._unused(f"{node.name}_delay"))
            self.nodes[way[-1]] = nir.Delay(np.full(shape, node.delay * self.program.contract.dt))
            self.edges.append((way[-2], way[-1]))
        if not image and len(shape) > 1:
            way.append(add_flatten(self.nodes, self.edges, way[-1], shape))
        way.append(node.name)
        if self.program.lag(node) > node.delay:
            self.late.add((way[0], way[1]))
        weight = node.weight.astype(np.float64) * (2.0**node.weight_exp * unit)
        self.nodes[node.name] = self._map(node, weight, bias, shape)
        self.edges.append((way[-2], node.name))
        out: tuple[int, ...] = (_size(node.out_shape),)
        if image and isinstance(node, Conv2dNode):
            out = shape if _is_scale(node) else (node.out_shape[0], *node.out_shape[4 - len(shape) :])
        last = node.name
        if out != made:
            last = add_flatten(self.nodes, self.edges, node.name, out)
        self.edges.append((last, target.name))
        self.nodes[node.name].metadata = known_keys(_row(node, target, unit))

    def _map(self, node: Synapse, weight: np.ndarray, bias: np.ndarray, shape: tuple[int, ...]) -> nir.NIRNode:
        if isinstance(node, Conv2dNode) and _is_drawn(node, shape):
            channels = bias.reshape(len(weight), -1)
            if np.any(channels != channels[:, :1]):
                self.lacks("a bias that differs within a channel", node.name)
            one = channels[:, 0].copy()
            if _is_scale(node):
                return per_channel(weight.ravel(), shape, one)
            full = ungrouped(weight, node.groups, where=node.name)
            if len(shape) == 2:
                return nir.Conv1d(shape[1], full[:, :, 0], node.stride[1], node.padding[1], node.dilation[1], 1, one)
            return conv2d(node.in_shape, full, one, node.stride, node.padding, node.dilation, where=node.name)
        if isinstance(node, SparseNode):
            dense = np.zeros((_size(node.out_shape), _size(node.in_shape)))
            dense[np.repeat(np.arange(len(dense)), np.diff(node.indptr)), node.index] = weight
            weight = dense
        if isinstance(node, Conv2dNode):
            kind = (node.in_shape, node.out_shape, node.stride, node.padding, node.dilation, node.groups)
            weight = Operator("conv2d", weight, *kind).as_dense().weight
        return nir.Affine(weight=weight, bias=bias.ravel().copy())

    def _unused(self, name: str) -> str:
        while name in self.nodes or name in self.program.by_name:
            name += "_"
        return name


def _row(node: Synapse, target: Target, unit: float) -> dict[str, Any]:
    """Of the float: weight = integer * scale, bias = integer * bias_scale."""
    grid = weight_range(node.num_weight_bits, node.sign)[2]
    exponent = target.bias_exp - ACTIVATION_SHIFT if isinstance(target, NeuronNode) else 0
    return {
        "scale": unit * 2.0**node.weight_exp * grid, "bits": node.num_weight_bits, "signed": node.sign != "excitatory",
        "zero_point": 0, "rounding": "half to even", "bias_scale": unit * 2.0**exponent,
    }  # fmt: skip


def _carrier(inbound: tuple[Synapse, ...], bias: np.ndarray) -> Synapse | None:
    """The synapse that says the bias: one for each value where its values differ within a channel."""
    channels = bias.reshape(len(bias), -1)
    if np.any(channels != channels[:, :1]):
        return next((node for node in inbound if not isinstance(node, Conv2dNode)), inbound[0] if inbound else None)
    return next((node for node in inbound if not _is_scale(node)), inbound[0] if inbound else None)


def _shapes(program: LoihiProgram) -> dict[str, tuple[int, ...]]:
    """{source or target: its shape in the file}: flat behind a matrix, as nothing in NIR makes an image of that."""
    shapes = {node.name: node.shape for node in (*program.inputs, *program.targets)}
    while True:
        flat = {
            target.name for target in program.targets if len(shapes[target.name]) > 1
            for node in program.inbound(target) if not _fits(node, shapes[program.source_of(node).name], target.shape)
        }  # fmt: skip
        if not flat:
            return shapes
        shapes |= {name: (_size(shapes[name]),) for name in flat}


def _fits(node: Synapse, shape: tuple[int, ...], made: tuple[int, ...]) -> bool:
    """Whether a synapse can lead from one image to another."""
    if not isinstance(node, Conv2dNode) or not _is_drawn(node, shape):
        return False
    return made == (shape if _is_scale(node) else (node.out_shape[0], *node.out_shape[4 - len(shape) :]))


def _is_drawn(node: Synapse, shape: tuple[int, ...]) -> bool:
    """Whether a synapse is a convolution, or one factor per channel, of events of that shape in the file."""
    if not isinstance(node, Conv2dNode):
        return False
    image = (shape[0], 1, shape[1]) if len(shape) == 2 else shape
    return node.in_shape == (image if len(image) == 3 else (*image, 1, 1)) and (len(shape) > 1 or _is_scale(node))


def _size(shape: tuple[int, ...]) -> int:
    return math.prod(shape)


def _is_scale(node: Synapse) -> bool:
    """One factor per channel of events that pass as they are."""
    return isinstance(node, Conv2dNode) and node.weight.shape[1:] == (1, 1, 1) and (
        node.groups == node.in_shape[0] == node.weight.shape[0] and node.stride == (1, 1) and node.padding == (0, 0)
    )  # fmt: skip


def _bias(target: Target, unit: float) -> np.ndarray:
    """Of the target's shape, as an input in the unit of the weights: what a stored current makes of it is undone."""
    if isinstance(target, ReadoutNode):
        return target.bias.astype(np.float64) * unit
    register = target.bias_mant.astype(np.float64) * 2.0 ** (target.bias_exp - ACTIVATION_SHIFT) * unit
    return np.asarray(register * ((target.du + CURRENT_DECAY_OFFSET) / DECAY_ONE))
