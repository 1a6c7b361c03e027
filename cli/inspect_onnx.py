"""What `lavatube inspect` says of an .onnx file: a timestep of ours, or an ANN and what of it is refused."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any


def summarize_onnx(file: Path) -> dict[str, Any]:
    """raises: LavatubeError for a damaged file."""
    from lavatube.convert.safe_onnx import load_onnx
    from lavatube.deploy.onnx_file.description import described

    model = load_onnx(file)
    summary: dict[str, Any] = {
        "onnx": str(file),
        "made by": f"{model.producer_name or 'unknown'} {model.producer_version}".strip(),
        "opset": ", ".join(f"{row.domain or 'ai.onnx'} {row.version}" for row in model.opset_import),
    }
    description = described(model, where=str(file))
    if description is not None:
        return {**summary, **_step(model, description)}
    return {**summary, **_network(model, file)}


def _step(model: Any, said: Any) -> dict[str, Any]:
    return {
        "is": "one timestep of a spiking network: lavatube run FILE --backend onnx",
        "program": said.program_sha256,
        "steps": said.num_steps,
        "input": f"{said.input.name} {list(said.input.shape)}, {said.input.message_bits} bits",
        "states": {row.name: f"{list(row.shape)}" for row in said.states},
        "spikes": {row.layer: f"{list(row.shape)}, {row.event_range[0]}..{row.event_range[1]}" for row in said.spikes},
        "readout": f"{said.readout.name}, reads {said.readout.reads}; {said.readout.prediction}",
        "weights": {row.name: f"{row.num_weight_bits} bits, exponent {row.weight_exp}" for row in said.weights},
        "operators": dict(Counter(node.op_type for node in model.graph.node)),
    }


def _network(model: Any, file: Path) -> dict[str, Any]:
    from lavatube.convert.from_onnx import KNOWN, read_onnx
    from lavatube.errors import LavatubeError

    refused = [
        f"{node.name or node.output[0] if node.output else node.name} ({node.op_type}): no layer stands for it"
        for node in model.graph.node
        if node.op_type not in KNOWN
    ]
    summary: dict[str, Any] = {
        "operators": dict(Counter(node.op_type for node in model.graph.node)),
        "memory": {"float32_mib": round(sum(4 * math.prod(t.dims) for t in model.graph.initializer) / 2**20, 3)},
        "tensors": {tensor.name: f"{list(tensor.dims)}" for tensor in model.graph.initializer},
    }
    if not refused:
        try:
            network = read_onnx(file)
            sizes = {name: sum(p.numel() for p in layer.parameters()) for name, layer in network.named_children()}
            summary["input"] = f"[batch, {', '.join(map(str, network.meta['input_shape']))}]"
            summary["layers"] = {
                name: f"{layer}, output {list(network.meta['shapes'][name])}, parameters {sizes[name]}"
                for name, layer in network.named_children()
            }
            summary["parameters"] = sum(sizes.values())
        except LavatubeError as error:
            refused = [str(error)]
    summary["refused"] = refused
    return summary


def onnx_picture(file: Path) -> Any:
    """Operators and the tensors between them; weights are no nodes of their own."""
    from lavatube.convert.safe_onnx import load_onnx
    from lavatube.deploy.draw_graph import Picture

    graph = load_onnx(file).graph
    nodes: dict[str, tuple[str, list[str]]] = {}
    made: dict[str, str] = {}
    weights = {tensor.name: f"{'x'.join(map(str, tensor.dims)) or 'one'} weights" for tensor in graph.initializer}
    for row in graph.input:
        if row.name not in weights:
            nodes[row.name], made[row.name] = ("end", ["input"]), row.name
    edges: list[tuple[str, str, bool]] = []
    for number, node in enumerate(graph.node):
        name = f"{number} {node.name or node.op_type}"
        nodes[name] = ("synapse" if any(each in weights for each in node.input) else "other",
                       [node.op_type, *(weights[each] for each in node.input if each in weights)])  # fmt: skip
        edges += [(made[each], name, False) for each in dict.fromkeys(node.input) if each in made]
        made.update(dict.fromkeys(node.output, name))
    for row in graph.output:
        end = row.name if row.name not in nodes else f"{row.name} (output)"
        nodes[end] = ("end", ["output"])
        edges += [(made[row.name], end, False)] if row.name in made else []
    return Picture(file.name, nodes, list(dict.fromkeys(edges)))
