"""Quantized network -> model.nir: plain NIR that others read, with the integers recoverable from its metadata.

NIR carries no unit of time; ours is the second (`ExecutionContract.dt`). How nodes are spelled: `nir_spelling`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nir
import numpy as np

from lavatube import __version__
from lavatube.contract import LOIHI
from lavatube.convert.nir_spelling import conv2d, cuba_lif, flatten, known_keys, per_channel, portable_names
from lavatube.errors import LavatubeError, UnsupportedError
from lavatube.files import sha256_of_arrays, whole_file
from lavatube.fixed_point import DECAY_MAX
from lavatube.integer_layer import IntegerLayer, IntegerSynapse, population_name, special
from lavatube.pooling import Pool
from lavatube.program import InputNode, Shape

METADATA_KEY = "lavatube"
METADATA_VERSION = 3
READOUT = "sum over timesteps"
FLOAT_FIELDS = ("weight", "bias", "scale", "tau_syn", "tau_mem", "r", "v_leak", "v_threshold", "v_reset", "w_in")


def export_nir(
    layers: Sequence[IntegerLayer],
    input_node: InputNode,
    path: Path,
    *,
    num_steps: int,
    method: str,
    lossy: Sequence[Mapping[str, Any]] = (),
    source_sha256: str = "",
) -> nir.NIRGraph:
    """Write `path` and return the graph as read back from it.

    Every weight, bias and threshold is exactly integer * scale in float64, scale a power of two.
    raises: LavatubeError if what was read back is not what was meant; UnsupportedError for a stored current.
    """
    nodes: dict[str, nir.NIRNode] = {"input": nir.Input(np.array(input_node.shape))}
    edges: list[tuple[str, str]] = []
    rows: dict[str, dict[str, Any]] = {}
    for layer in layers:
        target = "output" if layer.neuron is None else layer.node_name
        carrier = next(synapse for synapse in layer.synapses if synapse.kind != "scale")  # of the population's bias
        for synapse in layer.synapses:
            source = "input" if synapse.source == "input" else population_name(synapse.source)
            shape = synapse.in_shape
            if synapse.pool is not None:
                source, shape = add_sums(nodes, edges, source, synapse.pool), synapse.pool.out_shape(shape)
            if synapse.kind == "dense" and len(shape) > 1:
                source = add_flatten(nodes, edges, source, shape)
            name = synapse.node_name
            nodes[name], rows[name] = _synapse(synapse, layer, layer.bias if synapse is carrier else layer.bias * 0)
            edges += [(source, name), (name, target)]
        if layer.neuron is not None:
            nodes[target], rows[target] = _neuron(layer)
    nodes["output"] = nir.Output(np.array(layers[-1].out_shape))
    return write_quantized(
        nodes, edges, rows, input_node, path,
        num_steps=num_steps, method=method, lossy=lossy, source_sha256=source_sha256,
    )  # fmt: skip


def add_flatten(nodes: dict[str, nir.NIRNode], edges: list[tuple[str, str]], source: str, shape: Shape) -> str:
    """Name of the Flatten behind a node, put there if there is none yet."""
    name = f"{source}_flatten"
    if name not in nodes:
        nodes[name] = flatten(shape)
        edges.append((source, name))
    return name


def add_sums(nodes: dict[str, nir.NIRNode], edges: list[tuple[str, str]], source: str, pool: Pool) -> str:
    """Name of the SumPool2d behind a node, put there if there is none yet."""
    name = f"{source}_sum{pool.kernel}" + (f"_{pool.stride}" if pool.stride != pool.kernel else "")
    if name not in nodes:
        kernel, stride, padding = (np.array([size, size]) for size in (pool.kernel, pool.stride, 0))
        nodes[name] = nir.SumPool2d(kernel_size=kernel, stride=stride, padding=padding)
        edges.append((source, name))
    return name


def write_quantized(
    nodes: Mapping[str, nir.NIRNode],
    edges: Sequence[tuple[str, str]],
    rows: Mapping[str, Mapping[str, Any]],
    input_node: InputNode,
    path: Path,
    *,
    num_steps: int,
    method: str,
    lossy: Sequence[Mapping[str, Any]],
    source_sha256: str,
) -> nir.NIRGraph:
    """Write nodes in order of execution with their integers in the metadata, and return what was read back.

    rows: {node: its quantization}, as `nir_rows` has them.
    """
    names = portable_names(list(nodes), edges)
    spelled = {names[name]: node for name, node in nodes.items()}
    for name, row in rows.items():
        nodes[name].metadata = {METADATA_KEY: json.dumps(row, sort_keys=True), **known_keys(row)}
    description = {
        "version": METADATA_VERSION,
        "lavatube": __version__,
        "method": method,
        "num_steps": num_steps,
        "contract": LOIHI.to_json(),
        "input": {"shape": list(input_node.shape), "message_bits": input_node.message_bits},
        "readout": READOUT,
        "order": list(nodes),
        "names": names,
        "nodes": dict(rows),
        "lossy": [dict(record) for record in lossy],
        "floats_sha256": digest_of_floats(spelled),
        "source_sha256": source_sha256,
    }
    metadata = {METADATA_KEY: json.dumps(description, sort_keys=True)}
    return write_checked(spelled, [(names[a], names[b]) for a, b in edges], metadata, path)


def write_checked(
    nodes: Mapping[str, nir.NIRNode], edges: Sequence[tuple[str, str]], metadata: Mapping[str, Any], path: Path
) -> nir.NIRGraph:
    """Write a graph and return it as read back. raises: LavatubeError if that is not what was meant."""
    graph = nir.NIRGraph(nodes=dict(nodes), edges=list(edges), metadata=dict(metadata), type_check=False)
    with whole_file(path) as temporary:
        nir.write(str(temporary), graph)
        back = nir.read(str(temporary))
        same = digest_of_floats(back.nodes) == digest_of_floats(nodes)
        if not same or set(back.nodes) != set(nodes) or set(back.edges) != set(edges):
            raise LavatubeError("the NIR file does not read back as it was written", where=str(path))
    return back


def digest_of_floats(nodes: Mapping[str, nir.NIRNode]) -> str:
    """SHA-256 over the float arrays of the nodes; a changed float makes the integers in the metadata void."""
    arrays = {
        f"{name}.{field}": np.asarray(getattr(node, field), np.float64)
        for name, node in nodes.items()
        for field in FLOAT_FIELDS
        if getattr(node, field, None) is not None
    }
    return sha256_of_arrays(arrays)


def _synapse(synapse: IntegerSynapse, layer: IntegerLayer, integers: np.ndarray) -> tuple[nir.NIRNode, dict[str, Any]]:
    """integers: [O] int64, bias in steps of the layer's `bias_scale`."""
    weight = synapse.weight.astype(np.float64) * synapse.scale
    shape = synapse.in_shape if synapse.pool is None else synapse.pool.out_shape(synapse.in_shape)
    bias = integers.astype(np.float64) * layer.bias_scale
    row = {
        "scale": synapse.scale,
        "bits": synapse.num_weight_bits,
        "signed": True,
        "zero_point": 0,
        "axis": None,
        "rounding": "half to even",
        "headroom": synapse.headroom,
        "bias_scale": layer.bias_scale,
        "stands_for": None,
    }
    if synapse.kind == "dense":
        return nir.Affine(weight=weight, bias=bias), row
    if synapse.kind == "scale":
        return per_channel(weight.reshape(-1), shape), {**row, "stands_for": "scale"}
    return conv2d(shape, weight, bias, synapse.stride, synapse.padding, where=synapse.name), row


def _neuron(layer: IntegerLayer) -> tuple[nir.NIRNode, dict[str, Any]]:
    neuron = layer.neuron
    assert neuron is not None
    if neuron.du != DECAY_MAX:
        what, expected = "only neurons without a stored current are exported", f"du = {DECAY_MAX}"
        raise UnsupportedError(what, where=layer.name, expected=expected, got=f"du = {neuron.du}")
    node = cuba_lif(layer.out_shape, neuron.du, neuron.dv, neuron.vth * layer.activation_scale)
    row = {
        "du": neuron.du,
        "dv": neuron.dv,
        "vth": neuron.vth,
        "bias_exp": neuron.bias_exp,
        "scale": layer.activation_scale,
        **special(neuron),
    }
    return node, row
