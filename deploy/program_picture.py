"""A program as a picture, and how much memory its integers take."""

from __future__ import annotations

from typing import Any

from lavatube.deploy.draw_graph import Picture
from lavatube.program import InputNode, LoihiProgram, NeuronNode, Node, SparseNode, Synapse

STATE_BYTES = 8  # of a neuron in our engines: u and v in int32; the chip holds 24 bits each


def program_picture(program: LoihiProgram, title: str) -> Picture:
    """Edges of recurrent and delayed synapses are late ones."""
    late = {(program.source_of(node).name, node.name) for node in program.synapses if program.lag(node)}
    nodes = {node.name: _text(node) for node in program.nodes}
    return Picture(title, nodes, [(a, b, (a, b) in late) for a, b in program.edges])


def program_memory(program: LoihiProgram) -> dict[str, Any]:
    """neurons, weights (stored ones), KiB of weights at their width, KiB of state."""
    bits = sum(
        node.weight.size * (node.num_weight_bits + (32 if isinstance(node, SparseNode) else 0))
        for node in program.synapses
    )
    neurons = sum(node.bias_mant.size for node in program.neurons)
    return {
        "neurons": neurons,
        "weights": sum(node.weight.size for node in program.synapses),
        "weights_kib": round(bits / 8 / 1024, 1),
        "state_kib_per_sample": round(neurons * STATE_BYTES / 1024, 1),
    }


def _text(node: Node) -> tuple[str, list[str]]:
    if isinstance(node, InputNode):
        return "end", [f"input {_size(node.shape)}", f"0..{node.max_value}"]
    if isinstance(node, Synapse):
        what = f"{node.weight.size} weights of {node.num_weight_bits} bits"
        return "synapse", [f"{node.kind} {_size(node.in_shape)} to {_size(node.out_shape)}", what] + (
            [f"{node.delay} timesteps delay"] if node.delay else []
        )
    if isinstance(node, NeuronNode):
        return "neurons", [
            f"neurons {_size(node.shape)}", f"du {node.du}, dv {node.dv}, vth {node.vth}", *sorted(node.needs())
        ]  # fmt: skip
    return "end", [f"read-out {_size(node.shape)}", f"of {node.reads}"]


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
