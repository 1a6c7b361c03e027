"""Quantized network -> model.nir: plain NIR that others read, with the integers recoverable from its metadata.

NIR carries no unit of time; ours is the second (`ExecutionContract.dt`). A plain LIF is spelled CubaLIF with
tau_syn = dt, w_in = 1, r = tau_mem / dt, the one spelling that Norse, snnTorch and SpikingJelly read alike.
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
from lavatube.errors import LavatubeError, UnsupportedError
from lavatube.files import sha256_of_arrays, whole_file
from lavatube.fixed_point import DECAY_MAX, DECAY_ONE
from lavatube.integer_layer import IntegerLayer, IntegerSynapse, population_name
from lavatube.program import InputNode

METADATA_KEY = "lavatube"
METADATA_VERSION = 2
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
            if synapse.kind == "dense" and len(synapse.in_shape) > 1:
                flatten = f"{synapse.name}_flatten"
                shape = {"input": np.array(synapse.in_shape)}
                nodes[flatten] = nir.Flatten(input_type=shape, start_dim=0, end_dim=-1)
                edges.append((source, flatten))
                source = flatten
            name = synapse.node_name
            nodes[name], rows[name] = _synapse(synapse, layer, layer.bias if synapse is carrier else layer.bias * 0)
            edges += [(source, name), (name, target)]
        if layer.neuron is not None:
            nodes[target], rows[target] = _neuron(layer)
    nodes["output"] = nir.Output(np.array(layers[-1].out_shape))
    for name, row in rows.items():
        nodes[name].metadata = {METADATA_KEY: json.dumps(row, sort_keys=True), **_known_keys(row)}
    names = list(nodes)
    description = {
        "version": METADATA_VERSION,
        "lavatube": __version__,
        "method": method,
        "num_steps": num_steps,
        "contract": LOIHI.to_json(),
        "input": {"shape": list(input_node.shape), "message_bits": input_node.message_bits},
        "readout": READOUT,
        "order": names,
        "nodes": rows,
        "lossy": [dict(record) for record in lossy],
        "floats_sha256": digest_of_floats(nodes),
        "source_sha256": source_sha256,
    }
    graph = nir.NIRGraph(
        nodes=nodes,
        edges=edges,
        metadata={METADATA_KEY: json.dumps(description, sort_keys=True)},
    )
    with whole_file(path) as temporary:
        nir.write(str(temporary), graph)
        back = nir.read(str(temporary))
        if digest_of_floats(back.nodes) != description["floats_sha256"] or set(back.nodes) != set(names):
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
    }
    if synapse.kind == "dense":
        return nir.Affine(weight=weight, bias=bias), row
    if synapse.kind == "scale":
        per_channel = weight.reshape(-1, *(1,) * (len(synapse.in_shape) - 1))
        return nir.Scale(scale=np.broadcast_to(per_channel, synapse.in_shape).copy()), row
    node = nir.Conv2d(
        input_shape=(synapse.in_shape[1], synapse.in_shape[2]),
        weight=weight,
        stride=synapse.stride,
        padding=synapse.padding,
        dilation=1,
        groups=1,
        bias=bias,
    )
    return node, row


def _neuron(layer: IntegerLayer) -> tuple[nir.NIRNode, dict[str, Any]]:
    neuron = layer.neuron
    assert neuron is not None
    if neuron.du != DECAY_MAX or neuron.dv == 0:
        raise UnsupportedError(
            "only leaky neurons without a stored current are exported",
            where=layer.name,
            expected=f"du = {DECAY_MAX}, dv > 0",
            got=f"du = {neuron.du}, dv = {neuron.dv}",
        )
    dt = LOIHI.dt
    tau_mem = dt * DECAY_ONE / neuron.dv
    full = np.ones(layer.out_shape)
    node = nir.CubaLIF(
        tau_syn=full * dt,
        tau_mem=full * tau_mem,
        r=full * (tau_mem / dt),
        v_leak=full * 0,
        v_threshold=full * (neuron.vth * layer.activation_scale),
        v_reset=full * 0,
        w_in=full.copy(),
    )
    row = {
        "du": neuron.du,
        "dv": neuron.dv,
        "vth": neuron.vth,
        "bias_exp": neuron.bias_exp,
        "scale": layer.activation_scale,
    }
    return node, row


def _known_keys(row: Mapping[str, Any]) -> dict[str, Any]:
    """The key names of the published Brevitas-to-NIR example, for its readers."""
    if "zero_point" not in row:
        return {}
    return {
        "quant_weight": True,
        "quant_weight_scale": row["scale"],
        "quant_weight_zero_point": 0,
        "quant_weight_bit_width": row["bits"],
    }
