"""A program -> .nir, where NIR can say it: its integers as floats, and in the metadata where `lower` reads them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import nir
import numpy as np

from lavatube.bounds import prove_no_overflow
from lavatube.contract import LOIHI
from lavatube.convert.float_graph.contract_metadata import CONTRACT_KEY
from lavatube.convert.float_graph.read import flat_graph
from lavatube.convert.nir_spelling import conv2d, cuba_lif, per_channel, portable_names, ungrouped
from lavatube.convert.to_nir import add_flatten, write_checked, write_quantized
from lavatube.errors import LavatubeError, UnsupportedError
from lavatube.fixed_point import ACTIVATION_SHIFT, CURRENT_DECAY_OFFSET, DECAY_MAX, DECAY_ONE, WEIGHT_BITS_MAX
from lavatube.program import Conv2dNode, LoihiProgram, NeuronNode, ReadoutNode, SparseNode, Synapse, Target
from lavatube.program_file import program_sha256

Edge = tuple[str, str]
Rows = dict[str, dict[str, Any]]
ONE_READOUT = "an Output is summed over the timesteps"


def program_to_nir(program: LoihiProgram, path: Path | str) -> nir.NIRGraph:
    """Write `path` and return the graph as read back.

    Where the program has what quantized files have (plain leaky neurons, mixed signs, no delays), `lower` makes the
    same program of it again; else it is a float file that states the contract loihi.
    raises: UnsupportedError naming the node, for what NIR cannot say.
    """
    path, writer = Path(path), _Writer(program)
    for target in program.targets:
        writer.add(target)
    nodes, edges = writer.finished()
    if writer.restorable:
        said = {"num_steps": program.num_steps, "lossy": program.lossy, "source_sha256": program_sha256(program)}
        return write_quantized(nodes, edges, writer.rows, program.input, path, method="program", **said)  # type: ignore[arg-type]
    names = portable_names(list(nodes), edges)
    spelled = {names[name]: node for name, node in nodes.items()}
    metadata = {CONTRACT_KEY: json.dumps(LOIHI.to_json())}
    return write_checked(spelled, [(names[a], names[b]) for a, b in edges], metadata, path)


class _Writer:
    """The nodes so far, by their place in the program."""

    def __init__(self, program: LoihiProgram) -> None:
        self.program = program
        self.nodes: dict[str, nir.NIRNode] = {program.input.name: nir.Input(np.array(program.input.shape))}
        self.readout = program.readout
        self.edges: list[Edge] = []
        self.rows: Rows = {}
        self.late: set[Edge] = set()
        self.restorable = self.readout.reads == "current"

    def add(self, target: Target) -> None:
        """A population or the read-out, behind its synapses."""
        inbound = self.program.inbound(target)
        if isinstance(target, ReadoutNode):
            self._readout(target)
        unit = self._unit(inbound)
        carrier = next((node for node in inbound if not _is_scale(node)), inbound[0] if inbound else None)
        bias = _bias(target, unit)
        for synapse in inbound:
            self._synapse(synapse, target, unit, bias if synapse is carrier else bias * 0, synapse is carrier)
        if isinstance(target, NeuronNode):
            self._neuron(target, unit)

    def finished(self) -> tuple[dict[str, nir.NIRNode], list[Edge]]:
        """Nodes in order of execution and edges.

        raises: UnsupportedError if readers would cut the cycles elsewhere, or integers overflow where floats do not.
        """
        try:
            prove_no_overflow(replace(self.program, overflow="strict"))
        except LavatubeError as error:
            raise UnsupportedError(
                "a register can overflow, and floats do not", where="program", got=error.what
            ) from error
        shape = self.program.read_by(self.readout).shape if self.readout.reads == "spikes" else self.readout.shape
        self.nodes[self.readout.name] = nir.Output(np.array(shape))
        place = {node.name: index for index, node in enumerate(self.program.nodes)}
        for name in self.nodes:  # Flatten and Delay stand behind what leads into them
            before = next((a for a, b in self.edges if b == name), name)
            place.setdefault(name, place.get(before, len(place)))
        ends = {self.program.input.name: -1, self.readout.name: len(self.nodes) + len(place)}
        order = sorted(self.nodes, key=lambda name: ends.get(name, place[name]))
        self.nodes = {name: self.nodes[name] for name in order}
        graph = nir.NIRGraph(dict(self.nodes), list(self.edges), type_check=False)
        found = set(flat_graph(graph).feedback)
        if odd := sorted(found ^ self.late):
            expected = "late edges to be those that close a cycle"
            raise UnsupportedError("NIR does not say which edge is late", where=" -> ".join(odd[0]), expected=expected)
        return self.nodes, self.edges

    def _unit(self, inbound: tuple[Synapse, ...]) -> float:
        """Float value of one activation unit: as the program says it, if floats then stay exact."""
        unit = self.program.scales.get(inbound[0].name, 1.0) if inbound else 1.0
        return unit if unit > 0 and math.frexp(unit)[0] == 0.5 else 1.0

    def _readout(self, readout: ReadoutNode) -> None:
        if readout.reads == "voltage":
            raise UnsupportedError("a read-out of voltages", where=readout.name, expected=ONE_READOUT)
        if readout.reads == "spikes":
            if readout.bias.any():
                raise UnsupportedError("a bias on a read-out of spikes", where=readout.name, expected=ONE_READOUT)
            self.edges.append((self.program.read_by(readout).name, readout.name))

    def _neuron(self, node: NeuronNode, unit: float) -> None:
        lacking = [*sorted(node.needs()), *(["periodic reset"] if node.reset_interval else [])]
        if lacking:
            expected = "binary spikes, a reset to zero, a start from rest"
            raise UnsupportedError(f"NIR's neurons have no {lacking[0]}", where=node.name, expected=expected)
        try:
            self.nodes[node.name] = cuba_lif(node.shape, node.du, node.dv, node.vth * unit)
        except UnsupportedError as error:
            raise UnsupportedError(str(error), where=node.name) from error
        self.restorable &= node.du == DECAY_MAX and node.dv > 0 and node.vth > 0
        self.rows[node.name] = {
            "du": node.du, "dv": node.dv, "vth": node.vth, "bias_exp": node.bias_exp, "scale": unit,
        }  # fmt: skip

    def _synapse(self, node: Synapse, target: Target, unit: float, bias: np.ndarray, carries: bool) -> None:
        """bias: of the population's shape, as floats."""
        source = self.program.source_of(node)
        if node.weight_exp < 0 and (node.weight % (1 << -node.weight_exp)).any():
            raise UnsupportedError("a weight exponent that drops bits of single weights", where=node.name)
        scale = _is_scale(node) and not (carries and bias.any())
        way = [source.name]
        if node.delay:
            way.append(f"{node.name}_delay")
            self.nodes[way[-1]] = nir.Delay(np.full(source.shape, node.delay * LOIHI.dt))
            self.edges.append((way[-2], way[-1]))
        if not isinstance(node, Conv2dNode) and len(source.shape) > 1:
            way.append(add_flatten(self.nodes, self.edges, way[-1], source.shape))
        elif isinstance(node, Conv2dNode) and node.in_shape != source.shape and not scale:
            expected = f"events of shape {node.in_shape}"
            raise UnsupportedError("NIR cannot reshape", where=node.name, expected=expected, got=str(source.shape))
        way.append(node.name)
        if self.program.lag(node) > node.delay:
            self.late.add((way[0], way[1]))
        weight = node.weight.astype(np.float64) * (2.0**node.weight_exp * unit)
        self.nodes[node.name] = self._map(node, weight, bias, scale, source.shape)
        self.edges.append((way[-2], node.name))
        out = source.shape if scale else node.out_shape if isinstance(node, Conv2dNode) else (_size(node.out_shape),)
        if out != target.shape:
            if len(target.shape) > 1:
                raise UnsupportedError("NIR cannot reshape", where=node.name, expected=str(target.shape), got=str(out))
            self.edges.append((add_flatten(self.nodes, self.edges, node.name, out), target.name))
        else:
            self.edges.append((node.name, target.name))
        self._row(node, target, unit, scale)

    def _map(self, node: Synapse, weight: np.ndarray, bias: np.ndarray, scale: bool, shape: Any) -> nir.NIRNode:
        if scale:
            return per_channel(weight.ravel(), shape)
        if isinstance(node, Conv2dNode):
            channels = bias.reshape(node.out_shape[0], -1)
            if np.any(channels != channels[:, :1]):
                raise UnsupportedError("a bias that differs within a channel", where=node.name)
            full = ungrouped(weight, node.groups, where=node.name)
            per_channel_bias = channels[:, 0].copy()
            return conv2d(
                node.in_shape, full, per_channel_bias, node.stride, node.padding, node.dilation, where=node.name
            )
        if isinstance(node, SparseNode):
            dense = np.zeros((_size(node.out_shape), _size(node.in_shape)))
            dense[np.repeat(np.arange(len(dense)), np.diff(node.indptr)), node.index] = weight
            weight = dense
        return nir.Affine(weight=weight, bias=bias.ravel().copy())

    def _row(self, node: Synapse, target: Target, unit: float, scale: bool) -> None:
        headroom = node.weight_exp + WEIGHT_BITS_MAX + 1 - node.num_weight_bits
        plain = not isinstance(node, Conv2dNode) or (node.groups == 1 and node.dilation == (1, 1)) or scale
        self.restorable &= plain and node.sign == "mixed" and not node.delay and headroom >= 0
        self.restorable &= not isinstance(node, SparseNode) and node.num_weight_bits > 1
        exponent = target.bias_exp - ACTIVATION_SHIFT if isinstance(target, NeuronNode) else 0
        self.rows[node.name] = {
            "scale": unit * 2.0**headroom, "bits": node.num_weight_bits, "signed": True, "zero_point": 0, "axis": None,
            "rounding": "half to even", "headroom": headroom, "bias_scale": unit * 2.0**exponent,
            "stands_for": "scale" if scale else None,
        }  # fmt: skip


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
